// The microkernel of the weight gradient: a tile of it, summed in registers over a strip of pixels.
#pragma once

#include "common.inc.h"

namespace zoo {
namespace {

// Rows of output pixels. The gradients of a strip's pixels are g_step apart, from the first to the
// last. The inputs of a row begin at a pixel of the lines that its entry in `lines` names.
struct WeightGradStrip {
  int64_t rows, columns;
  const int64_t* lines;
  int64_t x_pixel, x_step;  // from a pixel of the lines to the next, and to that of the next output
  int64_t g_step;
};

// to[R][kVecs vectors] (+)= the sum over all pixels of x[R] * g[kVecs vectors]
template <typename T, int R, int kVecs>
void weight_grad_tile(const WeightGradStrip& strip, const T* x, const T* g, T* to, bool add) {
  using V = Vec<T>;
  constexpr int64_t kWidth = kVecs * V::kLanes, kLine = 64 / int64_t{sizeof(T)};
  if (add) {
    for (int64_t i = 0; i < R * kWidth; i += kLine) __builtin_prefetch(to + i);
  }
  V sum[R][kVecs];
  ZOO_UNROLL
  for (int i = 0; i < R; ++i) {
    ZOO_UNROLL
    for (int j = 0; j < kVecs; ++j) sum[i][j] = V::zero();
  }
  const int64_t x_step = strip.x_step, g_step = strip.g_step;
  const int64_t* const end = strip.lines + strip.rows;
  for (const int64_t* line = strip.lines; line < end; ++line) {
    const T* one = x + *line * strip.x_pixel;
    for (int64_t n = strip.columns; n > 0; --n, one += x_step, g += g_step) {
      V filters[kVecs];
      ZOO_UNROLL
      for (int j = 0; j < kVecs; ++j) filters[j] = V::load(g + j * V::kLanes);
      ZOO_UNROLL
      for (int i = 0; i < R; ++i) {
        const V input = V::broadcast(one[i]);
        ZOO_UNROLL
        for (int j = 0; j < kVecs; ++j) sum[i][j] = fma(input, filters[j], sum[i][j]);
      }
    }
  }
  ZOO_UNROLL
  for (int i = 0; i < R; ++i) {
    ZOO_UNROLL
    for (int j = 0; j < kVecs; ++j) {
      T* const place = to + i * kWidth + j * V::kLanes;
      (add ? sum[i][j] + V::load(place) : sum[i][j]).store(place);
    }
  }
}

// Fewer vectors leave registers for more rows, and the other way round.
template <typename T>
constexpr int weight_grad_rows(int64_t vecs) {
  return static_cast<int>(Vec<T>::kTileRows * Vec<T>::kTileVecs / vecs);
}

template <typename T>
struct WeightGradTiles {
  static constexpr int kMostVecs = 4;
  using Run = void (*)(const WeightGradStrip& strip, const T* x, const T* g, T* to, bool add);
  Run one[weight_grad_rows<T>(1)], two[weight_grad_rows<T>(2)], three[weight_grad_rows<T>(3)],
      four[weight_grad_rows<T>(4)];

  template <int... I, int... J, int... K, int... L>
  static constexpr WeightGradTiles make(Indices<I...>, Indices<J...>, Indices<K...>,
                                        Indices<L...>) {
    return {{weight_grad_tile<T, I + 1, 1>...},
            {weight_grad_tile<T, J + 1, 2>...},
            {weight_grad_tile<T, K + 1, 3>...},
            {weight_grad_tile<T, L + 1, 4>...}};
  }
  static constexpr WeightGradTiles make() {
    return make(IndicesTo<weight_grad_rows<T>(1)>{}, IndicesTo<weight_grad_rows<T>(2)>{},
                IndicesTo<weight_grad_rows<T>(3)>{}, IndicesTo<weight_grad_rows<T>(4)>{});
  }
  Run run(int64_t rows, int64_t vecs) const {
    return (vecs == 1 ? one : vecs == 2 ? two : vecs == 3 ? three : four)[rows - 1];
  }
};

}  // namespace
}  // namespace zoo
