// What conv2d and conv2d_pool share on CUDA: choosing a kernel, allocating, launching.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

#include "kernels/params.h"

namespace zoo::ops::cuda {

// Launches the first kernel of zoo::cuda::kConv2dList that accepts the case on the current stream.
// Returns nothing where aten is preferred, or, after telling declined() why, where no kernel takes
// the case: then the reference is to run.
std::optional<at::Tensor> convolve(const char* op, Conv2dParams params, bool exact,
                                   const at::Tensor& input, const at::Tensor& weight,
                                   const std::optional<at::Tensor>& bias,
                                   const std::optional<at::Tensor>& residual);

}  // namespace zoo::ops::cuda
