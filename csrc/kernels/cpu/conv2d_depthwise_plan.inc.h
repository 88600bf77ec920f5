// How a depthwise convolution is cut into units of work, and the memory that these need.
#pragma once

#include "conv2d_pooled.inc.h"
#include "layout.inc.h"

namespace zoo {
namespace {

// The windows that have unrolled kernels: 3x3, 5x5, 7x7 and (not for planes) 9x9 with stride 1 or
// 2. Their places in tables of kernels; -1 for all others.
inline int fixed_window(const Window& w) {
  const bool square = w.kernel_h == w.kernel_w && w.stride_h == w.stride_w && w.dilation_h == 1 &&
                      w.dilation_w == 1;
  const bool odd = w.kernel_h == 3 || w.kernel_h == 5 || w.kernel_h == 7 || w.kernel_h == 9;
  if (!square || !odd || w.stride_h > 2) return -1;
  if (w.pad_h >= w.kernel_h || w.pad_w >= w.kernel_w) return -1;
  return static_cast<int>(w.kernel_h - 3 + w.stride_h - 1);
}

// A map's rows, one channel's, copied to lines padded with zeros. With stride 2 a line has two
// phases, the columns of even and of odd windows' places.
struct DepthwiseLines {
  int64_t columns;      // of a phase
  Range inside[2];      // those that are not padding, by phase
  int64_t phase, line;  // elements from a phase and a line to the next
  int64_t rows;         // output rows that the lines serve at a time
  int64_t bytes;
};

template <typename T>
DepthwiseLines depthwise_lines(const Conv2dParams& p) {
  constexpr int64_t kLanes = Vec<T>::kLanes, kL1 = 20480;
  const Window& w = p.window;
  const int64_t reach = (w.kernel_w - 1) / w.stride_w;  // of a window, in a phase
  DepthwiseLines lines;
  lines.columns = p.out_w + reach;
  for (int64_t i = 0; i < 2; ++i) {
    const int64_t begin = larger(ceil_div(w.pad_w - i, w.stride_w), 0);
    const int64_t end = lesser(ceil_div(p.in_w + w.pad_w - i, w.stride_w), lines.columns);
    lines.inside[i] = {begin, larger(begin, end)};
  }
  lines.phase = round_up(round_up(p.out_w, kLanes) + reach, kLanes);
  lines.line = w.stride_w * lines.phase;
  const int64_t fit = kL1 / (lines.line * w.stride_h * int64_t{sizeof(T)});
  lines.rows = clamp(fit / 4 * 4, 4, round_up(p.out_h, 4));
  const int64_t count = (lines.rows - 1) * w.stride_h + w.kernel_h;
  lines.bytes = round_up((count * lines.line + kLanes) * int64_t{sizeof(T)}, 64);
  return lines;
}

// Where a pixel and the next are a large power of two apart, or a multiple of it, the pixels that a
// window sees compete for the same places in L1, 8 of each address modulo 4096: with 1024 channels
// everything takes five times as long. A copy that is packed more closely does not.
template <typename T>
bool crowded(const Conv2dParams& p, int64_t pixel) {
  const Window& w = p.window;
  const int64_t bytes = pixel * int64_t{sizeof(T)};
  const int64_t apart_by = lesser(bytes & -bytes, 4096);  // the largest power of two in it
  const int64_t columns = lesser(p.out_w, 8);
  const int64_t span = (columns - 1) * w.stride_w + (w.kernel_w - 1) * w.dilation_w + 1;
  return w.kernel_h * span * apart_by > 7 * 4096;
}

struct DepthwisePlan {
  bool planes;  // lanes are columns, and units single channels
  bool staged;  // otherwise lanes are channels; the input is first copied to channels_last
  bool fetch;   // the input is larger than L2
  int64_t slice, slices;  // channels in a unit (at most)
  int64_t strips;         // pieces that a map's rows are cut into, without a pool
  DepthwiseLines lines;   // of planes
  PooledPlan pooled;
  int64_t map_bytes;   // a thread's rows: what the pool reads, or what is transposed on its way out
  int64_t copy_bytes;  // its copy of the input that a unit sees; 0: it reads the input itself
  int64_t copy_pixel;  // elements from a pixel to the next there

  int64_t thread_bytes() const { return lines.bytes + map_bytes + copy_bytes; }
};

template <typename T>
DepthwisePlan plan_depthwise(const Conv2dParams& p, int32_t threads) {
  constexpr int64_t kL2Share = 131072, kSize = sizeof(T);
  DepthwisePlan plan{};
  // Narrow maps of many channels are faster transposed.
  const bool wide = p.out_w >= 40 || p.in_channels < Vec<T>::kLanes;
  plan.planes = wide && p.input.w == 1 && p.output.w == 1 && fixed_window(p.window) >= 0 &&
                p.window.kernel_h <= 7;
  plan.staged = !plan.planes && apart(p.input, p.in_channels);
  plan.fetch = p.batch * p.in_channels * p.in_h * p.in_w * kSize > 1048576;
  if (plan.planes) {
    plan.lines = depthwise_lines<T>(p);
    plan.slice = 1;
    plan.strips = ceil_div(p.out_h, plan.lines.rows);
  } else {
    // A slice's weights, and the input that a block sees, stay in L1; a strip's input in L2.
    const int64_t wanted = p.window.kernel_h * p.window.kernel_w > 9 ? 64 : 128;
    const int64_t slices = larger((p.out_channels + wanted / 2) / wanted, 1);
    plan.slice = round_up(larger(ceil_div(p.out_channels, slices), 1), 16);
    const int64_t row_bytes = larger(p.in_w * p.window.stride_h, 1) * plan.slice * kSize;
    plan.strips = ceil_div(p.out_h, clamp(kL2Share / row_bytes, 1, larger(p.out_h, 1)));
  }
  plan.slices = ceil_div(p.out_channels, plan.slice);
  const int64_t units = p.batch * plan.slices * plan.strips;
  if (units % threads != 0 && units < 8 * threads) {  // equal shares for the threads
    plan.strips = lesser(round_up(plan.strips, threads), p.out_h);
  }
  int64_t map_rows =
      !plan.planes && apart(p.output, p.out_channels) ? ceil_div(p.out_h, plan.strips) : 0;
  if (p.pool != Pool::none) {
    const Window& w = p.pool_window;
    const int64_t least = lesser((w.kernel_h - 1) * w.dilation_h + 1, p.out_h);
    const int64_t least_bytes = larger(least * p.out_w, 1) * 16 * kSize;
    plan.slice = lesser(plan.slice, 16 * clamp(kL2Share / least_bytes, 1, 16));
    plan.slices = ceil_div(p.out_channels, plan.slice);
    const int64_t rows = plan.planes ? plan.lines.rows : 1;
    plan.pooled = plan_pooled(p, p.batch * plan.slices, rows, threads);
    map_rows = plan.pooled.map_rows;
  }
  plan.map_bytes = round_up(map_rows * p.out_w * plan.slice * kSize, 64);
  const int64_t pixel = plan.staged ? staged_strides(p).w : p.input.w;
  if (!plan.planes && p.pool == Pool::none && crowded<T>(p, pixel)) {
    plan.copy_pixel = plan.slice + 16;
    const int64_t seen = (ceil_div(p.out_h, plan.strips) - 1) * p.window.stride_h +
                         (p.window.kernel_h - 1) * p.window.dilation_h + 1;
    plan.copy_bytes = round_up(lesser(seen, p.in_h) * p.in_w * plan.copy_pixel * kSize, 64);
  }
  return plan;
}

}  // namespace
}  // namespace zoo
