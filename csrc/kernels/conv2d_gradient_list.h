// The selection lists of conv2d's gradients: who computes each, and why not those before.
#pragma once

#include "conv2d_list.h"
#include "params.h"

namespace zoo {

// A plain matrix product (PyTorch's), our kernels, or PyTorch's own gradient of a convolution.
enum class GradientImpl : int32_t { product, kernels, aten };

struct GradientCandidate {
  GradientImpl impl;
  const char* name;
  // Null when the case is accepted, otherwise the reason why it is not.
  const char* (*declines)(const Conv2dParams&, DType);
};

// In order of preference; the first that accepts wins. The last accepts everything.
extern const GradientCandidate kInputGradientList[3];
extern const GradientCandidate kWeightGradientList[2];

// params are the forward convolution's, of the whole batch.
GradientImpl select_input_gradient(const Conv2dParams& params, DType dtype);
GradientImpl select_weight_gradient(const Conv2dParams& params, DType dtype);

}  // namespace zoo
