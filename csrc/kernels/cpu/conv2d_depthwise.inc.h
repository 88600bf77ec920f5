// One filter per channel (groups == in_channels == out_channels), any window. Lanes run over
// channels when those lie together (channels_last), otherwise over the output's columns.
#pragma once

#include "activation.inc.h"
#include "common.inc.h"
#include "conv2d_pooled.inc.h"

namespace zoo {
namespace {

struct DepthwisePlan {
  int64_t slice, slices;  // channels in a unit (at most)
  PooledPlan pooled;
  int64_t map_bytes;  // a thread's workspace
};

inline bool lanes_are_channels(const Conv2dParams& p) {
  return p.input.c == 1 && p.in_channels > 1;
}

template <typename T>
DepthwisePlan plan_depthwise(const Conv2dParams& p, int32_t threads) {
  DepthwisePlan plan{};
  // A slice's weights and input rows stay in cache; where rows are few, slices feed the threads.
  const bool few = p.batch * p.out_h < 4 * threads;
  const int64_t wide = lanes_are_channels(p) ? (few ? 64 : 256) : 16;
  plan.slice = lesser(wide, larger(p.out_channels, 1));
  if (p.pool != Pool::none) {
    const int64_t least =
        lesser((p.pool_window.kernel_h - 1) * p.pool_window.dilation_h + 1, p.out_h);
    const int64_t row_bytes = larger(least * p.out_w, 1) * 16 * int64_t{sizeof(T)};
    plan.slice = lesser(plan.slice, 16 * clamp(131072 / row_bytes, 1, 16));
    const int64_t units = p.batch * ceil_div(p.out_channels, plan.slice);
    plan.pooled = plan_pooled(p, units, 1, threads);
    plan.map_bytes = round_up(plan.pooled.map_rows * p.out_w * plan.slice * int64_t{sizeof(T)}, 64);
  }
  plan.slices = ceil_div(p.out_channels, plan.slice);
  return plan;
}

// Output positions that see the same taps, and the pointers that belong to the first of them at
// the first channel.
template <typename T>
struct DepthwisePlace {
  Range rows, columns;  // the taps inside the map
  const T* input;       // at the first of these taps
  const T* weight;
  const T* bias;
  const T* residual;
  T* output;
};

template <typename T>
struct Depthwise {
  using V = Vec<T>;
  using Place = DepthwisePlace<T>;

  const Conv2dParams& p;
  const T* input;
  const T* weight;
  const T* bias;
  const T* residual;

  Place place(int64_t image, int64_t channel, int64_t y, int64_t x, Range rows, Range columns,
              const Target<T>& target) const {
    const Window& w = p.window;
    const int64_t h0 = y * w.stride_h - w.pad_h + rows.begin * w.dilation_h;
    const int64_t w0 = x * w.stride_w - w.pad_w + columns.begin * w.dilation_w;
    const int64_t tap = rows.begin * w.kernel_w + columns.begin;
    return {rows,
            columns,
            input + offset(p.input, image, channel, h0, w0),
            weight + tap * round_up(p.out_channels, kPanel) + channel,
            bias == nullptr ? nullptr : bias + channel,
            residual == nullptr ? nullptr : residual + offset(p.residual, image, channel, y, x),
            target.at(image, channel, y, x)};
  }

