// Packed weights, scaled: the products of a map whose channels are scaled are those of the map
// itself with weights whose input channels are.
#pragma once

#include "../table.h"
#include "common.inc.h"

namespace zoo {
namespace {

template <typename T>
void scale_panels(int64_t panels, int64_t channels, const T* packed, const T* scale, int64_t step,
                  T* scaled, const Parallel& parallel) {
  parallel_for(parallel, panels * kPanel / kStrip * channels,
               [&](int64_t begin, int64_t end, int32_t) {
                 int64_t c = begin % channels;
                 for (int64_t i = begin; i < end; ++i) {
                   const Vec<T> by = Vec<T>::broadcast(scale[c * step]);
                   for (int64_t j = i * kStrip; j < (i + 1) * kStrip; j += Vec<T>::kLanes) {
                     (Vec<T>::load(packed + j) * by).store(scaled + j);
                   }
                   if (++c == channels) c = 0;
                 }
               });
}

}  // namespace
}  // namespace zoo
