// Packed weights: from (O, C/groups, kernel_h, kernel_w) to the layouts described in table.h.
#pragma once

#include "params.h"

namespace zoo {

enum class Packing : int32_t { gemm, depthwise, winograd4, winograd2 };

inline bool is_winograd(Packing packing) {
  return packing == Packing::winograd4 || packing == Packing::winograd2;
}

// The size of a plain weight.
struct WeightSize {
  int64_t out_channels, in_channels;  // in_channels of one group
  int64_t kernel_h, kernel_w;
};

// The layout that serves every convolution with this weight and these groups.
Packing direct_packing(const WeightSize& size, int64_t groups);

// Null, or why a weight cannot be packed so: Winograd's layouts are for 3x3 windows and one group.
const char* packing_declines(Packing packing, const WeightSize& size, int64_t groups);

// Null, or why a weight that is packed so does not serve a convolution whose window, channels and
// groups it fits. The others serve all.
const char* packing_declines(Packing packing, const Window& window);

// The elements of a packed weight.
int64_t packed_size(Packing packing, const WeightSize& size, int64_t groups);

// The layout whose packed weights have `count` elements; false if there is none. No two layouts
// have the same size.
bool recognise_packing(int64_t count, const WeightSize& size, int64_t groups, Packing* packing);

// How many parts a packed weight has that can be packed one by one; together they are all of it.
int64_t packed_parts(Packing packing, const WeightSize& size, int64_t groups);

// Packs one part. weight has the given strides (n = output channel, c = input channel within the
// group); packed is the whole packed weight.
template <typename T>
void pack_part(Packing packing, const T* weight, const Strides& strides, const WeightSize& size,
               int64_t groups, int64_t part, T* packed);

}  // namespace zoo