  // P positions times C vectors of n lanes. With kChannels, positions are columns and the
  // vectors lie along the channels from c on; otherwise positions are vectors of columns, of one
  // channel, and C is 1.
  template <int P, int C, bool kChannels, typename Load>
  [[gnu::always_inline]] void tile(const Place& at, int64_t c, int64_t n, const Target<T>& target,
                                   Load load) const {
    constexpr int64_t kLanes = V::kLanes, kStep = kChannels ? 1 : kLanes;
    const Window& w = p.window;
    const int64_t padded = round_up(p.out_channels, kPanel);
    const int64_t apart = kStep * w.stride_w * p.input.w;  // from a position to the next
    V sum[P][C];
    ZOO_UNROLL
    for (int j = 0; j < C; ++j) {
      V start = V::zero();
      if (at.bias != nullptr) {
        start = kChannels ? load_lanes(at.bias + c + j * kLanes, 1, n) : V::broadcast(*at.bias);
      }
      ZOO_UNROLL
      for (int i = 0; i < P; ++i) sum[i][j] = start;
    }
    const T* row = at.input + c;
    const T* factors = at.weight + c;
    for (int64_t r = at.rows.begin; r < at.rows.end; ++r) {
      const T* from = row;
      const T* factor = factors;
      for (int64_t s = at.columns.begin; s < at.columns.end; ++s) {
        ZOO_UNROLL
        for (int j = 0; j < C; ++j) {
          const V f = kChannels ? V::load(factor + j * kLanes) : V::broadcast(*factor);
          ZOO_UNROLL
          for (int i = 0; i < P; ++i) {
            sum[i][j] = fma(load(from + i * apart + j * kLanes), f, sum[i][j]);
          }
        }
        from += w.dilation_w * p.input.w;
        factor += padded;
      }
      row += w.dilation_h * p.input.h;
      factors += w.kernel_w * padded;
    }
    const int64_t out_lane = kChannels ? target.strides.c : target.strides.w;
    const int64_t more_lane = kChannels ? p.residual.c : p.residual.w;
    T* to = at.output + c * target.strides.c;
    const T* more = at.residual == nullptr ? nullptr : at.residual + c * p.residual.c;
    ZOO_UNROLL
    for (int i = 0; i < P; ++i) {
      ZOO_UNROLL
      for (int j = 0; j < C; ++j) {
        V value = sum[i][j];
        if (more != nullptr) {
          value = value + load_lanes(more + i * kStep * p.residual.w + j * kLanes * more_lane,
                                     more_lane, n);
        }
        store_lanes(activate(p.activation, value),
                    to + i * kStep * target.strides.w + j * kLanes * out_lane, out_lane, n);
      }
    }
  }

  // P columns of the output, all channels.
  template <int P, int C>
  [[gnu::noinline]] void across(const Place& at, int64_t channels, const Target<T>& target) const {
    constexpr int64_t kLanes = V::kLanes;
    int64_t c = 0;
    for (; c + C * kLanes <= channels; c += C * kLanes) {
      tile<P, C, true>(at, c, kLanes, target, LoadAll<T>{});
    }
    for (; c + kLanes <= channels; c += kLanes) {
      tile<P, 1, true>(at, c, kLanes, target, LoadAll<T>{});
    }
    const int64_t n = channels - c;
    if (n > 0) tile<P, 1, true>(at, c, n, target, LoadFirst<T>{n});
  }

  // P vectors of n columns, of one channel.
  template <int P>
  [[gnu::noinline]] void along(const Place& at, int64_t n, const Target<T>& target) const {
    with_lanes<T>(p.window.stride_w * p.input.w, n,
                  [&](auto load) { tile<P, 1, false>(at, 0, n, target, load); });
  }

  // n columns from x on, of one channel, that do not all see the same taps: lanes that a tap
  // lets see nothing add 0.
  [[gnu::noinline]] void along_edge(const Place& at, int64_t x, int64_t n,
                                    const Target<T>& target) const {
    const Window& w = p.window;
    const int64_t lane = w.stride_w * p.input.w, padded = round_up(p.out_channels, kPanel);
    V sum = at.bias == nullptr ? V::zero() : V::broadcast(*at.bias);
    for (int64_t s = 0; s < w.kernel_w; ++s) {
      const int64_t first = x * w.stride_w - w.pad_w + s * w.dilation_w;  // of lane 0
      const Range lanes = taps_inside(first, n, w.stride_w, p.in_w);
      if (lanes.begin == lanes.end) continue;
      const T* from = at.input + first * p.input.w;
      const T* factor = at.weight + s * padded;
      for (int64_t r = at.rows.begin; r < at.rows.end; ++r) {
        V value;
        if (lane == 1) {
          value = V::load(from, lanes.begin, lanes.end);
        } else {
          alignas(64) T apart[V::kLanes] = {};
          for (int64_t i = lanes.begin; i < lanes.end; ++i) apart[i] = from[i * lane];
          value = V::load(apart);
        }
        sum = fma(value, V::broadcast(*factor), sum);
        from += w.dilation_h * p.input.h;
        factor += w.kernel_w * padded;
      }
    }
    if (at.residual != nullptr) sum = sum + load_lanes(at.residual, p.residual.w, n);
    store_lanes(activate(p.activation, sum), at.output, target.strides.w, n);
  }

