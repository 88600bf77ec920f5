// Max and average pooling over maps of any strides. Lanes run over channels when those lie
// together (channels_last), otherwise over the output's columns.
#pragma once

#include "common.inc.h"

namespace zoo {
namespace {

template <typename T>
struct Pooling {
  const Pool2dParams& p;
  const T* input;     // starts at row `first_row` of its maps
  int64_t first_row;  // other than 0 when a fused kernel holds only some rows
  Target<T> output;
  int64_t* indices;  // null, or with output's strides

  bool lanes_are_channels() const { return p.input.c == 1 && p.channels > 1; }

  // The rows of the map that output row y sees.
  Range taps_h(int64_t y) const {
    return taps_inside(y * p.window.stride_h - p.window.pad_h, p.window.kernel_h,
                       p.window.dilation_h, p.in_h);
  }
  Range taps_w(int64_t x) const {
    return taps_inside(x * p.window.stride_w - p.window.pad_w, p.window.kernel_w,
                       p.window.dilation_w, p.in_w);
  }

  // PyTorch's divisor of an average.
  T divisor(int64_t y, int64_t x, Range rows, Range columns) const {
    if (p.divisor_override != 0) return static_cast<T>(p.divisor_override);
    if (!p.count_include_pad) {
      return static_cast<T>((rows.end - rows.begin) * (columns.end - columns.begin));
    }
    const int64_t h = y * p.window.stride_h - p.window.pad_h;
    const int64_t w = x * p.window.stride_w - p.window.pad_w;
    return static_cast<T>((lesser(h + p.window.kernel_h, p.in_h + p.window.pad_h) - h) *
                          (lesser(w + p.window.kernel_w, p.in_w + p.window.pad_w) - w));
  }

  // n windows whose taps are all inside; lanes are `lane` elements apart in the input and
  // `out_lane` in the output. In the map, the windows are `index_lane` columns apart.
  template <bool kMax>
  void windows(int64_t image, int64_t channel, int64_t y, int64_t x, Range rows, Range columns,
               int64_t n, int64_t lane, int64_t out_lane, int64_t index_lane) const {
    using V = Vec<T>;
    const Window& w = p.window;
    const int64_t h0 = y * w.stride_h - w.pad_h + rows.begin * w.dilation_h;
    const int64_t w0 = x * w.stride_w - w.pad_w + columns.begin * w.dilation_w;
    const int64_t count_h = rows.end - rows.begin, count_w = columns.end - columns.begin;
    const T* from = input + offset(p.input, image, channel, h0 - first_row, w0);
    const int64_t step_h = w.dilation_h * p.input.h, step_w = w.dilation_w * p.input.w;
    T* to = output.at(image, channel, y, x);
    if (count_h == 0 || count_w == 0) from = input;  // nothing will be read

    if (!kMax) {
      V sum = V::zero();
      with_lanes<T>(lane, n, [&](auto load) {
        for (int64_t r = 0; r < count_h; ++r) {
          V row = V::zero();  // a sum for each row loses less than one for all
          for (int64_t s = 0; s < count_w; ++s) row = row + load(from + r * step_h + s * step_w);
          sum = sum + row;
        }
      });
      if (count_h > 0 && count_w > 0) sum = sum / V::broadcast(divisor(y, x, rows, columns));
      return store_lanes(sum, to, out_lane, n);
    }

    V best = V::broadcast(-__builtin_inf());
    if (indices == nullptr) {
      auto nan = is_nan(best);  // nowhere yet; kept apart, so that each step waits for one max
      with_lanes<T>(lane, n, [&](auto load) {
        for (int64_t r = 0; r < count_h; ++r) {
          for (int64_t s = 0; s < count_w; ++s) {
            const V value = load(from + r * step_h + s * step_w);
            nan = V::either(nan, is_nan(value));
            best = max(best, value);
          }
        }
      });
      best = select(nan, V::broadcast(__builtin_nanf("")), best);
      return store_lanes(best, to, out_lane, n);
    }

    // As PyTorch: a later value wins if it is greater or NaN. The lanes count taps, exactly
    // while a window has fewer than 2^24.
    V place = V::zero();
    with_lanes<T>(lane, n, [&](auto load) {
      for (int64_t r = 0; r < count_h; ++r) {
        for (int64_t s = 0; s < count_w; ++s) {
          const V value = load(from + r * step_h + s * step_w);
          const auto wins = V::either(greater(value, best), is_nan(value));
          best = select(wins, value, best);
          place = select(wins, V::broadcast(static_cast<T>(r * count_w + s)), place);
        }
      }
    });
    store_lanes(best, to, out_lane, n);
    alignas(64) T places[V::kLanes];
    place.store(places);
    int64_t* index = indices + (to - output.data);
    for (int64_t i = 0; i < n; ++i) {
      const int64_t tap = static_cast<int64_t>(places[i]);
      const int64_t r = count_w > 0 ? tap / count_w : 0, s = tap - r * count_w;
      index[i * out_lane] =
          (h0 + r * w.dilation_h) * p.in_w + w0 + s * w.dilation_w + i * index_lane;
    }
  }

