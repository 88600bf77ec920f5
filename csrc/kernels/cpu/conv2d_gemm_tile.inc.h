// The microkernel of the GEMM: a tile of the product, summed in registers.
#pragma once

#include "common.inc.h"

namespace zoo {
namespace {

// Products are summed in blocks and these summed in turn: over a depth of 4,608 that loses an
// eighth of what one long sum does (Higham's blocked summation). A block of one half panel is
// also what half of L1 holds.
constexpr int64_t kDepthBlock = 256;

// How A lies in memory: in chunks of kChunk depths, each with its rows kRow elements apart. Both
// are constants where A was copied, so that the microkernel addresses all rows from one register.

// One chunk. Rows are an odd number of cache lines apart, so that they do not fight for the same
// sets of L1. The 16 elements beyond the block are slack for vector stores.
struct LongRows {
  static constexpr int64_t kChunk = kDepthBlock, kRow = kDepthBlock + 16;
};
// One chunk in a map that was not copied: rows are as far apart as its pixels.
struct MapRows {
  static constexpr int64_t kChunk = kDepthBlock, kRow = 0;
};
// A cache line of each row, row after row: dense, however many rows or depths there are.
template <typename T>
struct ShortRows {
  static constexpr int64_t kChunk = 64 / int64_t{sizeof(T)}, kRow = kChunk;
};

// What comes next of B: fetched meanwhile, cache lines at each depth and `step` elements on.
template <typename T>
struct Ahead {
  const T* b = nullptr;
  int64_t step = 0;
};

// c[R][32] (+)= a[R][depth] * b[depth][32], for the kVecs vectors of columns at b and c. The
// chunks of A are `next` elements apart; with MapRows, which have one, the rows are. What comes
// next is fetched to L2, or to L1 (kLocality 3) if it is read before much else is.
template <typename T, typename Rows, int R, int kVecs = Vec<T>::kTileVecs, int kLocality = 2>
void gemm_tile(int64_t depth, const T* a, int64_t next, const T* b, Ahead<T> ahead, T* c,
               bool add) {
  using V = Vec<T>;
  const int64_t row_step = Rows::kRow > 0 ? Rows::kRow : next;
  V sum[R][kVecs];
  ZOO_UNROLL
  for (int i = 0; i < R; ++i) {
    ZOO_UNROLL
    for (int j = 0; j < kVecs; ++j) sum[i][j] = V::zero();
  }
  for (; depth > 0; depth -= Rows::kChunk, a += next) {
    const T* x = a;
    for (const T* const end = a + lesser(depth, Rows::kChunk); x < end; ++x, b += kPanel) {
      ZOO_UNROLL
      for (int64_t j = 0; j < kVecs * V::kLanes; j += 64 / int64_t{sizeof(T)}) {
        __builtin_prefetch(ahead.b + j, 0, kLocality);
      }
      ahead.b += ahead.step;
      V column[kVecs];
      ZOO_UNROLL
      for (int j = 0; j < kVecs; ++j) column[j] = V::load(b + j * V::kLanes);
      ZOO_UNROLL
      for (int i = 0; i < R; ++i) {
        const V row = V::broadcast(x[i * row_step]);
        ZOO_UNROLL
        for (int j = 0; j < kVecs; ++j) sum[i][j] = fma(row, column[j], sum[i][j]);
      }
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

template <typename T, typename Rows>
struct GemmTiles {
  using Run = void (*)(int64_t depth, const T* a, int64_t next, const T* b, Ahead<T> ahead, T* c,
                       bool add);
  Run run[Vec<T>::kTileRows];  // run[i] does i + 1 rows

  template <int... I>
  static constexpr GemmTiles make(Indices<I...>) {
    return {{gemm_tile<T, Rows, I + 1>...}};
  }
  static constexpr GemmTiles make() { return make(IndicesTo<Vec<T>::kTileRows>{}); }
};

// Tiles of few rows, which leave registers for more columns: B is read straight on.
template <typename T>
struct WideTiles {
  static constexpr int kRows = Vec<T>::kTileRows / 3;
  static constexpr int kVecs = lesser(2 * Vec<T>::kTileVecs, kPanel / Vec<T>::kLanes);
  typename GemmTiles<T, LongRows>::Run run[kRows];

  template <int... I>
  static constexpr WideTiles make(Indices<I...>) {
    return {{gemm_tile<T, LongRows, I + 1, kVecs, 3>...}};
  }
  static constexpr WideTiles make() { return make(IndicesTo<kRows>{}); }
};

}  // namespace
}  // namespace zoo
