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
    const int64_t least = lesser(
        (p.pool_window.kernel_h - 1) * p.pool_window.dilation_h + 1, p.out_h);
    const int64_t row_bytes = larger(least * p.out_w, 1) * 16 * int64_t{sizeof(T)};
    plan.slice = lesser(plan.slice, 16 * clamp(131072 / row_bytes, 1, 16));
    const int64_t units = p.batch * ceil_div(p.out_channels, plan.slice);
    plan.pooled = plan_pooled(p, units, 1, threads);
    plan.map_bytes =
        round_up(plan.pooled.map_rows * p.out_w * plan.slice * int64_t{sizeof(T)}, 64);
  }
  plan.slices = ceil_div(p.out_channels, plan.slice);
  return plan;
}

template <typename T>
struct Depthwise {
  using V = Vec<T>;

  const Conv2dParams& p;
  const T* input;
  const T* weight;
  const T* bias;
  const T* residual;

  // Results of `P` positions times n lanes whose windows are cut to the same taps. Positions are
  // columns and lanes channels, or positions are vectors of columns and lanes these columns.
  template <int P, bool kChannels, typename Load>
  void tile(int64_t image, int64_t channel, int64_t y, int64_t x, Range rows, Range columns,
            int64_t n, const Target<T>& target, Load load) const {
    const Window& w = p.window;
    const int64_t padded = round_up(p.out_channels, kPanel);
    const int64_t step = kChannels ? 1 : V::kLanes;  // columns from a position to the next
    V sum[P];
    V start = V::zero();
    if (bias != nullptr) {
      start = kChannels ? V::load(bias + channel, n) : V::broadcast(bias[channel]);
    }
    ZOO_UNROLL
    for (int i = 0; i < P; ++i) sum[i] = start;
    const int64_t apart = step * w.stride_w * p.input.w;
    const int64_t h0 = y * w.stride_h - w.pad_h, w0 = x * w.stride_w - w.pad_w;
    for (int64_t r = rows.begin; r < rows.end; ++r) {
      const T* from = input + offset(p.input, image, channel, h0 + r * w.dilation_h,
                                     w0 + columns.begin * w.dilation_w);
      const T* factor = weight + (r * w.kernel_w + columns.begin) * padded + channel;
      for (int64_t s = columns.begin; s < columns.end; ++s) {
        const V f = kChannels ? V::load(factor) : V::broadcast(*factor);
        ZOO_UNROLL
        for (int i = 0; i < P; ++i) sum[i] = fma(load(from + i * apart), f, sum[i]);
        from += w.dilation_w * p.input.w;
        factor += padded;
      }
    }
    const int64_t out_lane = kChannels ? target.strides.c : target.strides.w;
    const int64_t more_lane = kChannels ? p.residual.c : p.residual.w;
    ZOO_UNROLL
    for (int i = 0; i < P; ++i) {
      V value = sum[i];
      if (residual != nullptr) {
        value = value + load_lanes(residual + offset(p.residual, image, channel, y, x + i * step),
                                   more_lane, n);
      }
      store_lanes(activate(p.activation, value), target.at(image, channel, y, x + i * step),
                  out_lane, n);
    }
  }

  template <bool kChannels, typename Load>
  void tile_of(int64_t positions, int64_t image, int64_t channel, int64_t y, int64_t x,
               Range rows, Range columns, int64_t n, const Target<T>& target, Load load) const {
    if (positions == 8) {
      tile<8, kChannels>(image, channel, y, x, rows, columns, n, target, load);
    } else if (positions == 4) {
      tile<4, kChannels>(image, channel, y, x, rows, columns, n, target, load);
    } else {
      tile<1, kChannels>(image, channel, y, x, rows, columns, n, target, load);
    }
  }

  static int64_t positions_for(int64_t room) { return room >= 8 ? 8 : room >= 4 ? 4 : 1; }

  void row(int64_t image, int64_t y, Range channels, const Target<T>& target) const {
    const Window& w = p.window;
    const Range rows =
        taps_inside(y * w.stride_h - w.pad_h, w.kernel_h, w.dilation_h, p.in_h);
    const Range inside =
        interior(p.out_w, p.in_w, w.kernel_w, w.stride_w, w.pad_w, w.dilation_w);
    const auto room = [&](int64_t x) {
      return x >= inside.begin && x < inside.end ? inside.end - x : int64_t{1};
    };
    const auto taps = [&](int64_t x) {
      return taps_inside(x * w.stride_w - w.pad_w, w.kernel_w, w.dilation_w, p.in_w);
    };
    if (lanes_are_channels(p)) {
      for (int64_t x = 0; x < p.out_w;) {
        const int64_t positions = positions_for(room(x));
        const Range columns = taps(x);
        for (int64_t c = channels.begin; c < channels.end; c += V::kLanes) {
          const int64_t n = lesser(V::kLanes, channels.end - c);
          with_lanes<T>(1, n, [&](auto load) {
            tile_of<true>(positions, image, c, y, x, rows, columns, n, target, load);
          });
        }
        x += positions;
      }
      return;
    }
    const int64_t lane = w.stride_w * p.input.w;
    for (int64_t c = channels.begin; c < channels.end; ++c) {
      for (int64_t x = 0; x < p.out_w;) {
        const int64_t n = lesser(V::kLanes, room(x));
        const int64_t positions = positions_for(room(x) / V::kLanes);
        with_lanes<T>(lane, n, [&](auto load) {
          tile_of<false>(positions, image, c, y, x, rows, taps(x), n, target, load);
        });
        x += positions == 1 ? n : positions * V::kLanes;
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
    parallel_for(parallel, p.batch * plan.slices * p.out_h,
                 [&](int64_t begin, int64_t end, int32_t) {
                   for (int64_t i = begin; i < end; ++i) {
                     const int64_t rest = i / p.out_h;
                     depthwise.row(rest / plan.slices, i % p.out_h, channels(rest % plan.slices),
                                   target);
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
