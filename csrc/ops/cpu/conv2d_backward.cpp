#include <torch/library.h>

#include <array>
#include <tuple>

#include "ops/cpu/training.h"
#include "ops/handles.h"

namespace zoo::ops::cpu {
namespace {

using at::IntArrayRef;
using at::Tensor;

// The gradients of the input, weight, bias and residual, as far as wanted.
template <typename T>
std::array<Tensor, 4> backward(const Conv2dParams& p, bool exact, const Tensor& grad,
                               const OptionalTensor& output, const Tensor& input,
                               const Tensor& weight, std::array<bool, 4> wanted) {
  const auto& kernels = active_kernels<T>().training;
  const Parallel threads = training_threads(p);
  const bool activated = p.activation != Activation::none;
  // The residual's gradient is that of the whole map; otherwise a part of it at a time will do.
  const int64_t at_once =
      activated && !wanted[3] ? images_at_once(p, input, wanted[0]) : std::max<int64_t>(1, p.batch);
  const Tensor grad_rows = rows(grad), output_rows = activated ? rows(*output) : grad_rows;
  Tensor map;
  if (activated) {
    map = empty_rows(std::min(at_once, p.batch), p.out_channels, p.out_h, p.out_w, input);
  }
  ChannelSums sums(1, p.out_channels, threads);

  const int64_t image = p.out_channels * p.out_h * p.out_w;
  const auto make = [&](int64_t first, int64_t count) {
    const T* const from = grad_rows.const_data_ptr<T>() + first * image;
    if (!activated && !wanted[2]) return from;
    T* const to = activated ? map.mutable_data_ptr<T>() : nullptr;
    kernels.activation_backward({count * p.out_h * p.out_w, p.out_channels, p.activation}, from,
                                output_rows.const_data_ptr<T>() + first * image, to, sums.first(),
                                sums.data(), threads);
    return activated ? const_cast<const T*>(to) : from;
  };
  const auto [to_input, to_weight] =
      convolution_gradients<T>(p, exact, input, weight, {wanted[0], wanted[1]}, at_once, make);
  Tensor to_bias;
  if (wanted[2]) to_bias = sums.finish()[0].to(input.scalar_type());
  Tensor to_residual;
  if (wanted[3]) to_residual = activated ? map : grad.clone(at::MemoryFormat::ChannelsLast);
  return {to_input, to_weight, to_bias, to_residual};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> conv2d_backward(
    const Tensor& grad, const OptionalTensor& output, const Tensor& input, const Tensor& weight,
    IntArrayRef stride, IntArrayRef padding, IntArrayRef dilation, int64_t groups,
    std::string_view activation, std::string_view precision, std::array<bool, 4> output_mask) {
  const char* op = "conv2d_backward";
  const Conv2dArgs args{stride, padding, dilation, groups, activation, precision};
  const Conv2dParams p = conv2d_params(op, input, weight.sizes(), std::nullopt, args);
  check_weight(op, input, weight);
  check_training(op, input, weight, args);
  const std::array<int64_t, 4> map{p.batch, p.out_channels, p.out_h, p.out_w};
  check_map(op, "grad", grad, map, input);
  if (p.activation != Activation::none) {
    TORCH_CHECK(output, "zoo::", op, ": the activation's derivative needs output");
    check_map(op, "output", *output, map, input);
  }
  const bool exact = parse_exact(precision);
  auto [to_input, to_weight, to_bias, to_residual] =
      dtype_of(input) == DType::float32
          ? backward<float>(p, exact, grad, output, input, weight, output_mask)
          : backward<double>(p, exact, grad, output, input, weight, output_mask);
  return {to_input, to_weight, to_bias, to_residual};
}

}  // namespace

TORCH_LIBRARY_IMPL(zoo, CPU, m) { m.impl("conv2d_backward", conv2d_backward); }

}  // namespace zoo::ops::cpu
