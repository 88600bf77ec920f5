// Sums of large windows whose channels lie together: memory is read pixel after pixel.
#pragma once

#include "common.inc.h"

namespace zoo {
namespace {

// The sums of all channels stay in L1 while the pixels pass by, up to kPixels side by side. The
// other way round, with a few channels' sums in registers, each step would be all channels wide:
// half the speed where the map is not in L1.
template <typename T>
struct PixelSums {
  using V = Vec<T>;
  static constexpr int64_t kLanes = V::kLanes;
  static constexpr int64_t kChannels = 1024;  // as many at a time
  static constexpr int64_t kPixels = 8;

  // The sum of P pixels, in pairs, which is quicker and more accurate than one by one.
  template <int P, typename Load>
  [[gnu::always_inline]] static V pixels(const T* from, int64_t step, Load load) {
    if constexpr (P == 1) {
      return load(from);
    } else {
      return pixels<P / 2>(from, step, load) + pixels<P - P / 2>(from + P / 2 * step, step, load);
    }
  }

  // Adds P pixels to n sums, or begins with them.
  template <int P>
  [[gnu::noinline]] static void add(const T* from, int64_t step, int64_t n, bool first, T* sums) {
    const auto begin_or_add = [&](int64_t c, auto load) {
      const V sum = pixels<P>(from + c, step, load);
      (first ? sum : V::load(sums + c) + sum).store(sums + c);
    };
    int64_t c = 0;
    for (; c + kLanes <= n; c += kLanes) begin_or_add(c, LoadAll<T>{});
    if (c < n) begin_or_add(c, LoadFirst<T>{n - c});
  }
  static void add(int64_t count, const T* from, int64_t step, int64_t n, bool first, T* sums) {
    using Add = void (*)(const T*, int64_t, int64_t, bool, T*);
    constexpr Add kAdds[kPixels] = {add<1>, add<2>, add<3>, add<4>, add<5>, add<6>, add<7>, add<8>};
    kAdds[count - 1](from, step, n, first, sums);
  }

  // The means of `channels` over a window of rows x columns pixels, none of them empty.
  static void means(const T* from, int64_t rows, int64_t step_h, int64_t columns, int64_t step_w,
                    int64_t channels, T divisor, T* to, int64_t out_c) {
    alignas(64) T row[kChannels], total[kChannels];
    const int64_t pieces = ceil_div(columns, kPixels);
    const V by = V::broadcast(divisor);
    for (int64_t c0 = 0; c0 < channels; c0 += kChannels) {
      const int64_t n = lesser(kChannels, channels - c0);
      for (int64_t r = 0; r < rows; ++r) {
        const T* const line = from + c0 + r * step_h;
        // Wide rows have sums of their own: they lose less than one sum for all.
        T* const sums = pieces == 1 ? total : row;
        for (int64_t i = 0; i < pieces; ++i) {
          const Range piece = part(columns, pieces, i);
          add(piece.end - piece.begin, line + piece.begin * step_w, step_w, n,
              pieces == 1 ? r == 0 : i == 0, sums);
        }
        if (pieces > 1) add(1, row, 0, n, r == 0, total);
      }
      for (int64_t c = 0; c < n; c += kLanes) {
        store_lanes(V::load(total + c) / by, to + (c0 + c) * out_c, out_c, lesser(kLanes, n - c));
      }
    }
  }
};

}  // namespace
}  // namespace zoo
