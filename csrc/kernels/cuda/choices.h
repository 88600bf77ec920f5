// The selection lists of the CUDA ops: which kernel a case gets, and when PyTorch's own op (cuDNN)
// is taken instead. Plain C++: they can be asked where there is neither CUDA nor a GPU.
#pragma once

#include "../params.h"

namespace zoo::cuda {

enum class Element : int32_t { float32, float16, bfloat16, other };

struct Device {
  int32_t processors = 108;  // multiprocessors
  int32_t capability = 80;   // 10 * major + minor
  bool compiled = true;      // whether the kernels were, for its architecture
};

// What a choice depends on beside the case itself.
struct Wish {
  Element element = Element::float32;
  bool bias = false, residual = false;
  bool exact = false;  // products are summed as they are: cuDNN may use Winograd or TF32
  bool own = false;    // a kernel wherever there is one, whatever is expected of it
  Device device;
};

enum class Conv2dImpl : int32_t { depthwise, conv2d, aten };

struct Conv2dCandidate {
  Conv2dImpl impl;
  const char* name;
  // Null when the case is accepted, otherwise the reason why it is not.
  const char* (*declines)(const Conv2dParams&, const Wish&);
};

// In order of preference; the first that accepts wins. The last, aten, accepts everything.
extern const Conv2dCandidate kConv2dList[];
extern const int32_t kConv2dListSize;

Conv2dImpl select_conv2d(const Conv2dParams& params, const Wish& wish);

// Null when the pooling kernels are taken, otherwise the reason why aten is.
const char* pool2d_declines(const Pool2dParams& params, Pool kind, const Wish& wish);

}  // namespace zoo::cuda
