// Pooling of any windows over maps of any strides. Lanes run over channels when those lie
// together (channels_last), otherwise over the output's columns.
#pragma once

#include "common.inc.h"
#include "pool2d_pixels.inc.h"

namespace zoo {
namespace {

template <typename T>
struct Pooling {
  using V = Vec<T>;

  const Pool2dParams& p;
  const T* input;     // starts at row `first_row` of its maps
  int64_t first_row;  // other than 0 when a fused kernel holds only some rows
  Target<T> output;
  int64_t* indices;  // null, or with output's strides

  bool lanes_are_channels() const { return p.input.c == 1 && p.channels > 1; }

  // Where the window of output row y starts, and which of its rows are inside the map.
  int64_t start_h(int64_t y) const {
    return p.adaptive ? y * p.in_h / p.out_h : y * p.window.stride_h - p.window.pad_h;
  }
  int64_t start_w(int64_t x) const {
    return p.adaptive ? x * p.in_w / p.out_w : x * p.window.stride_w - p.window.pad_w;
  }
  Range taps_h(int64_t y) const {
    if (p.adaptive) return {0, ceil_div((y + 1) * p.in_h, p.out_h) - start_h(y)};
    return taps_inside(start_h(y), p.window.kernel_h, p.window.dilation_h, p.in_h);
  }
  Range taps_w(int64_t x) const {
    if (p.adaptive) return {0, ceil_div((x + 1) * p.in_w, p.out_w) - start_w(x)};
    return taps_inside(start_w(x), p.window.kernel_w, p.window.dilation_w, p.in_w);
  }

  // Output columns whose windows have the same taps and one divisor.
  Range alike() const {
    if (p.adaptive) return {0, 0};
    const Window& w = p.window;
    return interior(p.out_w, p.in_w, w.kernel_w, w.stride_w, w.pad_w, w.dilation_w);
  }

  // What a window's rows or columns contribute to PyTorch's divisor of an average.
  int64_t counted_h(int64_t y) const {
    if (p.adaptive) return taps_h(y).end;
    return counted(start_h(y), p.window.kernel_h, p.window.pad_h, p.in_h);
  }
  int64_t counted_w(int64_t x) const {
    if (p.adaptive) return taps_w(x).end;
    return counted(start_w(x), p.window.kernel_w, p.window.pad_w, p.in_w);
  }
  int64_t counted(int64_t start, int64_t kernel, int64_t pad, int64_t size) const {
    if (p.count_include_pad) return lesser(start + kernel, size + pad) - start;
    return lesser(start + kernel, size) - larger(start, 0);
  }
  T divisor(int64_t y, int64_t x) const {
    return static_cast<T>(p.divisor_override != 0 ? p.divisor_override
                                                  : counted_h(y) * counted_w(x));
  }

  // Windows that see the same taps, and where the first of them reads and writes.
  struct Place {
    const T* from;  // the first tap
    T* to;
    int64_t* index;  // null without indices
    int64_t count_h, count_w, step_h, step_w;
    T divisor;
    int64_t first;  // the first tap's index in the map
  };

  Place place(int64_t image, int64_t channel, int64_t y, int64_t x, Range rows,
              Range columns) const {
    const Window& w = p.window;
    const int64_t h0 = start_h(y) + rows.begin * w.dilation_h;
    const int64_t w0 = start_w(x) + columns.begin * w.dilation_w;
    T* const to = output.at(image, channel, y, x);
    const bool empty = rows.begin == rows.end || columns.begin == columns.end;
    return {empty ? input : input + offset(p.input, image, channel, h0 - first_row, w0),
            to,
            indices == nullptr ? nullptr : indices + (to - output.data),
            empty ? 0 : rows.end - rows.begin,
            columns.end - columns.begin,
            w.dilation_h * p.input.h,
            w.dilation_w * p.input.w,
            empty ? T(1) : divisor(y, x),
            h0 * p.in_w + w0};
  }

