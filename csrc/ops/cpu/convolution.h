// What conv2d, conv2d_pool and their packed forms share on the CPU: choosing an implementation,
// packing, allocating, running.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

#include "kernels/params.h"

namespace zoo::ops::cpu {

// Raises the error about ZOO_CPU_CAPABILITY, if there is one.
void check_capability();

// Runs the first implementation of kConv2dList that accepts the case, or returns nothing after
// telling declined() why none does: then the reference is to run. packed is null when weight is a
// plain one.
std::optional<at::Tensor> convolve(const char* op, Conv2dParams params, const at::Tensor& input,
                                   const at::Tensor* weight, const at::Tensor* packed,
                                   const std::optional<at::Tensor>& bias,
                                   const std::optional<at::Tensor>& residual);

// The packed form of a float32 or float64 weight.
at::Tensor pack(const at::Tensor& weight, int64_t groups);

}  // namespace zoo::ops::cpu
