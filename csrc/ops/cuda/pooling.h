// What the pools share on CUDA.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

#include "kernels/params.h"

namespace zoo::ops::cuda {

// Launches the pooling kernel on the current stream. Returns nothing where aten is preferred, or,
// after telling declined() why, where the kernel does not take the case.
std::optional<at::Tensor> pool(const char* op, Pool kind, Pool2dParams params,
                               const at::Tensor& input);

}  // namespace zoo::ops::cuda
