// One filter per channel (groups == in_channels == out_channels), any window. Lanes run over
// channels; tensors whose channels are apart go through channels_last copies.
#pragma once

#include "activation.inc.h"
#include "common.inc.h"
#include "conv2d_pooled.inc.h"
#include "layout.inc.h"

namespace zoo {
namespace {

struct DepthwisePlan {
  bool staged;            // the input is first copied to channels_last
  int64_t slice, slices;  // channels in a unit (at most)
  PooledPlan pooled;
  int64_t map_bytes;  // a thread's rows: what the pool reads, or what is transposed on its way out
};

template <typename T>
DepthwisePlan plan_depthwise(const Conv2dParams& p, int32_t threads) {
  DepthwisePlan plan{};
  plan.staged = apart(p.input, p.in_channels);
  // A slice's weights and input rows stay in cache; where rows are few, slices feed the threads.
  const bool few = p.batch * p.out_h < 4 * threads;
  plan.slice = lesser(few ? 64 : 256, larger(p.out_channels, 1));
  int64_t map_rows = apart(p.output, p.out_channels) ? 1 : 0;
  if (p.pool != Pool::none) {
    const Window& w = p.pool_window;
    const int64_t least = lesser((w.kernel_h - 1) * w.dilation_h + 1, p.out_h);
    const int64_t row_bytes = larger(least * p.out_w, 1) * 16 * int64_t{sizeof(T)};
    plan.slice = lesser(plan.slice, 16 * clamp(131072 / row_bytes, 1, 16));
    const int64_t units = p.batch * ceil_div(p.out_channels, plan.slice);
    plan.pooled = plan_pooled(p, units, 1, threads);
    map_rows = plan.pooled.map_rows;
  }
  plan.map_bytes = round_up(map_rows * p.out_w * plan.slice * int64_t{sizeof(T)}, 64);
  plan.slices = ceil_div(p.out_channels, plan.slice);
  return plan;
}

template <typename T>
struct Depthwise {
  using V = Vec<T>;

  const Conv2dParams& p;
  const T* input;
  Strides in;  // of input; channels together
  const T* weight;
  const T* bias;
  const T* residual;

  // Output positions that see the same taps, and the pointers that belong to the first of them
  // at the first channel.
  struct Place {
    Range rows, columns;  // the taps inside the map
    const T* input;       // at the first of these taps
    const T* weight;
    const T* bias;
    const T* residual;
    T* output;
    int64_t step;  // of the output, from a position to the next
  };

  // P positions times C vectors of n lanes, from channel c on.
  template <int P, int C, typename Load>
  [[gnu::always_inline]] void tile(const Place& at, int64_t c, int64_t n, Load load) const {
    constexpr int64_t kLanes = V::kLanes;
    const Window& w = p.window;
    const int64_t padded = round_up(p.out_channels, kPanel);
    const int64_t hop = w.stride_w * in.w;  // from a position to the next
    V sum[P][C];
    ZOO_UNROLL
    for (int j = 0; j < C; ++j) {
      V start = V::zero();
      if (at.bias != nullptr) start = load_lanes(at.bias + c + j * kLanes, 1, n);
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
          const V f = V::load(factor + j * kLanes);
          ZOO_UNROLL
          for (int i = 0; i < P; ++i) {
            sum[i][j] = fma(load(from + i * hop + j * kLanes), f, sum[i][j]);
          }
        }
        from += w.dilation_w * in.w;
        factor += padded;
      }
      row += w.dilation_h * in.h;
      factors += w.kernel_w * padded;
    }
    ZOO_UNROLL
    for (int i = 0; i < P; ++i) {
      ZOO_UNROLL
      for (int j = 0; j < C; ++j) {
        const int64_t channel = c + j * kLanes;
        V value = sum[i][j];
        if (at.residual != nullptr) {
          const T* more = at.residual + i * p.residual.w + channel * p.residual.c;
          value = value + load_lanes(more, p.residual.c, n);
        }
        store_lanes(activate(p.activation, value), at.output + i * at.step + channel, 1, n);
      }
    }
  }

  // P positions, all channels.
  template <int P, int C>
  [[gnu::noinline]] void across(const Place& at, int64_t channels) const {
    constexpr int64_t kLanes = V::kLanes;
    int64_t c = 0;
    for (; c + C * kLanes <= channels; c += C * kLanes) {
      tile<P, C>(at, c, kLanes, LoadAll<T>{});
    }
    for (; c + kLanes <= channels; c += kLanes) tile<P, 1>(at, c, kLanes, LoadAll<T>{});
    const int64_t n = channels - c;
    if (n > 0) tile<P, 1>(at, c, n, LoadFirst<T>{n});
  }

