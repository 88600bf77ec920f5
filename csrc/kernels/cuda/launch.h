// The CUDA kernels as the host sees them. A launch is asynchronous on the given stream, and neither
// allocates nor synchronises: it can be captured in a CUDA graph. T is float, Half or BFloat16.
#pragma once

#include <cuda_runtime_api.h>

#include "conv2d_plan.h"
#include "depthwise_plan.h"
#include "element.h"
#include "pool2d_plan.h"

namespace zoo::cuda {

// An error where the kernels were not compiled for the current device.
cudaError_t find_kernels();

// activation(conv2d(input, weight) + bias + residual), then pooled as the plan says, which must not
// decline, and was made for these pointers. bias (dense) and residual may be null.
template <typename T>
cudaError_t launch_conv2d(const Conv2dPlan& plan, const T* input, const T* weight, const T* bias,
                          const T* residual, T* output, cudaStream_t stream);

// activation(conv2d(input, weight) + bias), one filter per channel.
template <typename T>
cudaError_t launch_depthwise(const DepthwisePlan& plan, const T* input, const T* weight,
                             const T* bias, T* output, cudaStream_t stream);

// The largest of each window, or its mean.
template <typename T>
cudaError_t launch_pool2d(const Pool2dPlan& plan, const T* input, T* output, cudaStream_t stream);

}  // namespace zoo::cuda
