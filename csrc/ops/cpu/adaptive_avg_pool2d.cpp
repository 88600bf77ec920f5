#include <ATen/ops/adaptive_avg_pool2d.h>
#include <torch/library.h>

#include "ops/arguments.h"
#include "ops/cpu/pooling.h"
#include "ops/parallel.h"
#include "ops/reference.h"

namespace zoo::ops::cpu {
namespace {

using at::IntArrayRef;
using at::Tensor;

Tensor adaptive_avg_pool2d(const Tensor& input, IntArrayRef output_size) {
  const char* op = "adaptive_avg_pool2d";
  Pool2dParams params = adaptive_pool2d_params(op, input, output_size);
  if (!takes_pool(op, input)) {
    const OneThreadInChild alone;
    return reference::with_format(at::adaptive_avg_pool2d(input, {params.out_h, params.out_w}),
                                  output_format(input));
  }
  return average(params, input);
}

}  // namespace

// For every device: what the CPU's kernels do not take, aten computes.
TORCH_LIBRARY_IMPL(zoo, CompositeExplicitAutograd, m) {
  m.impl("adaptive_avg_pool2d", adaptive_avg_pool2d);
}

}  // namespace zoo::ops::cpu
