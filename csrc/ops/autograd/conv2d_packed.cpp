#include <c10/util/Exception.h>
#include <torch/library.h>

#include "ops/autograd/differentiation.h"
#include "ops/handles.h"

// The packed ops are for inference: a packed weight is not a parameter. They refuse to cut a graph
// silently.
namespace zoo::ops::autograd {
namespace {

using at::Tensor;
using c10::SymInt;
using c10::SymIntArrayRef;

template <typename... Tensors>
void check_inference(const char* op, const char* instead, const Tensors&... tensors) {
  TORCH_CHECK(!needs_backward(tensors...) && !(has_tangent(tensors) || ...), "zoo::", op,
              " is for inference only, but an input requires grad; use ", instead,
              ", or call it under torch.no_grad()");
}

Tensor conv2d_prepack(const Tensor& weight, SymInt groups, SymIntArrayRef stride,
                      SymIntArrayRef padding, SymIntArrayRef dilation,
                      c10::OptionalArrayRef<SymInt> input_size, std::string_view precision) {
  static const auto op = handle<Conv2dPrepack>("zoo::conv2d_prepack");
  check_inference("conv2d_prepack", "zoo.ops.conv2d with the plain weight", weight);
  at::AutoDispatchBelowADInplaceOrView below;
  return op.call(weight, groups, stride, padding, dilation, input_size, precision);
}

Tensor conv2d_packed(const Tensor& input, const Tensor& packed_weight, SymIntArrayRef weight_size,
                     const OptionalTensor& bias, SymIntArrayRef stride, SymIntArrayRef padding,
                     SymIntArrayRef dilation, SymInt groups, std::string_view activation,
                     const OptionalTensor& residual, std::string_view precision) {
  static const auto op = handle<Conv2dPacked>("zoo::conv2d_packed");
  check_inference("conv2d_packed", "zoo.ops.conv2d", input, packed_weight, bias, residual);
  at::AutoDispatchBelowADInplaceOrView below;
  return op.call(input, packed_weight, weight_size, bias, stride, padding, dilation, groups,
                 activation, residual, precision);
}

Tensor conv2d_pool_packed(const Tensor& input, const Tensor& packed_weight,
                          SymIntArrayRef weight_size, const OptionalTensor& bias,
                          SymIntArrayRef stride, SymIntArrayRef padding, SymIntArrayRef dilation,
                          SymInt groups, std::string_view activation, std::string_view pool,
                          SymIntArrayRef pool_kernel, SymIntArrayRef pool_stride,
                          SymIntArrayRef pool_padding, std::string_view precision) {
  static const auto op = handle<Conv2dPoolPacked>("zoo::conv2d_pool_packed");
  check_inference("conv2d_pool_packed", "zoo.ops.conv2d_pool", input, packed_weight, bias);
  at::AutoDispatchBelowADInplaceOrView below;
  return op.call(input, packed_weight, weight_size, bias, stride, padding, dilation, groups,
                 activation, pool, pool_kernel, pool_stride, pool_padding, precision);
}

}  // namespace

TORCH_LIBRARY_IMPL(zoo, Autograd, m) {
  m.impl("conv2d_prepack", conv2d_prepack);
  m.impl("conv2d_packed", conv2d_packed);
  m.impl("conv2d_pool_packed", conv2d_pool_packed);
}

}  // namespace zoo::ops::autograd
