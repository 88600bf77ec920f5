#include "depthwise_body.h"
#include "launch.cuh"

namespace zoo::cuda {

template <typename T, int32_t kKernel, int32_t kStride>
__global__ void __launch_bounds__(DepthwiseTile<kStride>::kThreads)
    depthwise_kernel(const __grid_constant__ DepthwiseProblem problem, const T* __restrict__ input,
                     const T* __restrict__ weight, const T* __restrict__ bias,
                     T* __restrict__ output) {
  DeviceContext ctx;
  depthwise_body<T, kKernel, kStride>(ctx, problem, input, weight, bias, output);
}

template <typename T>
cudaError_t launch_depthwise(const DepthwisePlan& plan, const T* input, const T* weight,
                             const T* bias, T* output, cudaStream_t stream) {
  if (plan.grid.blocks() == 0) return cudaSuccess;
  const auto run = [&](auto kernel, auto stride) {
    depthwise_kernel<T, kernel.value, stride.value>
        <<<blocks_of(plan.grid), plan.grid.threads, 0, stream>>>(plan.problem, input, weight, bias,
                                                                 output);
    return cudaGetLastError();
  };
  const auto with_kernel = [&](auto stride) {
    if (plan.kernel == 3) return run(std::integral_constant<int32_t, 3>{}, stride);
    if (plan.kernel == 5) return run(std::integral_constant<int32_t, 5>{}, stride);
    return run(std::integral_constant<int32_t, 7>{}, stride);
  };
  return plan.stride == 1 ? with_kernel(std::integral_constant<int32_t, 1>{})
                          : with_kernel(std::integral_constant<int32_t, 2>{});
}

template cudaError_t launch_depthwise(const DepthwisePlan&, const float*, const float*,
                                      const float*, float*, cudaStream_t);
template cudaError_t launch_depthwise(const DepthwisePlan&, const Half*, const Half*, const Half*,
                                      Half*, cudaStream_t);
template cudaError_t launch_depthwise(const DepthwisePlan&, const BFloat16*, const BFloat16*,
                                      const BFloat16*, BFloat16*, cudaStream_t);

}  // namespace zoo::cuda
