// What conv2d, conv2d_pool and their packed forms share on the CPU: choosing an implementation,
// packing, allocating, running.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

#include "kernels/pack.h"
#include "kernels/params.h"

namespace zoo::ops::cpu {

// Raises the error about ZOO_CPU_CAPABILITY, if there is one.
void check_capability();

// A convolution's weight: a plain one, or one in a packed layout.
struct Weight {
  const at::Tensor& tensor;
  std::optional<Packing> packing = std::nullopt;
};

// Runs the implementation that a packed weight is for, or for a plain one the first of kConv2dList
// that accepts the case. Returns nothing, after telling declined() why, where none does: then the
// reference is to run.
std::optional<at::Tensor> convolve(const char* op, Conv2dParams params, bool exact,
                                   const at::Tensor& input, const Weight& weight,
                                   const std::optional<at::Tensor>& bias,
                                   const std::optional<at::Tensor>& residual);

// The packed form of a float32 or float64 weight.
at::Tensor pack(const at::Tensor& weight, Packing packing, int64_t groups);

}  // namespace zoo::ops::cpu
