// To channels_last and back, for the kernels whose lanes are channels.
#pragma once

#include "../transpose.h"
#include "common.inc.h"

namespace zoo {
namespace {

// Whether `channels` of a tensor do not follow each other, so that a kernel works on a copy.
inline bool apart(const Strides& strides, int64_t channels) {
  return strides.c != 1 && channels > 1;
}

template <typename T>
int64_t staging_bytes(const Conv2dParams& p) {
  return round_up(p.batch * p.in_h * p.in_w * p.in_channels * int64_t{sizeof(T)}, 64);
}

inline Strides staged_strides(const Conv2dParams& p) {
  return {p.in_h * p.in_w * p.in_channels, 1, p.in_w * p.in_channels, p.in_channels};
}

// Copies the input to dense channels_last.
template <typename T>
void to_channels_last(const Conv2dParams& p, const T* input, T* output, const Parallel& parallel) {
  constexpr int64_t kChannels = 16;  // as many rows of the source are read side by side
  parallel_for(parallel, p.batch * p.in_h, [&](int64_t begin, int64_t end, int32_t) {
    for (int64_t i = begin; i < end; ++i) {
      const T* const line = input + offset(p.input, i / p.in_h, 0, i % p.in_h, 0);
      for (int64_t c0 = 0; c0 < p.in_channels; c0 += kChannels) {
        const int64_t n = lesser(kChannels, p.in_channels - c0);
        T* to = output + i * p.in_w * p.in_channels + c0;
        const T* from = line + c0 * p.input.c;
        if (p.input.w == 1) {
          transpose(from, p.input.c, to, p.in_channels, n, p.in_w);
          continue;
        }
        for (int64_t x = 0; x < p.in_w; ++x, to += p.in_channels, from += p.input.w) {
          for (int64_t c = 0; c < n; ++c) to[c] = from[c * p.input.c];
        }
      }
    }
  });
}

// `pixels` rows of channels, `pitch` apart, to a tensor with the given strides.
template <typename T>
inline void from_channels_last(const T* from, int64_t pitch, T* to, const Strides& strides,
                               int64_t pixels, int64_t channels) {
  if (strides.w == 1) return transpose(from, pitch, to, strides.c, pixels, channels);
  for (int64_t c = 0; c < channels; ++c) {
    for (int64_t i = 0; i < pixels; ++i) to[c * strides.c + i * strides.w] = from[i * pitch + c];
  }
}

}  // namespace
}  // namespace zoo
