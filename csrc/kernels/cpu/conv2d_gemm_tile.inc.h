// The microkernel of the GEMM: a tile of the product, summed in registers.
#pragma once

#include "common.inc.h"

namespace zoo {
namespace {

// Products are summed in blocks and these summed in turn: over a depth of 4,608 that loses an
// eighth of what one long sum does (Higham's blocked summation). A block of one strip is
// also what half of L1 holds.
constexpr int64_t kDepthBlock = 256;

// Where the window of one output pixel starts, and where its result goes.
struct GemmPixel {
  int64_t input, h0, w0;
  int64_t output, residual;  // of channel 0
};

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

// Rows of A times columns of B, tile below tile.
template <typename T>
struct GemmColumns {
  int64_t depth;
  const T* a;
  int64_t next;   // from chunk to chunk of A; with MapRows, which have one, from row to row
  const T* b;     // [depth][16], from the first column on
  int64_t strip;  // from strip to strip of B, where a tile is wider than one
  // What comes next of B, and how far each depth moves on in it: a cache line of each strip is
  // fetched to L2.
  const T* ahead;
  int64_t ahead_step;
  T* c;      // [rows][32]
  bool add;  // to c, instead of setting it
  // Null, or where the residual of each row lies, and how far on that of the tile's first column:
  // what is added to the sums afterwards is fetched to L2 as well. Pixels are so far apart that
  // the processor does not see their lines coming.
  const GemmPixel* pixels;
  const T* residual;
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

// `count` tiles of R rows, from this row on, before which there are so many tiles.
template <typename T, typename Rows, int R>
void gemm_tiles(const GemmColumns<T>& at, int64_t row, int64_t before, int64_t count) {
  using V = Vec<T>;
  constexpr int kVecs = V::kTileVecs;
  constexpr int64_t kColumns = kVecs * V::kLanes, kLine = 64 / int64_t{sizeof(T)};
  const int64_t next = at.next, row_step = Rows::kRow > 0 ? Rows::kRow : next, strip = at.strip;
  const int64_t ahead_step = at.ahead_step;
  const T* ahead = at.ahead + before * at.depth * ahead_step;
  for (; count > 0; --count, row += R) {
    if (at.residual != nullptr) {
      for (int i = 0; i < R; ++i) {
        const T* const from = at.residual + at.pixels[row + i].residual;
        for (int64_t j = 0; j < kColumns; j += kLine) __builtin_prefetch(from + j, 0, 2);
      }
    }
    V sum[R][kVecs];
    ZOO_UNROLL
    for (int i = 0; i < R; ++i) {
      ZOO_UNROLL
      for (int j = 0; j < kVecs; ++j) sum[i][j] = V::zero();
    }
    const T *a = at.a + row * row_step, *b = at.b;
    for (int64_t depth = at.depth; depth > 0; depth -= Rows::kChunk, a += next) {
      const T* x = a;
      for (const T* const end = a + lesser(depth, Rows::kChunk); x < end; ++x, b += kStrip) {
        ZOO_UNROLL
        for (int64_t j = 0; j < kColumns; j += kStrip) {
          __builtin_prefetch(ahead + j / kStrip * strip, 0, 2);
        }
        ahead += ahead_step;
        V column[kVecs];
        ZOO_UNROLL
        for (int j = 0; j < kVecs; ++j) column[j] = load_filters(b, strip, j);
        ZOO_UNROLL
        for (int i = 0; i < R; ++i) {
          const V value = V::broadcast(x[i * row_step]);
          ZOO_UNROLL
          for (int j = 0; j < kVecs; ++j) sum[i][j] = fma(value, column[j], sum[i][j]);
        }
      }
    }
    keep(sum, at.c + row * kPanel, at.add);
  }
}

template <typename T, typename Rows>
struct GemmTiles {
  using Run = void (*)(const GemmColumns<T>& at, int64_t row, int64_t before, int64_t count);
  Run run[Vec<T>::kTileRows];  // run[i] does tiles of i + 1 rows

  // As few tiles as hold so many rows, of about the same size.
  void operator()(const GemmColumns<T>& at, int64_t rows) const {
    const int64_t tiles = ceil_div(rows, Vec<T>::kTileRows), size = rows / tiles;
    const int64_t longer = rows - size * tiles;
    if (longer > 0) run[size](at, 0, 0, longer);
    run[size - 1](at, longer * (size + 1), longer, tiles - longer);
  }

  template <int... I>
  static constexpr GemmTiles make(Indices<I...>) {
    return {{gemm_tiles<T, Rows, I + 1>...}};
  }
  static constexpr GemmTiles make() { return make(IndicesTo<Vec<T>::kTileRows>{}); }
};

// The same where there are so few rows that reading B is the work: it is read at kPlaces places
// that are `apart` depths from each other, in each strip of the tile. Memory gives four streams
// half as much again as one, which it makes wait at the end of each page. `depth` counts the depths
// of each place.
template <typename T, int R, int kVecs, int kPlaces>
void stream_tile(int64_t depth, int64_t apart, const T* a, int64_t row_step, const T* b,
                 int64_t strip, T* c, bool add) {
  using V = Vec<T>;
  V sum[R][kVecs];
  ZOO_UNROLL
  for (int i = 0; i < R; ++i) {
    ZOO_UNROLL
    for (int j = 0; j < kVecs; ++j) sum[i][j] = V::zero();
  }
  for (const T* const end = a + depth; a < end; ++a, b += kStrip) {
    ZOO_UNROLL
    for (int s = 0; s < kPlaces; ++s) {
      const T *const x = a + s * apart, *const y = b + s * apart * kStrip;
      V column[kVecs];
      ZOO_UNROLL
      for (int j = 0; j < kVecs; ++j) column[j] = load_filters(y, strip, j);
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
  // Vectors of columns of a tile of so many rows, and the places of a strip that it reads.
  static constexpr int vecs(int64_t rows) {
    return rows > kWideRows ? Vec<T>::kTileVecs
                            : lesser(2 * Vec<T>::kTileVecs, kPanel / Vec<T>::kLanes);
  }
  static constexpr int places(int64_t rows) {
    return vecs(rows) * Vec<T>::kLanes > kStrip ? kStreams / 2 : kStreams;
  }
  using Run = void (*)(int64_t depth, int64_t apart, const T* a, int64_t row_step, const T* b,
                       int64_t strip, T* c, bool add);
  Run run[kRows], rest[kRows];  // [i] does i + 1 rows; the rest is of fewer depths than places

  template <int... I>
  static constexpr StreamTiles make(Indices<I...>) {
    return {{stream_tile<T, I + 1, vecs(I + 1), places(I + 1)>...},
            {stream_tile<T, I + 1, vecs(I + 1), 1>...}};
  }
  static constexpr StreamTiles make() { return make(IndicesTo<kRows>{}); }
};

}  // namespace
}  // namespace zoo
