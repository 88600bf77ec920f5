#include <ATen/ops/adaptive_avg_pool2d.h>
#include <torch/library.h>

#include "ops/arguments.h"
#include "ops/cuda/pooling.h"
#include "ops/reference.h"

namespace zoo::ops::cuda {
namespace {

using at::IntArrayRef;
using at::Tensor;

Tensor adaptive_avg_pool2d(const Tensor& input, IntArrayRef output_size) {
  const char* op = "adaptive_avg_pool2d";
  const Pool2dParams params = adaptive_pool2d_params(op, input, output_size);
  if (auto output = pool(op, Pool::avg, params, input)) return *output;
  return reference::with_format(at::adaptive_avg_pool2d(input, {params.out_h, params.out_w}),
                                output_format(input));
}

}  // namespace

TORCH_LIBRARY_IMPL(zoo, CUDA, m) { m.impl("adaptive_avg_pool2d", adaptive_avg_pool2d); }

}  // namespace zoo::ops::cuda