  // Row y of the channels, to positions that are `step` apart and hold their channels together.
  void row(int64_t image, int64_t y, Range channels, T* output, int64_t step) const {
    const Window& w = p.window;
    const Range rows = taps_inside(y * w.stride_h - w.pad_h, w.kernel_h, w.dilation_h, p.in_h);
    const Range inside = interior(p.out_w, p.in_w, w.kernel_w, w.stride_w, w.pad_w, w.dilation_w);
    const int64_t h0 = y * w.stride_h - w.pad_h + rows.begin * w.dilation_h;
    const int64_t count = channels.end - channels.begin;
    for (int64_t x = 0; x < p.out_w;) {
      const Range columns = taps_inside(x * w.stride_w - w.pad_w, w.kernel_w, w.dilation_w, p.in_w);
      const int64_t w0 = x * w.stride_w - w.pad_w + columns.begin * w.dilation_w;
      const int64_t tap = rows.begin * w.kernel_w + columns.begin;
      const Place at{
          rows,
          columns,
          input + offset(in, image, channels.begin, h0, w0),
          weight + tap * round_up(p.out_channels, kPanel) + channels.begin,
          bias == nullptr ? nullptr : bias + channels.begin,
          residual == nullptr ? nullptr
                              : residual + offset(p.residual, image, channels.begin, y, x),
          output + x * step,
          step,
      };
      // Columns from x on that see the same taps.
      const int64_t room = x >= inside.begin && x < inside.end ? inside.end - x : 1;
      if (room >= 8) {
        across<8, 1>(at, count);
        x += 8;
      } else if (room >= 4) {
        across<4, 2>(at, count);
        x += 4;
      } else {
        across<1, 4>(at, count);
        ++x;
      }
    }
  }
};

template <typename T>
int64_t depthwise_workspace_bytes(const Conv2dParams& p, int32_t threads) {
  const DepthwisePlan plan = plan_depthwise<T>(p, threads);
  return (plan.staged ? staging_bytes<T>(p) : 0) + plan.map_bytes * threads;
}

template <typename T>
void depthwise_run(const Conv2dParams& p, const T* input, const T* weight, const T* bias,
                   const T* residual, T* output, void* workspace, const Parallel& parallel) {
  const DepthwisePlan plan = plan_depthwise<T>(p, parallel.threads);
  Depthwise<T> depthwise{p, input, p.input, weight, bias, residual};
  char* maps = static_cast<char*>(workspace);
  if (plan.staged) {
    T* const staged = static_cast<T*>(workspace);
    to_channels_last(p, input, staged, parallel);
    depthwise.input = staged;
    depthwise.in = staged_strides(p);
    maps += staging_bytes<T>(p);
  }
  const auto map_of = [&](int32_t thread) {
    return reinterpret_cast<T*>(maps + thread * plan.map_bytes);
  };
  const auto channels = [&](int64_t i) {
    return Range{i * plan.slice, lesser((i + 1) * plan.slice, p.out_channels)};
  };

  if (p.pool == Pool::none) {
    const int64_t units = p.batch * plan.slices * p.out_h;
    parallel_for(parallel, units, [&](int64_t begin, int64_t end, int32_t thread) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t rest = i / p.out_h, image = rest / plan.slices, y = i % p.out_h;
        const Range slice = channels(rest % plan.slices);
        T* const to = output + offset(p.output, image, slice.begin, y, 0);
        if (apart(p.output, p.out_channels)) {
          T* const map = map_of(thread);
          depthwise.row(image, y, slice, map, plan.slice);
          from_channels_last(map, plan.slice, to, p.output, p.out_w, slice.end - slice.begin);
        } else {
          depthwise.row(image, y, slice, to, p.output.w);
        }
      }
    });
    return;
  }

  const Strides map_strides{0, 1, p.out_w * plan.slice, plan.slice};
  const int64_t strips = plan.pooled.strips;
  const int64_t units = p.pool_h * p.pool_w > 0 ? p.batch * plan.slices * strips : 0;
  parallel_for(parallel, units, [&](int64_t begin, int64_t end, int32_t thread) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t rest = i / strips, image = rest / plan.slices;
      const Range slice = channels(rest % plan.slices);
      pooled_strip(p, plan.pooled, image, slice, part(p.pool_h, strips, i % strips), map_of(thread),
                   map_strides, output, [&](Range rows, const Target<T>& target) {
                     for (int64_t y = rows.begin; y < rows.end; ++y) {
                       depthwise.row(image, y, slice, target.at(image, slice.begin, y, 0),
                                     plan.slice);
                     }
                   });
    }
  });
}

}  // namespace
}  // namespace zoo
