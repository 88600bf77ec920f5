// What the pools share on the CPU.
#pragma once

#include <ATen/core/Tensor.h>

#include "kernels/params.h"

namespace zoo::ops::cpu {

// True when a kernel takes the case; otherwise tells declined() why not.
bool takes_pool(const char* op, const at::Tensor& input);

// The average pool that params describe, of an input that takes_pool().
at::Tensor average(Pool2dParams params, const at::Tensor& input);

// An output for params (whose output strides it fills in), in the input's memory format.
at::Tensor allocate(Pool2dParams& params, const at::Tensor& input);

Parallel threads_for(const Pool2dParams& params);

}  // namespace zoo::ops::cpu
