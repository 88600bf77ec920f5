#include "ops/cuda/pooling.h"

#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "kernels/cuda/launch.h"
#include "ops/arguments.h"
#include "ops/cuda/device.h"
#include "ops/fallback.h"

namespace zoo::ops::cuda {

std::optional<at::Tensor> pool(const char* op, Pool kind, Pool2dParams params,
                               const at::Tensor& input) {
  const c10::cuda::CUDAGuard guard(input.device());
  params.input = useful_strides(input);
  const zoo::cuda::Wish wish = wish_for(input);
  if (const char* reason = zoo::cuda::pool2d_declines(params, kind, wish)) {
    declined(op, reason);
    return std::nullopt;
  }
  at::Tensor output = at::empty({params.batch, params.channels, params.out_h, params.out_w},
                                input.options(), output_format(input));
  if (output.numel() == 0) return output;
  params.output = useful_strides(output);
  cudaError_t error = cudaSuccess;
  with_element(wish.element, [&](auto number) {
    using T = decltype(number);
    const T* const from = data_of<T>(input);
    T* const to = static_cast<T*>(output.mutable_data_ptr());
    const auto plan = zoo::cuda::plan_pool2d(params, kind, sizeof(T), from, to);
    TORCH_INTERNAL_ASSERT(plan.declines == nullptr, plan.declines);
    error = zoo::cuda::launch_pool2d(plan, from, to, c10::cuda::getCurrentCUDAStream());
  });
  if (error != cudaSuccess) {
    const Window& w = params.window;
    launch_failed(error, op, "pool2d", input,
                  c10::str("window ", w.kernel_h, "x", w.kernel_w, ", stride ", w.stride_h, "x",
                           w.stride_w, ", padding ", w.pad_h, "x", w.pad_w, ", dilation ",
                           w.dilation_h, "x", w.dilation_w, ", output ", output.sizes()));
  }
  return output;
}

}  // namespace zoo::ops::cuda
