// The microkernel of the GEMM: a tile of the product, summed in registers.
#pragma once

#include "common.inc.h"

namespace zoo {
namespace {

// Products are summed in blocks and these summed in turn: over a depth of 4,608 that loses an
// eighth of what one long sum does (Higham's blocked summation). A block of one half panel is
// also what half of L1 holds.
constexpr int64_t kDepthBlock = 256;
// Rows of A are a constant distance apart, an odd number of cache lines, so that rows do not
// fight for the same sets of L1 and the microkernel addresses them all from one register. The 16
// elements beyond the block are slack for vector stores.
constexpr int64_t kRowStride = kDepthBlock + 16;

// c[R][32] (+)= a[R][depth] * b[depth][32], for the kTileVecs vectors of columns at b and c.
template <typename T, int R>
void gemm_tile(int64_t depth, const T* a, const T* b, T* c, bool add) {
  using V = Vec<T>;
  constexpr int kVecs = V::kTileVecs;
  V sum[R][kVecs];
  ZOO_UNROLL
  for (int i = 0; i < R; ++i) {
    ZOO_UNROLL
    for (int j = 0; j < kVecs; ++j) sum[i][j] = V::zero();
  }
  for (int64_t k = 0; k < depth; ++k, ++a, b += kPanel) {
    V column[kVecs];
    ZOO_UNROLL
    for (int j = 0; j < kVecs; ++j) column[j] = V::load(b + j * V::kLanes);
    ZOO_UNROLL
    for (int i = 0; i < R; ++i) {
      const V x = V::broadcast(a[i * kRowStride]);
      ZOO_UNROLL
      for (int j = 0; j < kVecs; ++j) sum[i][j] = fma(x, column[j], sum[i][j]);
    }
  }
  ZOO_UNROLL
  for (int i = 0; i < R; ++i) {
    ZOO_UNROLL
    for (int j = 0; j < kVecs; ++j) {
      T* to = c + i * kPanel + j * V::kLanes;
      (add ? sum[i][j] + V::load(to) : sum[i][j]).store(to);
    }
  }
}

template <typename T>
struct GemmTiles {
  using Run = void (*)(int64_t depth, const T* a, const T* b, T* c, bool add);
  Run run[Vec<T>::kTileRows];  // run[i] does i + 1 rows

  template <int... I>
  static constexpr GemmTiles make(Indices<I...>) {
    return {{gemm_tile<T, I + 1>...}};
  }
};

}  // namespace
}  // namespace zoo
