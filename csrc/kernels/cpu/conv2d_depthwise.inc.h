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
  int64_t strips;         // pieces that a map's rows are cut into, without a pool
  bool fetch;             // the input is larger than L2
  PooledPlan pooled;
  int64_t map_bytes;  // a thread's rows: what the pool reads, or what is transposed on its way out
};

template <typename T>
DepthwisePlan plan_depthwise(const Conv2dParams& p, int32_t threads) {
  DepthwisePlan plan{};
  plan.staged = apart(p.input, p.in_channels);
  // A slice's weights, and the input that a block sees, stay in L1.
  const int64_t wanted = p.window.kernel_h * p.window.kernel_w > 9 ? 64 : 128;
  const int64_t slices = larger((p.out_channels + wanted / 2) / wanted, 1);
  plan.slice = round_up(larger(ceil_div(p.out_channels, slices), 1), 16);
  // A strip's input stays in L2, and threads get equal shares.
  const int64_t row_bytes = larger(p.in_w * p.window.stride_h, 1) * plan.slice * int64_t{sizeof(T)};
  plan.strips = ceil_div(p.out_h, clamp(131072 / row_bytes, 1, larger(p.out_h, 1)));
  const int64_t units = p.batch * slices * plan.strips;
  if (units % threads != 0 && units < 8 * threads) {
    plan.strips = lesser(round_up(plan.strips, threads), p.out_h);
  }
  plan.fetch = p.batch * p.in_channels * p.in_h * p.in_w * int64_t{sizeof(T)} > 1048576;
  int64_t map_rows = apart(p.output, p.out_channels) ? ceil_div(p.out_h, plan.strips) : 0;
  if (p.pool != Pool::none) {
    const Window& w = p.pool_window;
    const int64_t least = lesser((w.kernel_h - 1) * w.dilation_h + 1, p.out_h);
    const int64_t least_bytes = larger(least * p.out_w, 1) * 16 * int64_t{sizeof(T)};
    plan.slice = lesser(plan.slice, 16 * clamp(131072 / least_bytes, 1, 16));
    const int64_t pairs = p.batch * ceil_div(p.out_channels, plan.slice);
    plan.pooled = plan_pooled(p, pairs, 1, threads);
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
  DepthwiseRows<T> depthwise{p, input, p.input, weight, bias, residual, plan.fetch};
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
    const int64_t units = p.batch * plan.slices * plan.strips;
    parallel_for(parallel, units, [&](int64_t begin, int64_t end, int32_t thread) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t rest = i / plan.strips, image = rest / plan.slices;
        const Range slice = channels(rest % plan.slices);
        const Range ys = part(p.out_h, plan.strips, i % plan.strips);
        T* const to = output + offset(p.output, image, slice.begin, ys.begin, 0);
        if (!apart(p.output, p.out_channels)) {
          depthwise.rows(image, ys, slice, to, p.output.h, p.output.w);
          continue;
        }
        T* const map = map_of(thread);
        const int64_t row = p.out_w * plan.slice;
        depthwise.rows(image, ys, slice, map, row, plan.slice);
        for (int64_t y = ys.begin; y < ys.end; ++y) {
          from_channels_last(map + (y - ys.begin) * row, plan.slice,
                             to + (y - ys.begin) * p.output.h, p.output, p.out_w,
                             slice.end - slice.begin);
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
                     depthwise.rows(image, rows, slice,
                                    target.at(image, slice.begin, rows.begin, 0), map_strides.h,
                                    map_strides.w);
                   });
    }
  });
}

}  // namespace
}  // namespace zoo
