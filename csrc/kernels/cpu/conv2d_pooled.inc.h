// The fused pool: convolution rows go to a small map in the thread's workspace and are pooled
// from there. Rows that the next windows need again are kept, not computed twice.
#pragma once

#include "pool2d_window.inc.h"

namespace zoo {
namespace {

// How much of the convolution's output a thread holds: enough rows for `step` pooled ones.
struct PooledPlan {
  int64_t step;      // pooled rows made at a time
  int64_t map_rows;  // convolution rows that these see
  int64_t strips;    // pieces that a map's pooled rows are cut into, for the threads
};

// `units` is the number of (image, channel slice) pairs; a slice has `channels` channels.
inline PooledPlan plan_pooled(const Conv2dParams& p, int64_t units, int64_t rows_wanted,
                              int32_t threads) {
  PooledPlan plan;
  const Window& w = p.pool_window;
  plan.step = clamp(ceil_div(rows_wanted, w.stride_h), 1, larger(p.pool_h, 1));
  plan.map_rows =
      lesser((plan.step - 1) * w.stride_h + (w.kernel_h - 1) * w.dilation_h + 1, p.out_h);
  const bool even = units % threads == 0 || units >= 8 * threads;
  plan.strips = even ? 1 : lesser(p.pool_h, threads);
  return plan;
}

// Pooled rows [ys.begin, ys.end) of the channels. compute(begin, end, target) makes convolution
// rows of this image and these channels.
template <typename T, typename Compute>
void pooled_strip(const Conv2dParams& p, const PooledPlan& plan, int64_t image, Range channels,
                  Range ys, T* map, const Strides& map_strides, T* output, Compute compute) {
  Pool2dParams pool;
  pool.batch = 1;
  pool.channels = channels.end - channels.begin;
  pool.in_h = p.out_h;
  pool.in_w = p.out_w;
  pool.out_h = p.pool_h;
  pool.out_w = p.pool_w;
  pool.window = p.pool_window;
  pool.input = map_strides;
  pool.output = p.output;
  const Target<T> pooled{output + offset(p.output, image, channels.begin, 0, 0), p.output};

  const Window& w = p.pool_window;
  Range have{0, 0};  // the convolution rows in the map
  for (int64_t y = ys.begin; y < ys.end; y += plan.step) {
    const int64_t y_end = lesser(y + plan.step, ys.end);
    const int64_t begin = clamp(y * w.stride_h - w.pad_h, 0, p.out_h);
    const int64_t end = clamp(
        (y_end - 1) * w.stride_h - w.pad_h + (w.kernel_h - 1) * w.dilation_h + 1, begin, p.out_h);
    if (begin < have.end) {
      __builtin_memmove(map, map + (begin - have.begin) * map_strides.h,
                        static_cast<std::size_t>((have.end - begin) * map_strides.h) * sizeof(T));
    } else {
      have.end = begin;
    }
    have.begin = begin;
    if (end > have.end) {
      compute(Range{have.end, end}, Target<T>{map, map_strides, image, channels.begin, begin});
      have.end = end;
    }
    const Pooling<T> pooling{pool, map, begin, pooled, nullptr};
    for (int64_t row = y; row < y_end; ++row) {
      if (p.pool == Pool::max) {
        pooling.template row<true>(0, row, {0, pool.channels});
      } else {
        pooling.template row<false>(0, row, {0, pool.channels});
      }
    }
  }
}

}  // namespace
}  // namespace zoo
