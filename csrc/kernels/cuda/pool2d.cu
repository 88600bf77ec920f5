#include "launch.cuh"
#include "pool2d_body.h"

namespace zoo::cuda {

template <typename T, bool kChunks>
__global__ void __launch_bounds__(kPoolThreads)
    pool2d_window_kernel(const __grid_constant__ Pool2dProblem problem, const T* __restrict__ input,
                         T* __restrict__ output) {
  DeviceContext ctx;
  pool2d_window_body<T, kChunks>(ctx, problem, input, output);
}

template <typename T, bool kChunks>
__global__ void __launch_bounds__(kPoolThreads)
    pool2d_global_kernel(const __grid_constant__ Pool2dProblem problem, const T* __restrict__ input,
                         T* __restrict__ output) {
  DeviceContext ctx;
  pool2d_global_body<T, kChunks>(ctx, problem, input, output);
}

template <typename T>
cudaError_t launch_pool2d(const Pool2dPlan& plan, const T* input, T* output, cudaStream_t stream) {
  if (plan.grid.blocks() == 0) return cudaSuccess;
  return with_constants(
      [&](auto global, auto chunks) {
        const auto kernel = global.value ? pool2d_global_kernel<T, chunks.value>
                                         : pool2d_window_kernel<T, chunks.value>;
        kernel<<<blocks_of(plan.grid), plan.grid.threads, 0, stream>>>(plan.problem, input, output);
        return cudaGetLastError();
      },
      plan.kernel == PoolKernel::global, plan.chunks);
}

// One stands for all: they are compiled for the same architectures.
cudaError_t find_kernels() {
  cudaFuncAttributes attributes;
  return cudaFuncGetAttributes(&attributes, pool2d_window_kernel<float, true>);
}

template cudaError_t launch_pool2d(const Pool2dPlan&, const float*, float*, cudaStream_t);
template cudaError_t launch_pool2d(const Pool2dPlan&, const Half*, Half*, cudaStream_t);
template cudaError_t launch_pool2d(const Pool2dPlan&, const BFloat16*, BFloat16*, cudaStream_t);

}  // namespace zoo::cuda