  // Output row y of the channels.
  void row(int64_t image, int64_t y, Range channels, const Target<T>& target) const {
    const Window& w = p.window;
    const Range rows = taps_inside(y * w.stride_h - w.pad_h, w.kernel_h, w.dilation_h, p.in_h);
    const Range inside = interior(p.out_w, p.in_w, w.kernel_w, w.stride_w, w.pad_w, w.dilation_w);
    if (lanes_are_channels(p)) {
      const int64_t count = channels.end - channels.begin;
      for (int64_t x = 0; x < p.out_w;) {
        const Range columns =
            taps_inside(x * w.stride_w - w.pad_w, w.kernel_w, w.dilation_w, p.in_w);
        const Place at = place(image, channels.begin, y, x, rows, columns, target);
        // Columns from x on that see the same taps.
        const int64_t room = x >= inside.begin && x < inside.end ? inside.end - x : 1;
        if (room >= 8) {
          across<8, 1>(at, count, target);
          x += 8;
        } else if (room >= 4) {
          across<4, 2>(at, count, target);
          x += 4;
        } else {
          across<1, 4>(at, count, target);
          ++x;
        }
      }
      return;
    }
    constexpr int64_t kLanes = V::kLanes;
    const Range all{0, w.kernel_w};
    for (int64_t c = channels.begin; c < channels.end; ++c) {
      for (int64_t x = 0; x < p.out_w;) {
        const int64_t n = lesser(kLanes, p.out_w - x);
        if (x < inside.begin || x + n > inside.end) {
          Place at = place(image, c, y, x, rows, all, target);
          at.input -= (x * w.stride_w - w.pad_w) * p.input.w;  // at column 0 instead
          along_edge(at, x, n, target);
          x += n;
        } else if (x + 4 * kLanes <= inside.end) {
          along<4>(place(image, c, y, x, rows, all, target), kLanes, target);
          x += 4 * kLanes;
        } else {
          along<1>(place(image, c, y, x, rows, all, target), n, target);
          x += n;
        }
      }
    }
  }
};

template <typename T>
int64_t depthwise_workspace_bytes(const Conv2dParams& p, int32_t threads) {
  return plan_depthwise<T>(p, threads).map_bytes * threads;
}

template <typename T>
void depthwise_run(const Conv2dParams& p, const T* input, const T* weight, const T* bias,
                   const T* residual, T* output, void* workspace, const Parallel& parallel) {
  const DepthwisePlan plan = plan_depthwise<T>(p, parallel.threads);
  const Depthwise<T> depthwise{p, input, weight, bias, residual};
  const auto channels = [&](int64_t i) {
    return Range{i * plan.slice, lesser((i + 1) * plan.slice, p.out_channels)};
  };

  if (p.pool == Pool::none) {
    const Target<T> target{output, p.output};
    parallel_for(
        parallel, p.batch * plan.slices * p.out_h, [&](int64_t begin, int64_t end, int32_t) {
          for (int64_t i = begin; i < end; ++i) {
            const int64_t rest = i / p.out_h;
            depthwise.row(rest / plan.slices, i % p.out_h, channels(rest % plan.slices), target);
          }
        });
    return;
  }

  // The map has the input's layout within a row: the same lanes are together.
  const Strides map_strides = lanes_are_channels(p)
                                  ? Strides{0, 1, p.out_w * plan.slice, plan.slice}
                                  : Strides{0, p.out_w, p.out_w * plan.slice, 1};
  const int64_t strips = plan.pooled.strips;
  const int64_t units = p.pool_h * p.pool_w > 0 ? p.batch * plan.slices * strips : 0;
  parallel_for(parallel, units, [&](int64_t begin, int64_t end, int32_t thread) {
    T* const map = reinterpret_cast<T*>(static_cast<char*>(workspace) + thread * plan.map_bytes);
    for (int64_t i = begin; i < end; ++i) {
      const int64_t rest = i / strips, image = rest / plan.slices;
      const Range slice = channels(rest % plan.slices);
      pooled_strip(p, plan.pooled, image, slice, part(p.pool_h, strips, i % strips), map,
                   map_strides, output, [&](Range rows, const Target<T>& target) {
                     for (int64_t y = rows.begin; y < rows.end; ++y) {
                       depthwise.row(image, y, slice, target);
                     }
                   });
    }
  });
}

}  // namespace
}  // namespace zoo
