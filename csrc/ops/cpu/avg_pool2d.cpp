#include <ATen/ops/avg_pool2d.h>
#include <torch/library.h>

#include "ops/arguments.h"
#include "ops/cpu/pooling.h"
#include "ops/parallel.h"
#include "ops/reference.h"

namespace zoo::ops::cpu {
namespace {

using at::IntArrayRef;
using at::Tensor;

Tensor avg_pool2d(const Tensor& input, IntArrayRef kernel_size, IntArrayRef stride,
                  IntArrayRef padding, bool ceil_mode, bool count_include_pad,
                  std::optional<int64_t> divisor_override) {
  const char* op = "avg_pool2d";
  Pool2dParams params = pool2d_params(op, input, kernel_size, stride, padding, {1}, ceil_mode);
  TORCH_CHECK(divisor_override.value_or(1) != 0, "zoo::", op, ": divisor_override must not be 0");
  params.count_include_pad = count_include_pad;
  params.divisor_override = divisor_override.value_or(0);
  if (!takes_pool(op, input)) {
    const OneThreadInChild alone;
    return reference::with_format(at::avg_pool2d(input, kernel_size, stride, padding, ceil_mode,
                                                 count_include_pad, divisor_override),
                                  output_format(input));
  }
  return average(params, input);
}

}  // namespace

// For every device: what the CPU's kernels do not take, aten computes.
TORCH_LIBRARY_IMPL(zoo, CompositeExplicitAutograd, m) { m.impl("avg_pool2d", avg_pool2d); }

}  // namespace zoo::ops::cpu
