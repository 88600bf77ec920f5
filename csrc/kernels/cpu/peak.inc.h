// What the machine can do at most, for kernels to be held against: multiply-adds that wait for
// nothing, and reading. No operations: nothing but `zoo bench --peak` runs them.
#pragma once

#include "common.inc.h"

namespace zoo {
namespace {

// As many chains as the GEMM's tile has sums: more than two ports can have under way.
template <typename T>
constexpr int64_t kPeakFlops = 2 * Vec<T>::kTileRows * Vec<T>::kTileVecs * Vec<T>::kLanes;

template <typename T>
void peak_fma(int64_t steps, T* sums, const Parallel& parallel) {
  constexpr int kRows = Vec<T>::kTileRows, kVecs = Vec<T>::kTileVecs;
  parallel_for(parallel, parallel.threads, [&](int64_t begin, int64_t end, int32_t) {
    for (int64_t thread = begin; thread < end; ++thread) {
      // Each chain starts elsewhere, or the compiler would compute one for all.
      Vec<T> x[kRows][kVecs];
      ZOO_UNROLL for (int i = 0; i < kRows; ++i) {
        ZOO_UNROLL for (int j = 0; j < kVecs; ++j) {
          x[i][j] = Vec<T>::broadcast(static_cast<T>(i * kVecs + j));
        }
      }
      // Halfway to 1 again and again: neither denormal numbers nor infinities.
      const Vec<T> half = Vec<T>::broadcast(T{0.5});
      for (int64_t step = 0; step < steps; ++step) {
        ZOO_UNROLL for (int i = 0; i < kRows; ++i) {
          ZOO_UNROLL for (int j = 0; j < kVecs; ++j) x[i][j] = fma(x[i][j], half, half);
        }
      }
      Vec<T> sum = Vec<T>::zero();
      ZOO_UNROLL for (int i = 0; i < kRows; ++i) {
        ZOO_UNROLL for (int j = 0; j < kVecs; ++j) sum = sum + x[i][j];
      }
      sums[thread] = sum_of_lanes(sum);
    }
  });
}

template <typename T>
void peak_read(const T* data, int64_t count, int64_t passes, T* sums, const Parallel& parallel) {
  constexpr int kVecs = 8;  // two loads a cycle, sums that take four
  constexpr int64_t kLanes = Vec<T>::kLanes, kStep = kVecs * kLanes;
  parallel_for(parallel, parallel.threads, [&](int64_t begin, int64_t end, int32_t) {
    for (int64_t thread = begin; thread < end; ++thread) {
      const Range mine = part(count, parallel.threads, thread);
      Vec<T> x[kVecs];
      ZOO_UNROLL for (int j = 0; j < kVecs; ++j) x[j] = Vec<T>::zero();
      for (int64_t pass = 0; pass < passes; ++pass) {
        int64_t at = mine.begin;
        for (; at + kStep <= mine.end; at += kStep) {
          ZOO_UNROLL for (int j = 0; j < kVecs; ++j) {
            x[j] = x[j] + Vec<T>::load(data + at + j * kLanes);
          }
        }
        for (; at < mine.end; at += kLanes) {
          x[0] = x[0] + Vec<T>::load(data + at, lesser(kLanes, mine.end - at));
        }
      }
      ZOO_UNROLL for (int j = 1; j < kVecs; ++j) x[0] = x[0] + x[j];
      sums[thread] = sum_of_lanes(x[0]);
    }
  });
}

}  // namespace
}  // namespace zoo