  // C vectors of n lanes; the vectors are `hop` apart in the input and `out_hop` in the output,
  // whose lanes are `out_lane` apart.
  template <bool kMax, int C, typename Load>
  [[gnu::always_inline]] static void reduce(const Place& at, const T* from, int64_t hop, T* to,
                                            int64_t out_hop, int64_t out_lane, int64_t n,
                                            Load load) {
    V best[C], row[C];
    typename V::Mask nan[C];
    ZOO_UNROLL
    for (int i = 0; i < C; ++i) {
      best[i] = kMax ? V::broadcast(-__builtin_inf()) : V::zero();
      nan[i] = is_nan(best[i]);  // nowhere yet; kept apart, so that a step waits for one max
    }
    for (int64_t r = 0; r < at.count_h; ++r, from += at.step_h) {
      ZOO_UNROLL
      for (int i = 0; i < C; ++i) row[i] = V::zero();
      const T* tap = from;
      for (int64_t s = 0; s < at.count_w; ++s, tap += at.step_w) {
        ZOO_UNROLL
        for (int i = 0; i < C; ++i) {
          const V value = load(tap + i * hop);
          if (kMax) {
            nan[i] = V::either(nan[i], is_nan(value));
            best[i] = max(best[i], value);
          } else {
            row[i] = row[i] + value;
          }
        }
      }
      ZOO_UNROLL
      for (int i = 0; i < C; ++i) {
        if (!kMax) best[i] = best[i] + row[i];  // a sum for each row loses less than one for all
      }
    }
    ZOO_UNROLL
    for (int i = 0; i < C; ++i) {
      const V result = kMax ? select(nan[i], V::broadcast(__builtin_nanf("")), best[i])
                            : best[i] / V::broadcast(at.divisor);
      store_lanes(result, to + i * out_hop, out_lane, n);
    }
  }

  // All channels of one window, when they lie together.
  template <bool kMax>
  [[gnu::noinline]] void across(const Place& at, int64_t channels) const {
    constexpr int64_t kLanes = V::kLanes;
    const int64_t out_c = output.strides.c;
    if (!kMax && at.count_h * at.count_w > 2 * PixelSums<T>::kPixels) {
      return PixelSums<T>::means(at.from, at.count_h, at.step_h, at.count_w, at.step_w, channels,
                                 at.divisor, at.to, out_c);
    }
    int64_t c = 0;
    for (; c + 4 * kLanes <= channels; c += 4 * kLanes) {
      reduce<kMax, 4>(at, at.from + c, kLanes, at.to + c * out_c, kLanes * out_c, out_c, kLanes,
                      LoadAll<T>{});
    }
    for (; c + kLanes <= channels; c += kLanes) {
      reduce<kMax, 1>(at, at.from + c, 0, at.to + c * out_c, 0, out_c, kLanes, LoadAll<T>{});
    }
    const int64_t n = channels - c;
    if (n > 0) {
      reduce<kMax, 1>(at, at.from + c, 0, at.to + c * out_c, 0, out_c, n, LoadFirst<T>{n});
    }
  }

  // C vectors of n windows side by side, of one channel.
  template <bool kMax, int C>
  [[gnu::noinline]] void along(const Place& at, int64_t n) const {
    const int64_t lane = p.window.stride_w * p.input.w, out_w = output.strides.w;
    with_lanes<T>(lane, n, [&](auto load) {
      reduce<kMax, C>(at, at.from, V::kLanes * lane, at.to, V::kLanes * out_w, out_w, n, load);
    });
  }

  // One window whose columns lie together: lanes are taps.
  template <bool kMax>
  [[gnu::noinline]] void single(const Place& at) const {
    constexpr int64_t kLanes = V::kLanes;
    const int64_t width = at.count_w, tail = width % kLanes;
    V best = kMax ? V::broadcast(-__builtin_inf()) : V::zero();
    auto nan = is_nan(best);
    const auto take = [&](V value) {
      nan = V::either(nan, is_nan(value));
      best = kMax ? max(best, value) : best + value;
    };
    for (int64_t r = 0; r < at.count_h; ++r) {
      const T* const row = at.from + r * at.step_h;
      for (int64_t s = 0; s + kLanes <= width; s += kLanes) take(V::load(row + s));
      if (tail == 0) continue;
      // A maximum may see a tap twice. Lanes that hold none are 0 and not looked at below.
      take(kMax && width > kLanes ? V::load(row + width - kLanes)
                                  : V::load(row + width - tail, tail));
    }
    if (kMax) best = select(nan, V::broadcast(__builtin_nanf("")), best);
    alignas(64) T lanes[kLanes];
    best.store(lanes);
    T result = lanes[0];
    for (int64_t i = 1; i < lesser(width, kLanes); ++i) {
      if (!kMax) {
        result += lanes[i];
      } else if (lanes[i] > result || lanes[i] != lanes[i]) {
        result = lanes[i];
      }
    }
    *at.to = kMax ? result : result / at.divisor;
  }

