#include <torch/library.h>

#include "ops/arguments.h"
#include "ops/cpu/convolution.h"
#include "ops/reference.h"

namespace zoo::ops::cpu {
namespace {

using at::IntArrayRef;
using at::Tensor;
using OptionalTensor = std::optional<Tensor>;

Tensor conv2d_pool(const Tensor& input, const Tensor& weight, const OptionalTensor& bias,
                   IntArrayRef stride, IntArrayRef padding, IntArrayRef dilation, int64_t groups,
                   std::string_view activation, std::string_view pool, IntArrayRef pool_kernel,
                   IntArrayRef pool_stride, IntArrayRef pool_padding) {
  const char* op = "conv2d_pool";
  const Conv2dArgs args{stride, padding, dilation, groups, activation};
  const PoolArgs pool_args{pool, pool_kernel, pool_stride, pool_padding};
  Conv2dParams params = conv2d_params(op, input, weight.sizes(), bias, args);
  add_pool(params, op, pool_args);
  check_weight(op, input, weight);
  if (auto output = convolve(op, params, input, &weight, nullptr, bias, std::nullopt)) {
    return *output;
  }
  return reference::with_format(reference::conv2d_pool(input, weight, bias, args, pool_args),
                                output_format(input, weight));
}

Tensor conv2d_pool_packed(const Tensor& input, const Tensor& packed_weight, IntArrayRef weight_size,
                          const OptionalTensor& bias, IntArrayRef stride, IntArrayRef padding,
                          IntArrayRef dilation, int64_t groups, std::string_view activation,
                          std::string_view pool, IntArrayRef pool_kernel, IntArrayRef pool_stride,
                          IntArrayRef pool_padding) {
  const char* op = "conv2d_pool_packed";
  const Conv2dArgs args{stride, padding, dilation, groups, activation};
  const PoolArgs pool_args{pool, pool_kernel, pool_stride, pool_padding};
  check_packed_size(op, packed_weight, weight_size, groups);
  Conv2dParams params = conv2d_params(op, input, weight_size, bias, args);
  add_pool(params, op, pool_args);
  check_weight(op, input, packed_weight);
  if (auto output = convolve(op, params, input, nullptr, &packed_weight, bias, std::nullopt)) {
    return *output;
  }
  const Tensor weight = reference::unpack(packed_weight, weight_size, groups);
  return reference::with_format(reference::conv2d_pool(input, weight, bias, args, pool_args),
                                output_format(input));
}

}  // namespace

// For every device: what the CPU's kernels do not take, the aten reference computes.
TORCH_LIBRARY_IMPL(zoo, CompositeExplicitAutograd, m) {
  m.impl("conv2d_pool", conv2d_pool);
  m.impl("conv2d_pool_packed", conv2d_pool_packed);
}

}  // namespace zoo::ops::cpu
