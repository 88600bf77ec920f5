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

// c[R][32] (+)= sum, for the kVecs vectors of columns at c.
template <typename T, int R, int kVecs>
inline void keep(const Vec<T> (&sum)[R][kVecs], T* c, bool add) {
  using V = Vec<T>;
  ZOO_UNROLL
  for (int i = 0; i < R; ++i) {
    ZOO_UNROLL
    for (int j = 0; j < kVecs; ++j) {
      T* to = c + i * kPanel + j * V::kLanes;
      (add ? sum[i][j] + V::load(to) : sum[i][j]).store(to);
    }
  }
}

// c[R][32] (+)= a[R][depth] * b[depth][32], for the kVecs vectors of columns at b and c. The
// chunks of A are `next` elements apart; with MapRows, which have one, the rows are. What comes
// next is fetched to L2.
template <typename T, typename Rows, int R>
void gemm_tile(int64_t depth, const T* a, int64_t next, const T* b, Ahead<T> ahead, T* c,
               bool add) {
  using V = Vec<T>;
  constexpr int kVecs = V::kTileVecs;
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
        __builtin_prefetch(ahead.b + j, 0, 2);
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
  keep(sum, c, add);
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

// The same where there are so few rows that reading B is the work: it is read at kStreams places
// that are `apart` depths from each other. Memory gives four streams half as much again as one,
// which it makes wait at the end of each page. `depth` counts the depths of each place. Tiles that
// are not as wide as the panel leave the rest of its cache lines for the next one, in L1.
template <typename T, int R, int kVecs, int kStreams>
void stream_tile(int64_t depth, int64_t apart, const T* a, int64_t row_step, const T* b, T* c,
                 bool add) {
  using V = Vec<T>;
  V sum[R][kVecs];
  ZOO_UNROLL
  for (int i = 0; i < R; ++i) {
    ZOO_UNROLL
    for (int j = 0; j < kVecs; ++j) sum[i][j] = V::zero();
  }
  for (const T* const end = a + depth; a < end; ++a, b += kPanel) {
    ZOO_UNROLL
    for (int s = 0; s < kStreams; ++s) {
      const T *const x = a + s * apart, *const y = b + s * apart * kPanel;
      if (kVecs * V::kLanes < kPanel) __builtin_prefetch(y + kVecs * V::kLanes);
      V column[kVecs];
      ZOO_UNROLL
      for (int j = 0; j < kVecs; ++j) column[j] = V::load(y + j * V::kLanes);
      ZOO_UNROLL
      for (int i = 0; i < R; ++i) {
        const V row = V::broadcast(x[i * row_step]);
        ZOO_UNROLL
        for (int j = 0; j < kVecs; ++j) sum[i][j] = fma(row, column[j], sum[i][j]);
      }
    }
  }
  keep(sum, c, add);
}

template <typename T>
struct StreamTiles {
  // In all, of a tile, and of one that leaves registers for more columns.
  static constexpr int kMostRows = 8, kRows = Vec<T>::kTileRows, kWideRows = kRows / 3;
  static constexpr int kStreams = 4;
  // Vectors of columns of a tile of so many rows.
  static constexpr int vecs(int64_t rows) {
    return rows > kWideRows ? Vec<T>::kTileVecs
                            : lesser(2 * Vec<T>::kTileVecs, kPanel / Vec<T>::kLanes);
  }
  using Run = void (*)(int64_t depth, int64_t apart, const T* a, int64_t row_step, const T* b, T* c,
                       bool add);
  Run run[kRows], rest[kRows];  // [i] does i + 1 rows; the rest is of fewer than kStreams depths

  template <int... I>
  static constexpr StreamTiles make(Indices<I...>) {
    return {{stream_tile<T, I + 1, vecs(I + 1), kStreams>...},
            {stream_tile<T, I + 1, vecs(I + 1), 1>...}};
  }
  static constexpr StreamTiles make() { return make(IndicesTo<kRows>{}); }
};

}  // namespace
}  // namespace zoo