  // n windows with the positions of their maxima; the lanes are `lane` apart in the input,
  // `out_lane` in the output, and `index_lane` columns of the map. As PyTorch: a later value wins
  // if it is greater or NaN. The lanes count taps: see exact().
  [[gnu::noinline]] void with_indices(const Place& at, int64_t c, int64_t n, int64_t lane,
                                      int64_t out_lane, int64_t index_lane) const {
    if (!exact(at)) return with_far_indices(at, c, n, lane, out_lane, index_lane);
    const Window& w = p.window;
    V best = V::broadcast(-__builtin_inf()), place = V::zero();
    with_lanes<T>(lane, n, [&](auto load) {
      for (int64_t r = 0; r < at.count_h; ++r) {
        for (int64_t s = 0; s < at.count_w; ++s) {
          const V value = load(at.from + c * p.input.c + r * at.step_h + s * at.step_w);
          const auto wins = V::either(greater(value, best), is_nan(value));
          best = select(wins, value, best);
          place = select(wins, V::broadcast(static_cast<T>(r * at.count_w + s)), place);
        }
      }
    });
    store_lanes(best, at.to + c * output.strides.c, out_lane, n);
    alignas(64) T places[V::kLanes];
    place.store(places);
    int64_t* const index = at.index + c * output.strides.c;
    for (int64_t i = 0; i < n; ++i) {
      const int64_t tap = static_cast<int64_t>(places[i]);
      const int64_t r = at.count_w > 0 ? tap / at.count_w : 0, s = tap - r * at.count_w;
      index[i * out_lane] =
          at.first + r * w.dilation_h * p.in_w + s * w.dilation_w + i * index_lane;
    }
  }

  // Whether T holds the number of every tap: a float, up to 2^24.
  static bool exact(const Place& at) {
    const int64_t most = int64_t{1} << (sizeof(T) == 4 ? 24 : 53);
    return at.count_w == 0 || at.count_h <= most / at.count_w;
  }

  // The same, one window after the other, for windows of any size.
  [[gnu::noinline]] void with_far_indices(const Place& at, int64_t c, int64_t n, int64_t lane,
                                          int64_t out_lane, int64_t index_lane) const {
    for (int64_t i = 0; i < n; ++i) {
      const T* const from = at.from + c * p.input.c + i * lane;
      T best = -__builtin_inf();
      int64_t index = at.first;
      for (int64_t r = 0; r < at.count_h; ++r) {
        for (int64_t s = 0; s < at.count_w; ++s) {
          const T value = from[r * at.step_h + s * at.step_w];
          if (!(value > best || value != value)) continue;
          best = value;
          index = at.first + r * p.window.dilation_h * p.in_w + s * p.window.dilation_w;
        }
      }
      const int64_t to = c * output.strides.c + i * out_lane;
      at.to[to] = best;
      at.index[to] = index + i * index_lane;
    }
  }

  // Output row y of the channels.
  template <bool kMax>
  void row(int64_t image, int64_t y, Range channels) const {
    constexpr int64_t kLanes = V::kLanes;
    const Window& w = p.window;
    const Range rows = taps_h(y);
    if (lanes_are_channels()) {
      const int64_t count = channels.end - channels.begin;
      for (int64_t x = 0; x < p.out_w; ++x) {
        const Place at = place(image, channels.begin, y, x, rows, taps_w(x));
        if (at.index == nullptr) {
          across<kMax>(at, count);
          continue;
        }
        for (int64_t c = 0; c < count; c += kLanes) {
          with_indices(at, c, lesser(kLanes, count - c), 1, output.strides.c, 0);
        }
      }
      return;
    }
    const Range inside = alike();
    for (int64_t c = channels.begin; c < channels.end; ++c) {
      for (int64_t x = 0; x < p.out_w;) {
        const int64_t room = x >= inside.begin && x < inside.end ? inside.end - x : 1;
        int64_t n = lesser(kLanes, room);
        const Place at = place(image, c, y, x, rows, taps_w(x));
        if (at.index != nullptr) {
          with_indices(at, 0, n, w.stride_w * p.input.w, output.strides.w, w.stride_w);
        } else if (n == 1 && at.step_w == 1 && at.count_w > 0) {
          single<kMax>(at);
        } else if (room >= 4 * kLanes) {
          along<kMax, 4>(at, kLanes);
          n = 4 * kLanes;
        } else {
          along<kMax, 1>(at, n);
        }
        x += n;
      }
    }
  }
};

}  // namespace
}  // namespace zoo