  // Output row y of the channels.
  template <bool kMax>
  void row(int64_t image, int64_t y, Range channels) const {
    constexpr int64_t kLanes = Vec<T>::kLanes;
    const Range rows = taps_h(y);
    if (lanes_are_channels()) {
      for (int64_t x = 0; x < p.out_w; ++x) {
        const Range columns = taps_w(x);
        for (int64_t c = channels.begin; c < channels.end; c += kLanes) {
          windows<kMax>(image, c, y, x, rows, columns, lesser(kLanes, channels.end - c), 1,
                        output.strides.c, 0);
        }
      }
      return;
    }
    const Window& w = p.window;
    const Range inside = interior(p.out_w, p.in_w, w.kernel_w, w.stride_w, w.pad_w, w.dilation_w);
    for (int64_t c = channels.begin; c < channels.end; ++c) {
      for (int64_t x = 0; x < p.out_w;) {
        const bool is_inside = x >= inside.begin && x < inside.end;
        // A full window has one divisor, except beside a clipped edge of ceil_mode: that is
        // not inside.
        const int64_t n = is_inside ? lesser(kLanes, inside.end - x) : 1;
        windows<kMax>(image, c, y, x, rows, taps_w(x), n, w.stride_w * p.input.w, output.strides.w,
                      w.stride_w);
        x += n;
      }
    }
  }
};

template <typename T, bool kMax>
void run_pool2d(const Pool2dParams& p, const T* input, T* output, int64_t* indices,
                const Parallel& parallel) {
  const Pooling<T> pooling{p, input, 0, {output, p.output}, indices};
  // Units are rows; of channel slices where rows are few, of single channels where lanes are
  // columns.
  int64_t slice = 1;
  if (pooling.lanes_are_channels()) {
    const bool few = p.batch * p.out_h < 4 * parallel.threads;
    slice = few ? larger(64, round_up(ceil_div(p.channels, parallel.threads), 16)) : p.channels;
  }
  const int64_t slices = ceil_div(p.channels, slice);
  parallel_for(parallel, p.batch * slices * p.out_h, [&](int64_t begin, int64_t end, int32_t) {
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t y = unit % p.out_h, rest = unit / p.out_h;
      const int64_t c = rest % slices * slice;
      pooling.template row<kMax>(rest / slices, y, {c, lesser(c + slice, p.channels)});
    }
  });
}

template <typename T>
void max_pool2d(const Pool2dParams& p, const T* input, T* output, int64_t* indices,
                const Parallel& parallel) {
  run_pool2d<T, true>(p, input, output, indices, parallel);
}

template <typename T>
void avg_pool2d(const Pool2dParams& p, const T* input, T* output, const Parallel& parallel) {
  run_pool2d<T, false>(p, input, output, nullptr, parallel);
}

}  // namespace
}  // namespace zoo
