// The microkernel of the direct convolution: a tile of outputs, summed in registers.
#pragma once

#include "common.inc.h"

namespace zoo {
namespace {

// What the lanes of a tile are; its rows are the other of the two. Filters of narrow groups see the
// channels of their own groups: as many as there are filters in a group, so that a vector of
// filters sees a vector of channels, each lane one of those.
enum class Lanes : int32_t { filters, pixels, narrow_groups };

// Tiles side by side in one row of outputs.
template <typename T>
struct DirectRow {
  int64_t depth;
  const int64_t* offsets;  // of each depth's input, from the one of the first pixel
  const int32_t* places;   // of narrow groups: [group][lanes], the channel that each lane sees
  int64_t group;           // of narrow groups: channels of one, a power of two
  const T* x;              // the input of the first pixel
  int64_t step;            // from pixel to pixel; 1 where lanes are pixels
  const T* b;              // [depth][kStrip], from the first filter on
  const T* ahead;          // what comes next of the weights: each tile fetches a share to L2
  int64_t share;           // in elements
  const T* shift;          // the bias of the filters; zeros without one
  T least;                 // 0 for ReLU, otherwise -inf
  const T* extra;          // null, or the residual of the first tile
  int64_t extra_row;       // from row to row of a tile; lanes follow each other
  T* to;
  int64_t to_row;
  int64_t last;  // lanes of a row's last vector that are stored
  bool around;   // vectors are streamed
};

// `count` tiles of R rows and kVecs vectors.
template <typename T, Lanes kTile, int R, int kVecs>
void direct_tiles(const DirectRow<T>& row, int64_t count) {
  using V = Vec<T>;
  constexpr bool kPixelLanes = kTile == Lanes::pixels;
  constexpr int64_t kLanes = V::kLanes, kPixels = kPixelLanes ? kVecs * kLanes : R;
  const T* x = row.x;
  const T *extra = row.extra, *ahead = row.ahead;
  T* to = row.to;
  const int64_t step = kPixelLanes ? 1 : row.step, to_row = row.to_row, extra_row = row.extra_row;
  const V least = V::broadcast(row.least);
  const int64_t last = row.last, strip = row.depth * kStrip;
  const bool whole = last == kLanes, around = row.around && whole;
  for (; count > 0; --count) {
    V sum[R][kVecs];
    ZOO_UNROLL
    for (int i = 0; i < R; ++i) {
      ZOO_UNROLL
      for (int j = 0; j < kVecs; ++j) {
        sum[i][j] = kPixelLanes ? V::broadcast(row.shift[i]) : V::load(row.shift + j * kLanes);
      }
    }
    for (const T* const end = ahead + row.share; ahead < end; ahead += 64 / int64_t{sizeof(T)}) {
      __builtin_prefetch(ahead, 0, 2);
    }
    const T* b = row.b;
    const int64_t* const end = row.offsets + row.depth;
    const int32_t* places = row.places;
    for (const int64_t* k = row.offsets; k < end; ++k, b += kStrip) {
      const T* const lanes = kPixelLanes ? x + *k : b;
      const T* const single = kPixelLanes ? b : x + *k;
      V column[kVecs];
      ZOO_UNROLL
      for (int j = 0; j < kVecs; ++j) {
        column[j] = kPixelLanes ? V::load(lanes + j * kLanes) : load_filters(lanes, strip, j);
      }
      ZOO_UNROLL
      for (int i = 0; i < R; ++i) {
        const T* const seen = single + i * step;
        if constexpr (kTile == Lanes::narrow_groups) {
          ZOO_UNROLL
          for (int j = 0; j < kVecs; ++j) {
            sum[i][j] = fma(permute(V::load(seen + j * kLanes), places), column[j], sum[i][j]);
          }
        } else {
          const V one = V::broadcast(*seen);
          ZOO_UNROLL
          for (int j = 0; j < kVecs; ++j) sum[i][j] = fma(one, column[j], sum[i][j]);
        }
      }
      if constexpr (kTile == Lanes::narrow_groups) {
        places += kLanes;
        if (places == row.places + row.group * kLanes) places = row.places;
      }
    }
    if (extra != nullptr) {
      ZOO_UNROLL
      for (int i = 0; i < R; ++i) {
        ZOO_UNROLL
        for (int j = 0; j < kVecs; ++j) {
          const T* const from = extra + i * extra_row + j * kLanes;
          sum[i][j] = sum[i][j] + (j + 1 < kVecs || whole ? V::load(from) : V::load(from, last));
        }
      }
      extra += kPixels * (kPixelLanes ? 1 : extra_row);
    }
    ZOO_UNROLL
    for (int i = 0; i < R; ++i) {
      ZOO_UNROLL
      for (int j = 0; j < kVecs; ++j) {
        T* const place = to + i * to_row + j * kLanes;
        if (around) {
          max(least, sum[i][j]).stream(place);
        } else if (j + 1 < kVecs || whole) {
          max(least, sum[i][j]).store(place);
        } else {
          max(least, sum[i][j]).store(place, last);
        }
      }
    }
    x += kPixels * step;
    to += kPixels * (kPixelLanes ? 1 : to_row);
  }
}

// Tiles of one vector, which small groups need, have twice the rows: fewer sums would wait for each
// other.
template <typename T>
constexpr int64_t direct_rows(int64_t vecs) {
  return vecs == 1 ? 2 * Vec<T>::kTileRows : Vec<T>::kTileRows;
}

template <typename T>
struct DirectTiles {
  using Run = void (*)(const DirectRow<T>& row, int64_t count);
  Run one[2][direct_rows<T>(1)], two[3][direct_rows<T>(2)];  // [lanes are][rows - 1]

  template <int... I, int... J>
  static constexpr DirectTiles make(Indices<I...>, Indices<J...>) {
    static_assert(Vec<T>::kTileVecs == 2);
    return {{{direct_tiles<T, Lanes::filters, I + 1, 1>...},
             {direct_tiles<T, Lanes::pixels, I + 1, 1>...}},
            {{direct_tiles<T, Lanes::filters, J + 1, 2>...},
             {direct_tiles<T, Lanes::pixels, J + 1, 2>...},
             {direct_tiles<T, Lanes::narrow_groups, J + 1, 2>...}}};
  }
  static constexpr DirectTiles make() {
    return make(IndicesTo<direct_rows<T>(1)>{}, IndicesTo<direct_rows<T>(2)>{});
  }
  // Narrow groups take two vectors.
  Run run(Lanes lanes, int64_t vecs, int64_t rows) const {
    const int32_t i = static_cast<int32_t>(lanes);
    return vecs == 1 ? one[i][rows - 1] : two[i][rows - 1];
  }
};

}  // namespace
}  // namespace zoo
