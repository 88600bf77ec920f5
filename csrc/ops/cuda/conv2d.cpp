#include <torch/library.h>

#include "ops/arguments.h"
#include "ops/cuda/convolution.h"
#include "ops/reference.h"

namespace zoo::ops::cuda {
namespace {

using at::IntArrayRef;
using at::Tensor;
using OptionalTensor = std::optional<Tensor>;

Tensor conv2d(const Tensor& input, const Tensor& weight, const OptionalTensor& bias,
              IntArrayRef stride, IntArrayRef padding, IntArrayRef dilation, int64_t groups,
              std::string_view activation, const OptionalTensor& residual,
              std::string_view precision) {
  const char* op = "conv2d";
  const Conv2dArgs args{stride, padding, dilation, groups, activation, precision};
  const Conv2dParams params = conv2d_params(op, input, weight.sizes(), bias, args, residual);
  check_weight(op, input, weight);
  if (auto output = convolve(op, params, parse_exact(precision), input, weight, bias, residual)) {
    return *output;
  }
  return reference::with_format(reference::conv2d(input, weight, bias, args, residual),
                                output_format(input, weight));
}

}  // namespace

TORCH_LIBRARY_IMPL(zoo, CUDA, m) { m.impl("conv2d", conv2d); }

}  // namespace zoo::ops::cuda
