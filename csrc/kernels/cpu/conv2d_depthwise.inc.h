// One filter per channel (groups == in_channels == out_channels), any window. Lanes run over
// channels; tensors whose channels are apart go through channels_last copies.
#pragma once

#include "conv2d_depthwise_rows.inc.h"
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
int64_t depthwise_workspace_bytes(const Conv2dParams& p, int32_t threads) {
  const DepthwisePlan plan = plan_depthwise<T>(p, threads);
  return (plan.staged ? staging_bytes<T>(p) : 0) + plan.map_bytes * threads;
}

template <typename T>
void depthwise_run(const Conv2dParams& p, const T* input, const T* weight, const T* bias,
                   const T* residual, T* output, void* workspace, const Parallel& parallel) {
  const DepthwisePlan plan = plan_depthwise<T>(p, parallel.threads);
  DepthwiseRows<T> depthwise{p, input, p.input, weight, bias, residual};
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
          depthwise.row(image, y, {0, p.out_w}, slice, map, plan.slice);
          from_channels_last(map, plan.slice, to, p.output, p.out_w, slice.end - slice.begin);
        } else {
          depthwise.row(image, y, {0, p.out_w}, slice, to, p.output.w);
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
                       depthwise.row(image, y, {0, p.out_w}, slice, target.at(image, slice.begin, y, 0),
                                     plan.slice);
                     }
                   });
    }
  });
}

}  // namespace
}  // namespace zoo
