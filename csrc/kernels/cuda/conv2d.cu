#include "conv2d_body.h"
#include "launch.cuh"

namespace zoo::cuda {

template <typename T, typename TileShape, bool kChunks, bool kPooled>
__global__ void __launch_bounds__(TileShape::kThreads)
    conv2d_kernel(const __grid_constant__ Conv2dProblem problem, const T* __restrict__ input,
                  const T* __restrict__ weight, const T* __restrict__ bias,
                  const T* __restrict__ residual, T* __restrict__ output) {
  DeviceContext ctx;
  conv2d_body<T, TileShape, kChunks, kPooled>(ctx, problem, input, weight, bias, residual, output);
}

template <typename T>
cudaError_t launch_conv2d(const Conv2dPlan& plan, const T* input, const T* weight, const T* bias,
                          const T* residual, T* output, cudaStream_t stream) {
  if (plan.grid.blocks() == 0) return cudaSuccess;
  return with_constants(
      [&](auto large, auto chunks, auto pooled) {
        using TileShape = std::conditional_t<large.value, LargeTile, SmallTile>;
        conv2d_kernel<T, TileShape, chunks.value, pooled.value>
            <<<blocks_of(plan.grid), plan.grid.threads, 0, stream>>>(plan.problem, input, weight,
                                                                     bias, residual, output);
        return cudaGetLastError();
      },
      plan.large, plan.loads_chunks, plan.problem.pool != Pool::none);
}

template cudaError_t launch_conv2d(const Conv2dPlan&, const float*, const float*, const float*,
                                   const float*, float*, cudaStream_t);
template cudaError_t launch_conv2d(const Conv2dPlan&, const Half*, const Half*, const Half*,
                                   const Half*, Half*, cudaStream_t);
template cudaError_t launch_conv2d(const Conv2dPlan&, const BFloat16*, const BFloat16*,
                                   const BFloat16*, const BFloat16*, BFloat16*, cudaStream_t);

}  // namespace zoo::cuda
