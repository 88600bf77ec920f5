// One filter per channel (groups == in_channels == out_channels), any window. Lanes are columns
// where these are together in input and output, and the window is a usual one; otherwise channels,
// and tensors whose channels are apart go through channels_last copies. Where pixels would crowd
// each other out of L1, a unit of work copies what it reads.
#pragma once

#include "conv2d_depthwise_planes.inc.h"
#include "conv2d_depthwise_rows.inc.h"

namespace zoo {
namespace {

template <typename T>
int64_t depthwise_workspace_bytes(const Conv2dParams& p, int32_t threads) {
  const DepthwisePlan plan = plan_depthwise<T>(p, threads);
  return (plan.staged ? staging_bytes<T>(p) : 0) + plan.thread_bytes() * threads;
}

template <typename T>
void depthwise_run(const Conv2dParams& p, const T* input, const T* weight, const T* bias,
                   const T* residual, T* output, void* workspace, const Parallel& parallel) {
  const DepthwisePlan plan = plan_depthwise<T>(p, parallel.threads);
  const DepthwisePlanes<T> planes{p, plan.lines, input, weight, bias, residual};
  DepthwiseRows<T> channels_last{p, input, p.input, weight, bias, residual, plan.fetch};
  char* memory = static_cast<char*>(workspace);
  if (plan.staged) {
    T* const staged = static_cast<T*>(workspace);
    to_channels_last(p, input, staged, parallel);
    channels_last.input = staged;
    channels_last.in = staged_strides(p);
    memory += staging_bytes<T>(p);
  }
  const auto lines_of = [&](int32_t thread) {
    return reinterpret_cast<T*>(memory + thread * plan.thread_bytes());
  };
  const auto map_of = [&](int32_t thread) {
    return reinterpret_cast<T*>(memory + thread * plan.thread_bytes() + plan.lines.bytes);
  };
  const auto copy_of = [&](int64_t thread) {
    return reinterpret_cast<T*>(memory + (thread + 1) * plan.thread_bytes() - plan.copy_bytes);
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
        if (plan.planes) {
          planes.rows(image, slice.begin, ys, to, p.output.h, lines_of(thread));
          continue;
        }
        const DepthwiseRows<T> near =
            plan.copy_bytes > 0
                ? channels_last.from_copy(image, ys, slice, copy_of(thread), plan.copy_pixel)
                : channels_last;
        if (!apart(p.output, p.out_channels)) {
          near.rows(image, ys, slice, to, p.output.h, p.output.w);
          continue;
        }
        T* const map = map_of(thread);
        const int64_t row = p.out_w * plan.slice;
        near.rows(image, ys, slice, map, row, plan.slice);
        for (int64_t y = ys.begin; y < ys.end; ++y) {
          from_channels_last(map + (y - ys.begin) * row, plan.slice,
                             to + (y - ys.begin) * p.output.h, p.output, p.out_w,
                             slice.end - slice.begin);
        }
      }
    });
    return;
  }

  // Of planes, whose slice is one channel, the columns are together: the same strides.
  const Strides map_strides{0, 1, p.out_w * plan.slice, plan.slice};
  const int64_t strips = plan.pooled.strips;
  const int64_t units = p.pool_h * p.pool_w > 0 ? p.batch * plan.slices * strips : 0;
  parallel_for(parallel, units, [&](int64_t begin, int64_t end, int32_t thread) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t rest = i / strips, image = rest / plan.slices;
      const Range slice = channels(rest % plan.slices);
      pooled_strip(p, plan.pooled, image, slice, part(p.pool_h, strips, i % strips), map_of(thread),
                   map_strides, output, [&](Range rows, const Target<T>& target) {
                     T* const to = target.at(image, slice.begin, rows.begin, 0);
                     if (plan.planes) {
                       return planes.rows(image, slice.begin, rows, to, map_strides.h,
                                          lines_of(thread));
                     }
                     channels_last.rows(image, rows, slice, to, map_strides.h, map_strides.w);
                   });
    }
  });
}

}  // namespace
}  // namespace zoo
