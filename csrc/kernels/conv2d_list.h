// The selection list of conv2d: which implementation a case gets, and why not the ones before.
#pragma once

#include "pack.h"
#include "params.h"

namespace zoo {

enum class Conv2dImpl : int32_t { depthwise, winograd4, winograd2, direct, gemm, aten };

enum class DType : int32_t { float32, float64, other };

// What a choice depends on beside the case itself and the instruction set in use.
struct Conv2dWish {
  DType dtype = DType::float32;
  bool exact = false;      // no Winograd
  bool prepacked = false;  // the weight is packed beforehand, so packing costs nothing
};

struct Conv2dCandidate {
  Conv2dImpl impl;
  const char* name;
  // Null when the case is accepted, otherwise the reason why it is not.
  const char* (*declines)(const Conv2dParams&, const Conv2dWish&);
};

// In order of preference; the first that accepts wins. The last, aten, accepts everything.
extern const Conv2dCandidate kConv2dList[];
extern const int32_t kConv2dListSize;

Conv2dImpl select_conv2d(const Conv2dParams& params, const Conv2dWish& wish);

// What an implementation is expected to take, in the time of one multiply-add; 0 for what
// cannot run the case, and for aten, of which nothing is known.
double expected_work(Conv2dImpl impl, const Conv2dParams& params, const Conv2dWish& wish);

// Why aten is chosen for speed, and not for want of a kernel; null if it is not.
const char* builtin_wins(const Conv2dParams& params, const Conv2dWish& wish);

WeightSize weight_size(const Conv2dParams& params);

// The layout of the weights that an implementation reads; aten reads plain ones, which are packed
// in the layout that serves all.
Packing packing_of(Conv2dImpl impl, const Conv2dParams& params);
// The implementation that a weight packed so gets.
Conv2dImpl impl_of(Packing packing, const Conv2dParams& params, const Conv2dWish& wish);
const char* packing_name(Packing packing);

// Whether the pool, if there is one, is one that Winograd's kernels fuse: 2x2, stride 2.
bool pool_of_two(const Conv2dParams& params);

}  // namespace zoo
