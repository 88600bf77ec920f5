#include "ops/cpu/pooling.h"

#include <ATen/ops/empty.h>

#include "kernels/dispatch.h"
#include "ops/arguments.h"
#include "ops/cpu/convolution.h"
#include "ops/fallback.h"
#include "ops/parallel.h"

namespace zoo::ops::cpu {
namespace {

template <typename T>
void run_average(const Pool2dParams& params, const at::Tensor& input, at::Tensor& output) {
  active_kernels<T>().pool.avg_pool2d(params, input.const_data_ptr<T>(),
                                      output.mutable_data_ptr<T>(), threads_for(params));
}

}  // namespace

bool takes_pool(const char* op, const at::Tensor& input) {
  if (!input.device().is_cpu()) {
    declined(op, "no kernel for this device");
    return false;
  }
#if !defined(__x86_64__)
  declined(op, "no tuned kernel for this processor");
  return false;
#endif
  check_capability();
  if (dtype_of(input) == DType::other) {
    declined(op, "kernels take float32 and float64 only");
    return false;
  }
  return true;
}

at::Tensor average(Pool2dParams params, const at::Tensor& input) {
  at::Tensor output = allocate(params, input);
  if (output.numel() == 0) return output;
  if (dtype_of(input) == DType::float32) {
    run_average<float>(params, input, output);
  } else {
    run_average<double>(params, input, output);
  }
  return output;
}

at::Tensor allocate(Pool2dParams& params, const at::Tensor& input) {
  at::Tensor output = at::empty({params.batch, params.channels, params.out_h, params.out_w},
                                input.options(), output_format(input));
  params.output = strides_of(output);
  return output;
}

Parallel threads_for(const Pool2dParams& p) {
  return parallel(static_cast<double>(p.batch) * p.channels * p.out_h * p.out_w *
                  p.window.kernel_h * p.window.kernel_w);
}

}  // namespace zoo::ops::cpu
