#include <torch/library.h>

#include "ops/arguments.h"
#include "ops/autograd/differentiation.h"
#include "ops/handles.h"

namespace zoo::ops::autograd {
namespace {

using at::Tensor;
using c10::SymInt;
using c10::SymIntArrayRef;

// The backward needs the full-size map that the fused kernel never writes; so with gradients the
// op is the convolution followed by the pool, each differentiable.
Tensor conv2d_pool(const Tensor& input, const Tensor& weight, const OptionalTensor& bias,
                   SymIntArrayRef stride, SymIntArrayRef padding, SymIntArrayRef dilation,
                   SymInt groups, std::string_view activation, std::string_view pool,
                   SymIntArrayRef pool_kernel, SymIntArrayRef pool_stride,
                   SymIntArrayRef pool_padding, std::string_view precision) {
  static const auto fused = handle<Conv2dPool>("zoo::conv2d_pool");
  static const auto conv = handle<Conv2d>("zoo::conv2d");
  static const auto max_pool = handle<MaxPool2d>("zoo::max_pool2d");
  static const auto avg_pool = handle<AvgPool2d>("zoo::avg_pool2d");
  if (!needs_backward(input, weight, bias) && !needs_composition(input, weight, bias)) {
    at::AutoDispatchBelowADInplaceOrView below;
    return fused.call(input, weight, bias, stride, padding, dilation, groups, activation, pool,
                      pool_kernel, pool_stride, pool_padding, precision);
  }
  const Tensor map = conv.call(input, weight, bias, stride, padding, dilation, groups, activation,
                               /*residual=*/std::nullopt, precision);
  if (parse_pool(pool) == Pool::avg) {
    return avg_pool.call(map, pool_kernel, pool_stride, pool_padding, /*ceil_mode=*/false,
                         /*count_include_pad=*/true, /*divisor_override=*/std::nullopt);
  }
  const std::array<SymInt, 2> no_dilation{1, 1};
  return max_pool.call(map, pool_kernel, pool_stride, pool_padding, no_dilation,
                       /*ceil_mode=*/false);
}

}  // namespace

TORCH_LIBRARY_IMPL(zoo, Autograd, m) { m.impl("conv2d_pool", conv2d_pool); }

}  // namespace zoo::ops::autograd
