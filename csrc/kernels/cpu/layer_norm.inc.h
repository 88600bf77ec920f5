// Rows of channels, each brought to mean 0 and variance 1, scaled and shifted.
//
// A row is read three times, while it is in L1: the variance is that of what differs from the mean,
// as the difference of two sums would lose all digits where the mean is large.
#pragma once

#include "common.inc.h"

namespace zoo {
namespace {

// The first n lanes of x; the others are 0.
template <typename T>
inline Vec<T> first_lanes(Vec<T> x, int64_t n) {
  alignas(64) T lanes[Vec<T>::kLanes];
  x.store(lanes);
  return Vec<T>::load(lanes, n);
}

// The sum of squares of the row less `mean`, or with kPlain of the row itself.
template <bool kPlain, typename T>
inline T sum_of_row(const T* row, int64_t count, Vec<T> mean) {
  using V = Vec<T>;
  constexpr int64_t kLanes = V::kLanes;
  constexpr int kSums = 4;  // as many at a time, so that steps need not wait for each other
  V sums[kSums] = {V::zero(), V::zero(), V::zero(), V::zero()};
  const auto add = [](V& sum, V x, V less) {
    const V rest = x - less;
    sum = kPlain ? sum + x : fma(rest, rest, sum);
  };
  int64_t i = 0;
  for (; i + kSums * kLanes <= count; i += kSums * kLanes) {
    ZOO_UNROLL
    for (int j = 0; j < kSums; ++j) add(sums[j], V::load(row + i + j * kLanes), mean);
  }
  for (; i + kLanes <= count; i += kLanes) add(sums[0], V::load(row + i), mean);
  if (i < count) {
    add(sums[1], V::load(row + i, count - i), first_lanes(mean, count - i));
  }
  return sum_of_lanes((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

// The rows go through each pass a few at a time: while the lanes of one row's sum are added up, the
// next row's sum is under way. weight and bias may be null.
template <typename T>
void layer_norm(const LayerNormParams& p, const T* input, const T* weight, const T* bias, T* output,
                const Parallel& parallel) {
  using V = Vec<T>;
  constexpr int64_t kRows = 4;
  const int64_t channels = p.channels;
  const T count = static_cast<T>(channels), eps = static_cast<T>(p.eps);
  parallel_for(parallel, p.rows, [&](int64_t begin, int64_t end, int32_t) {
    for (int64_t first = begin; first < end; first += kRows) {
      const int64_t rows = lesser(kRows, end - first);
      const T* const from = input + first * channels;
      T* const to = output + first * channels;
      T mean[kRows], factor[kRows];
      for (int64_t r = 0; r < rows; ++r) {
        mean[r] = sum_of_row<true>(from + r * channels, channels, V::zero()) / count;
      }
      for (int64_t r = 0; r < rows; ++r) {
        const V middle = V::broadcast(mean[r]);
        const T variance = sum_of_row<false>(from + r * channels, channels, middle) / count;
        factor[r] = T(1) / static_cast<T>(__builtin_sqrt(variance + eps));
      }
      for (int64_t i = 0; i < channels; i += V::kLanes) {
        const int64_t n = lesser(V::kLanes, channels - i);
        const V by = weight == nullptr ? V::broadcast(T(1)) : load_lanes(weight + i, 1, n);
        const V plus = bias == nullptr ? V::zero() : load_lanes(bias + i, 1, n);
        for (int64_t r = 0; r < rows; ++r) {
          const V x = load_lanes(from + r * channels + i, 1, n) - V::broadcast(mean[r]);
          store_lanes(fma(x * V::broadcast(factor[r]), by, plus), to + r * channels + i, 1, n);
        }
      }
    }
  });
}

}  // namespace
}  // namespace zoo
