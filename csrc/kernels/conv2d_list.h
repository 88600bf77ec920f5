// The selection list of conv2d: which implementation a case gets, and why not the ones before.
#pragma once

#include "params.h"

namespace zoo {

enum class Conv2dImpl : int32_t { depthwise, gemm, aten };

enum class DType : int32_t { float32, float64, other };

struct Conv2dCandidate {
  Conv2dImpl impl;
  const char* name;
  // Null when the case is accepted, otherwise the reason why it is not.
  const char* (*declines)(const Conv2dParams&, DType);
};

// In order of preference; the first that accepts wins. The last, aten, accepts everything.
extern const Conv2dCandidate kConv2dList[];
extern const int32_t kConv2dListSize;

Conv2dImpl select_conv2d(const Conv2dParams& params, DType dtype);

}  // namespace zoo
