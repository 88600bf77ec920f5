#include <ATen/ops/empty_like.h>
#include <ATen/ops/max_pool2d_with_indices.h>
#include <torch/library.h>

#include "kernels/dispatch.h"
#include "ops/arguments.h"
#include "ops/cpu/pooling.h"
#include "ops/parallel.h"
#include "ops/reference.h"

namespace zoo::ops::cpu {
namespace {

using at::IntArrayRef;
using at::Tensor;

template <typename T>
void run(const Pool2dParams& params, const Tensor& input, Tensor& output, Tensor* indices) {
  active_kernels<T>().pool.max_pool2d(
      params, input.const_data_ptr<T>(), output.mutable_data_ptr<T>(),
      indices ? indices->mutable_data_ptr<int64_t>() : nullptr, threads_for(params));
}

// The pooled map, and the indices where they are asked for.
std::tuple<Tensor, Tensor> pool(bool with_indices, const Tensor& input, IntArrayRef kernel_size,
                                IntArrayRef stride, IntArrayRef padding, IntArrayRef dilation,
                                bool ceil_mode) {
  const char* op = "max_pool2d";  // the one that people call, with indices or without
  Pool2dParams params = pool2d_params(op, input, kernel_size, stride, padding, dilation, ceil_mode);
  if (!takes_pool(op, input)) {
    const OneThreadInChild alone;
    const auto [output, indices] =
        at::max_pool2d_with_indices(input, kernel_size, stride, padding, dilation, ceil_mode);
    const auto format = output_format(input);
    return {reference::with_format(output, format), reference::with_format(indices, format)};
  }
  Tensor output = allocate(params, input), indices;
  if (with_indices) indices = at::empty_like(output, output.options().dtype(at::kLong));
  if (output.numel() == 0) return {output, indices};
  if (dtype_of(input) == DType::float32) {
    run<float>(params, input, output, with_indices ? &indices : nullptr);
  } else {
    run<double>(params, input, output, with_indices ? &indices : nullptr);
  }
  return {output, indices};
}

Tensor max_pool2d(const Tensor& input, IntArrayRef kernel_size, IntArrayRef stride,
                  IntArrayRef padding, IntArrayRef dilation, bool ceil_mode) {
  return std::get<0>(pool(false, input, kernel_size, stride, padding, dilation, ceil_mode));
}

std::tuple<Tensor, Tensor> max_pool2d_with_indices(const Tensor& input, IntArrayRef kernel_size,
                                                   IntArrayRef stride, IntArrayRef padding,
                                                   IntArrayRef dilation, bool ceil_mode) {
  return pool(true, input, kernel_size, stride, padding, dilation, ceil_mode);
}

}  // namespace

// For every device: what the CPU's kernels do not take, aten computes.
TORCH_LIBRARY_IMPL(zoo, CompositeExplicitAutograd, m) {
  m.impl("max_pool2d", max_pool2d);
  m.impl("max_pool2d_with_indices", max_pool2d_with_indices);
}

}  // namespace zoo::ops::cpu
