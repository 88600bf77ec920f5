#include <torch/library.h>

#include "ops/arguments.h"
#include "ops/cuda/convolution.h"
#include "ops/reference.h"

namespace zoo::ops::cuda {
namespace {

using at::IntArrayRef;
using at::Tensor;
using OptionalTensor = std::optional<Tensor>;

Tensor conv2d_pool(const Tensor& input, const Tensor& weight, const OptionalTensor& bias,
                   IntArrayRef stride, IntArrayRef padding, IntArrayRef dilation, int64_t groups,
                   std::string_view activation, std::string_view pool, IntArrayRef pool_kernel,
                   IntArrayRef pool_stride, IntArrayRef pool_padding, std::string_view precision) {
  const char* op = "conv2d_pool";
  const Conv2dArgs args{stride, padding, dilation, groups, activation, precision};
  const PoolArgs pool_args{pool, pool_kernel, pool_stride, pool_padding};
  Conv2dParams params = conv2d_params(op, input, weight.sizes(), bias, args);
  add_pool(params, op, pool_args);
  check_weight(op, input, weight);
  if (auto output =
          convolve(op, params, parse_exact(precision), input, weight, bias, std::nullopt)) {
    return *output;
  }
  return reference::with_format(reference::conv2d_pool(input, weight, bias, args, pool_args),
                                output_format(input, weight));
}

}  // namespace

TORCH_LIBRARY_IMPL(zoo, CUDA, m) { m.impl("conv2d_pool", conv2d_pool); }

}  // namespace zoo::ops::cuda
