// A guess at the mean of each channel, from a few of its values.
#pragma once

#include <algorithm>
#include <cstdint>

namespace zoo {

// Per channel the mean of a few pixels that are spread over the map, which is as near to that of
// all as the sums of TrainingKernels::moments need. One pixel would not do: those at the edges see
// padding, and differ.
template <typename T>
void mean_of_some(const T* map, int64_t pixels, int64_t channels, T* mean) {
  const int64_t count = std::min<int64_t>(pixels, 64), step = pixels / count;
  for (int64_t c = 0; c < channels; ++c) {
    double sum = 0;
    for (int64_t i = 0; i < count; ++i) sum += map[i * step * channels + c];
    mean[c] = static_cast<T>(sum / static_cast<double>(count));
  }
}

}  // namespace zoo
