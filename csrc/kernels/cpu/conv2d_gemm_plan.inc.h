// How a convolution is cut into units of work, and the memory that a unit needs.
#pragma once

#include "common.inc.h"
#include "conv2d_gemm_tile.inc.h"
#include "conv2d_pooled.inc.h"
#include "layout.inc.h"

namespace zoo {
namespace {

struct GemmPlan {
  int64_t depth, depth_blocks, depth_block;
  int64_t a_row;                 // from one row of A to the next, where it is copied
  int64_t panels;                // of one group
  int64_t rows, row_blocks;      // pixels in a unit (at most), units' worth of pixels
  int64_t slice_panels, slices;  // panels in a unit (at most)
  bool streams;                  // B is read once, straight on: a unit has few rows (StreamTiles)
  bool staged;                   // the input is first copied to channels_last
  bool in_place;                 // A is the map itself
  PooledPlan pooled;
  // Parts of a thread's workspace, in bytes.
  int64_t a_bytes, c_bytes, pixel_bytes, map_bytes;

  int64_t thread_bytes() const { return a_bytes + c_bytes + pixel_bytes + map_bytes; }
};

// Whether the windows are the map's pixels, one after the other through all images, and the rows
// of a tile find room in L1: pixels 4096 bytes apart share one of its sets, of 8 lines.
template <typename T>
bool pixels_in_a_row(const Conv2dParams& p, const Strides& in) {
  const Window& w = p.window;
  return w.kernel_h == 1 && w.kernel_w == 1 && w.stride_h == 1 && w.stride_w == 1 && w.pad_h == 0 &&
         w.pad_w == 0 && p.out_h == p.in_h && p.out_w == p.in_w && in.h == p.in_w * in.w &&
         (p.batch == 1 || in.n == p.in_h * in.h) &&
         (Vec<T>::kTileRows < 8 || in.w * int64_t{sizeof(T)} % 4096 != 0);
}

template <typename T>
GemmPlan plan_gemm(const Conv2dParams& p, int32_t threads) {
  GemmPlan plan;
  const int64_t group_in = p.in_channels / p.groups;
  plan.depth = p.window.kernel_h * p.window.kernel_w * group_in;
  plan.depth_blocks = larger(ceil_div(plan.depth, kDepthBlock), 1);
  plan.depth_block = round_up(ceil_div(plan.depth, plan.depth_blocks), 16);
  plan.panels = ceil_div(p.out_channels / p.groups, kPanel);
  plan.staged = apart(p.input, group_in);

  plan.in_place = pixels_in_a_row<T>(p, plan.staged ? staged_strides(p) : p.input);

  constexpr int64_t kTile = Vec<T>::kTileRows;
  constexpr int64_t kMostRows = 96 / kTile * kTile, kMostPanels = 16;
  const bool pool = p.pool != Pool::none;
  const int64_t pixels = pool ? p.out_h * p.out_w : p.batch * p.out_h * p.out_w;
  plan.rows = clamp(pixels, 1, kMostRows);
  plan.slice_panels = lesser(plan.panels, kMostPanels);
  if (pool) {
    // Fewer channels where the map would outgrow the cache.
    const int64_t least =
        lesser((p.pool_window.kernel_h - 1) * p.pool_window.dilation_h + 1, p.out_h);
    const int64_t panel_bytes = larger(least * p.out_w, 1) * kPanel * int64_t{sizeof(T)};
    plan.slice_panels = clamp(196608 / panel_bytes, 1, plan.slice_panels);
  } else {
    // Smaller units where the threads would otherwise share unevenly. The cost of a unit is its
    // products, what it copies to A (as much as 32 channels' products) and what it reads of B
    // (as much as 16 rows').
    int64_t best = INT64_MAX;
    const int64_t copies = plan.in_place ? 0 : 1;
    const int64_t least_rows = lesser(plan.rows, 2 * kTile), all_panels = plan.slice_panels;
    int64_t blocks = larger(ceil_div(pixels, plan.rows), 1);
    for (int64_t rows; rows = ceil_div(pixels, blocks), rows >= least_rows;) {
      const int64_t multiplied = round_up(rows, kTile);
      for (int64_t wide = all_panels; wide >= 1; wide /= 2) {
        const int64_t units = blocks * p.groups * ceil_div(plan.panels, wide);
        const int64_t cost = ceil_div(units, threads) * (multiplied * (wide + copies) + 16 * wide);
        if (cost < best) {
          best = cost;
          plan.rows = rows;
          plan.slice_panels = wide;
        }
      }
      if (rows <= 1) break;
      blocks = blocks % threads == 0 ? 2 * blocks : round_up(blocks, threads);
    }
  }
  plan.row_blocks = larger(ceil_div(pixels, plan.rows), 1);
  plan.slices = ceil_div(plan.panels, plan.slice_panels);

  plan.streams = plan.rows <= StreamTiles<T>::kMostRows;
  const int64_t element = sizeof(T), blocks = plan.depth_blocks;
  // Copies may write a vector beyond a row.
  plan.a_row = plan.streams ? round_up(plan.depth, 16) + 16 : int64_t{LongRows::kRow};
  plan.a_bytes = round_up(plan.rows * plan.a_row * element, 64);
  plan.c_bytes =
      plan.rows * kPanel * element * (blocks > 1 && !plan.streams ? plan.slice_panels : 1);
  plan.pixel_bytes = round_up(plan.rows * int64_t{sizeof(GemmPixel)}, 64);
  plan.map_bytes = 0;
  if (pool) {
    const int64_t new_rows = ceil_div(plan.rows, larger(p.out_w, 1));
    plan.pooled = plan_pooled(p, p.batch * p.groups * plan.slices, new_rows, threads);
    plan.map_bytes = plan.pooled.map_rows * p.out_w * plan.slice_panels * kPanel * element;
  }
  return plan;
}

}  // namespace
}  // namespace zoo
