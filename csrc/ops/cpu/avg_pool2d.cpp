#include <ATen/ops/avg_pool2d.h>
#include <torch/library.h>

#include "kernels/dispatch.h"
#include "ops/arguments.h"
#include "ops/cpu/pooling.h"
#include "ops/reference.h"

namespace zoo::ops::cpu {
namespace {

using at::IntArrayRef;
using at::Tensor;

template <typename T>
void run(const Pool2dParams& params, const Tensor& input, Tensor& output) {
  active_kernels<T>().pool.avg_pool2d(params, input.const_data_ptr<T>(),
                                      output.mutable_data_ptr<T>(), threads_for(params));
}

Tensor avg_pool2d(const Tensor& input, IntArrayRef kernel_size, IntArrayRef stride,
                  IntArrayRef padding, bool ceil_mode, bool count_include_pad,
                  std::optional<int64_t> divisor_override) {
  const char* op = "avg_pool2d";
  Pool2dParams params = pool2d_params(op, input, kernel_size, stride, padding, {1}, ceil_mode);
  TORCH_CHECK(divisor_override.value_or(1) != 0, "zoo::", op, ": divisor_override must not be 0");
  params.count_include_pad = count_include_pad;
  params.divisor_override = divisor_override.value_or(0);
  if (!takes_pool(op, input)) {
    return reference::with_format(at::avg_pool2d(input, kernel_size, stride, padding, ceil_mode,
                                                 count_include_pad, divisor_override),
                                  output_format(input));
  }
  Tensor output = allocate(params, input);
  if (output.numel() == 0) return output;
  if (dtype_of(input) == DType::float32) {
    run<float>(params, input, output);
  } else {
    run<double>(params, input, output);
  }
  return output;
}

}  // namespace

// For every device: what the CPU's kernels do not take, aten computes.
TORCH_LIBRARY_IMPL(zoo, CompositeExplicitAutograd, m) { m.impl("avg_pool2d", avg_pool2d); }

}  // namespace zoo::ops::cpu
