// To channels_last and back, for the kernels whose lanes are channels.
#pragma once

#include "common.inc.h"

namespace zoo {
namespace {

// to[j * to_stride + i] = from[i * from_stride + j] for i < rows and j < columns
template <typename T>
inline void transpose(const T* from, int64_t from_stride, T* to, int64_t to_stride, int64_t rows,
                      int64_t columns) {
  int64_t done = 0;                         // rows
#if __has_builtin(__builtin_shufflevector)  // GCC 12, clang
  if constexpr (sizeof(T) == 4) {           // four by four
    using Four [[gnu::vector_size(16)]] = T;
    for (; done + 4 <= rows; done += 4) {
      int64_t j = 0;
      for (; j + 4 <= columns; j += 4) {
        const T* const p = from + done * from_stride + j;
        T* const q = to + j * to_stride + done;
        Four a, b, c, d;
        __builtin_memcpy(&a, p, 16);
        __builtin_memcpy(&b, p + from_stride, 16);
        __builtin_memcpy(&c, p + 2 * from_stride, 16);
        __builtin_memcpy(&d, p + 3 * from_stride, 16);
        const Four ab = __builtin_shufflevector(a, b, 0, 4, 1, 5);
        const Four cd = __builtin_shufflevector(c, d, 0, 4, 1, 5);
        const Four ab2 = __builtin_shufflevector(a, b, 2, 6, 3, 7);
        const Four cd2 = __builtin_shufflevector(c, d, 2, 6, 3, 7);
        a = __builtin_shufflevector(ab, cd, 0, 1, 4, 5);
        b = __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
        c = __builtin_shufflevector(ab2, cd2, 0, 1, 4, 5);
        d = __builtin_shufflevector(ab2, cd2, 2, 3, 6, 7);
        __builtin_memcpy(q, &a, 16);
        __builtin_memcpy(q + to_stride, &b, 16);
        __builtin_memcpy(q + 2 * to_stride, &c, 16);
        __builtin_memcpy(q + 3 * to_stride, &d, 16);
      }
      for (; j < columns; ++j) {
        for (int64_t i = done; i < done + 4; ++i) to[j * to_stride + i] = from[i * from_stride + j];
      }
    }
  }
#endif
  for (int64_t i = done; i < rows; ++i) {
    for (int64_t j = 0; j < columns; ++j) to[j * to_stride + i] = from[i * from_stride + j];
  }
}

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
