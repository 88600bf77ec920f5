#include <ATen/autocast_mode.h>
#include <torch/library.h>

#include "ops/handles.h"

// Under autocast convolutions and linear layers take the dtype that the user asked for, as
// PyTorch's own do; the pools run in whatever dtype they are given.
namespace zoo::ops::autocast {
namespace {

using at::Tensor;
using c10::DeviceType;
using c10::SymInt;
using c10::SymIntArrayRef;

// Calls op with its tensors cast, below autocast.
template <DeviceType device, typename Signature, typename... Args>
Tensor call(const c10::TypedOperatorHandle<Signature>& op, Args&&... args) {
  c10::impl::ExcludeDispatchKeyGuard below(
      at::autocast::get_autocast_dispatch_key_from_device_type(device));
  const auto dtype = at::autocast::get_autocast_dtype(device);
  return op.call(at::autocast::cached_cast(dtype, std::forward<Args>(args), device)...);
}

template <DeviceType device>
Tensor conv2d(const Tensor& input, const Tensor& weight, const OptionalTensor& bias,
              SymIntArrayRef stride, SymIntArrayRef padding, SymIntArrayRef dilation, SymInt groups,
              std::string_view activation, const OptionalTensor& residual,
              std::string_view precision) {
  static const auto op = handle<Conv2d>("zoo::conv2d");
  return call<device>(op, input, weight, bias, stride, padding, dilation, groups, activation,
                      residual, precision);
}

template <DeviceType device>
Tensor conv2d_pool(const Tensor& input, const Tensor& weight, const OptionalTensor& bias,
                   SymIntArrayRef stride, SymIntArrayRef padding, SymIntArrayRef dilation,
                   SymInt groups, std::string_view activation, std::string_view pool,
                   SymIntArrayRef pool_kernel, SymIntArrayRef pool_stride,
                   SymIntArrayRef pool_padding, std::string_view precision) {
  static const auto op = handle<Conv2dPool>("zoo::conv2d_pool");
  return call<device>(op, input, weight, bias, stride, padding, dilation, groups, activation, pool,
                      pool_kernel, pool_stride, pool_padding, precision);
}

template <DeviceType device>
Tensor conv2d_packed(const Tensor& input, const Tensor& packed_weight, SymIntArrayRef weight_size,
                     const OptionalTensor& bias, SymIntArrayRef stride, SymIntArrayRef padding,
                     SymIntArrayRef dilation, SymInt groups, std::string_view activation,
                     const OptionalTensor& residual, std::string_view precision) {
  static const auto op = handle<Conv2dPacked>("zoo::conv2d_packed");
  return call<device>(op, input, packed_weight, weight_size, bias, stride, padding, dilation,
                      groups, activation, residual, precision);
}

template <DeviceType device>
Tensor conv2d_pool_packed(const Tensor& input, const Tensor& packed_weight,
                          SymIntArrayRef weight_size, const OptionalTensor& bias,
                          SymIntArrayRef stride, SymIntArrayRef padding, SymIntArrayRef dilation,
                          SymInt groups, std::string_view activation, std::string_view pool,
                          SymIntArrayRef pool_kernel, SymIntArrayRef pool_stride,
                          SymIntArrayRef pool_padding, std::string_view precision) {
  static const auto op = handle<Conv2dPoolPacked>("zoo::conv2d_pool_packed");
  return call<device>(op, input, packed_weight, weight_size, bias, stride, padding, dilation,
                      groups, activation, pool, pool_kernel, pool_stride, pool_padding, precision);
}

// But for the BatchNorm's own tensors, which stay float32 as in PyTorch's.
template <DeviceType device>
std::tuple<Tensor, Tensor, Tensor, Tensor> conv2d_batch_norm(
    const Tensor& input, const Tensor& weight, const OptionalTensor& bias, SymIntArrayRef stride,
    SymIntArrayRef padding, SymIntArrayRef dilation, SymInt groups, const OptionalTensor& bn_weight,
    const OptionalTensor& bn_bias, double eps, std::string_view activation,
    const OptionalTensor& residual, std::string_view precision) {
  static const auto op = handle<Conv2dBatchNorm>("zoo::conv2d_batch_norm");
  c10::impl::ExcludeDispatchKeyGuard below(
      at::autocast::get_autocast_dispatch_key_from_device_type(device));
  const auto cast = [](const auto& tensor) {
    return at::autocast::cached_cast(at::autocast::get_autocast_dtype(device), tensor, device);
  };
  return op.call(cast(input), cast(weight), cast(bias), stride, padding, dilation, groups,
                 bn_weight, bn_bias, eps, activation, cast(residual), precision);
}

// As a whole, and not only the convolution that it is: compilers ask the op for its result's dtype.
template <DeviceType device>
Tensor linear(const Tensor& input, const Tensor& weight, const OptionalTensor& bias,
              std::string_view activation, const OptionalTensor& residual) {
  using Linear = Tensor(const Tensor&, const Tensor&, const OptionalTensor&, std::string_view,
                        const OptionalTensor&);
  static const auto op = handle<Linear>("zoo::linear");
  return call<device>(op, input, weight, bias, activation, residual);
}

template <DeviceType device>
void register_all(torch::Library& m) {
  m.impl("conv2d", conv2d<device>);
  m.impl("conv2d_pool", conv2d_pool<device>);
  m.impl("conv2d_batch_norm", conv2d_batch_norm<device>);
  m.impl("conv2d_packed", conv2d_packed<device>);
  m.impl("conv2d_pool_packed", conv2d_pool_packed<device>);
  m.impl("linear", linear<device>);
}

}  // namespace

TORCH_LIBRARY_IMPL(zoo, AutocastCPU, m) { register_all<c10::kCPU>(m); }
TORCH_LIBRARY_IMPL(zoo, AutocastCUDA, m) { register_all<c10::kCUDA>(m); }

}  // namespace zoo::ops::autocast
