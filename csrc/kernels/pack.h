// Packed weights: from (O, C/groups, kernel_h, kernel_w) to the layouts described in table.h.
#pragma once

#include "params.h"

namespace zoo {

enum class Packing : int32_t { gemm, depthwise };

// The layout that a weight gets depends on the weight and groups alone.
Packing packing_of(int64_t out_channels, int64_t in_channels_per_group, int64_t groups);

int64_t packed_size(int64_t out_channels, int64_t in_channels_per_group, int64_t kernel_h,
                    int64_t kernel_w, int64_t groups);

// weight has the given strides (n = output channel, c = input channel within the group).
template <typename T>
void pack_weight(const T* weight, const Strides& strides, int64_t out_channels,
                 int64_t in_channels_per_group, int64_t kernel_h, int64_t kernel_w, int64_t groups,
                 T* packed);

}  // namespace zoo
