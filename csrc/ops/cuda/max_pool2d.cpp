#include <ATen/ops/max_pool2d_with_indices.h>
#include <torch/library.h>

#include "ops/arguments.h"
#include "ops/cuda/pooling.h"
#include "ops/fallback.h"
#include "ops/reference.h"

namespace zoo::ops::cuda {
namespace {

using at::IntArrayRef;
using at::Tensor;

std::tuple<Tensor, Tensor> reference_pool(const Tensor& input, IntArrayRef kernel_size,
                                          IntArrayRef stride, IntArrayRef padding,
                                          IntArrayRef dilation, bool ceil_mode) {
  const auto [output, indices] =
      at::max_pool2d_with_indices(input, kernel_size, stride, padding, dilation, ceil_mode);
  const auto format = output_format(input);
  return {reference::with_format(output, format), reference::with_format(indices, format)};
}

Tensor max_pool2d(const Tensor& input, IntArrayRef kernel_size, IntArrayRef stride,
                  IntArrayRef padding, IntArrayRef dilation, bool ceil_mode) {
  const char* op = "max_pool2d";
  const Pool2dParams params =
      pool2d_params(op, input, kernel_size, stride, padding, dilation, ceil_mode);
  if (auto output = pool(op, Pool::max, params, input)) return *output;
  return std::get<0>(reference_pool(input, kernel_size, stride, padding, dilation, ceil_mode));
}

std::tuple<Tensor, Tensor> max_pool2d_with_indices(const Tensor& input, IntArrayRef kernel_size,
                                                   IntArrayRef stride, IntArrayRef padding,
                                                   IntArrayRef dilation, bool ceil_mode) {
  const char* op = "max_pool2d";
  pool2d_params(op, input, kernel_size, stride, padding, dilation, ceil_mode);  // checks them
  declined(op, "no kernel for CUDA writes indices");
  return reference_pool(input, kernel_size, stride, padding, dilation, ceil_mode);
}

}  // namespace

TORCH_LIBRARY_IMPL(zoo, CUDA, m) {
  m.impl("max_pool2d", max_pool2d);
  m.impl("max_pool2d_with_indices", max_pool2d_with_indices);
}

}  // namespace zoo::ops::cuda
