// How a direct convolution is cut into blocks, and where their input lies.
#pragma once

#include "common.inc.h"
#include "conv2d_direct_tile.inc.h"
#include "conv2d_pooled.inc.h"

namespace zoo {
namespace {

struct DirectPlan {
  Lanes lanes;
  bool in_place;  // blocks read the input itself; otherwise lines, copied and padded
  int64_t depth, group_panels, panels;  // products an output, panels of a group and of all
  int64_t slice_panels, slices;         // panels in a unit (at most)
  int64_t rows, row_blocks;             // rows of outputs in a block (at most)
  int64_t columns, column_blocks;       // columns
  int64_t in_rows, in_columns;          // that a block sees (at most)
  // Of a block's input: column x is at x % phases * phase + x / phases * column.
  int64_t phases, phase;
  int64_t line, column, channel;
  // A piece is what a panel sees of a pixel: the channels of its group, or where groups are narrow
  // as many as the panel has filters.
  int64_t piece_channels, piece_panels, piece;  // panels that see it; from a piece to the next one
  bool cut;                                     // lines are of one piece at a time
  PooledPlan pooled;
  // Parts of the workspace, in bytes; offsets, places and weights (those of narrow groups, put
  // together) are shared, the others each thread's own.
  int64_t offsets_bytes, places_bytes, weights_bytes, lines_bytes, map_bytes;

  int64_t shared_bytes() const { return offsets_bytes + places_bytes + weights_bytes; }
  int64_t thread_bytes() const { return lines_bytes + map_bytes; }
};

// Without the rows' ends, where they are nothing to the convolution: all the map is one row.
inline Conv2dParams join_rows(Conv2dParams p) {
  const Window& w = p.window;
  if (w.kernel_h == 1 && w.kernel_w == 1 && w.stride_h == 1 && w.stride_w == 1 && w.pad_h == 0 &&
      w.pad_w == 0 && p.pool == Pool::none && p.out_h == p.in_h && p.out_w == p.in_w &&
      p.input.h == p.in_w * p.input.w && p.output.h == p.out_w * p.output.w &&
      p.residual.h == p.out_w * p.residual.w) {
    p.in_w = p.out_w = p.in_h * p.in_w;
    p.in_h = p.out_h = 1;
  }
  return p;
}

// Whether groups have as many channels as filters, so few that a group alone would leave half the
// lanes of a vector empty: then a panel is of several groups.
template <typename T>
bool narrow_groups(const Conv2dParams& p) {
  constexpr int64_t kLanes = Vec<T>::kLanes;
  const int64_t group = p.in_channels / p.groups;
  return group > 1 && 2 * group <= kLanes && kLanes % group == 0 &&
         p.in_channels == p.out_channels && p.out_channels % kPanel == 0 && p.input.c == 1 &&
         p.output.c == 1;
}

template <typename T>
DirectPlan plan_direct(const Conv2dParams& p, int32_t threads) {
  constexpr int64_t kLanes = Vec<T>::kLanes, kElement = sizeof(T);
  // Of L1, where the weights of a tile are too. A group does little with its weights before the
  // next one's have to come: its lines take a part of L2, so that blocks are few.
  const int64_t line_bytes = p.groups == 1 ? 24 << 10 : 192 << 10;
  constexpr int64_t kLeastColumns = 48;
  const Window& w = p.window;
  const bool pool = p.pool != Pool::none;
  DirectPlan plan{};
  const auto seen = [](int64_t out, int64_t stride, int64_t kernel, int64_t dilation) {
    return (out - 1) * stride + (kernel - 1) * dilation + 1;
  };
  plan.depth = w.kernel_h * w.kernel_w * (p.in_channels / p.groups);
  plan.group_panels = ceil_div(p.out_channels / p.groups, kPanel);
  plan.panels = p.groups * plan.group_panels;
  // A pool reads a map of channels together more quickly, and writes any output.
  const bool pixel_lanes = !pool && p.output.w == 1 && p.output.c != 1 && 2 * p.out_w > kLanes;
  plan.lanes = pixel_lanes ? Lanes::pixels : Lanes::filters;
  if (narrow_groups<T>(p)) {
    plan.lanes = Lanes::narrow_groups;
    plan.group_panels = plan.panels = p.out_channels / kPanel;
  }
  const bool narrow = plan.lanes == Lanes::narrow_groups;
  plan.piece_channels = narrow ? kPanel : p.in_channels / p.groups;
  plan.piece_panels = narrow ? 1 : plan.group_panels;
  plan.in_place = w.pad_h == 0 && w.pad_w == 0 &&
                  seen(p.out_h, w.stride_h, w.kernel_h, w.dilation_h) <= p.in_h &&
                  seen(p.out_w, w.stride_w, w.kernel_w, w.dilation_w) <= p.in_w;
  plan.cut = !plan.in_place && !pixel_lanes && p.groups > 1 && p.input.c == 1;

  // Columns and then rows, as many as fit.
  const auto bytes = [&](int64_t rows, int64_t columns) {
    return seen(rows, w.stride_h, w.kernel_h, w.dilation_h) *
           seen(columns, w.stride_w, w.kernel_w, w.dilation_w) *
           (plan.cut ? plan.piece_channels : p.in_channels) * kElement;
  };
  plan.rows = 1;
  plan.columns = larger(p.out_w, 1);
  while (plan.columns >= 2 * kLeastColumns && bytes(1, plan.columns) > line_bytes) {
    plan.columns = ceil_div(plan.columns, 2);
  }
  plan.column_blocks = ceil_div(larger(p.out_w, 1), plan.columns);
  // Four units a thread; pieces are units of their own where need be.
  const int64_t pieces = plan.cut ? p.in_channels / plan.piece_channels : 1;
  const int64_t most =
      pool ? p.out_h : ceil_div(p.batch * p.out_h * plan.column_blocks * pieces, 4 * threads);
  while (plan.rows < lesser(most, p.out_h) && bytes(plan.rows + 1, plan.columns) <= line_bytes) {
    ++plan.rows;
  }
  plan.row_blocks = ceil_div(larger(p.out_h, 1), plan.rows);
  plan.slice_panels = plan.panels;
  if (pool) {
    // Fewer channels where the map would outgrow the cache.
    const int64_t least =
        lesser((p.pool_window.kernel_h - 1) * p.pool_window.dilation_h + 1, p.out_h);
    const int64_t panel_bytes = larger(least * p.out_w, 1) * kPanel * kElement;
    plan.slice_panels = clamp(196608 / panel_bytes, 1, plan.panels);
  } else {
    const int64_t units = larger(p.batch * plan.row_blocks * plan.column_blocks, 1);
    const int64_t slices = ceil_div(plan.cut ? 4 * threads : threads, units);
    plan.slice_panels = ceil_div(plan.panels, clamp(slices, 1, plan.panels));
  }
  plan.slices = ceil_div(plan.panels, plan.slice_panels);

  plan.in_rows = seen(plan.rows, w.stride_h, w.kernel_h, w.dilation_h);
  plan.in_columns = seen(plan.columns, w.stride_w, w.kernel_w, w.dilation_w);
  if (pixel_lanes) {
    // Whole vectors have to be inside.
    plan.in_place =
        plan.in_place && p.input.w * w.stride_w == 1 && p.out_w / plan.column_blocks >= kLanes;
  }
  plan.phases = 1;
  if (plan.in_place) {
    plan.line = p.input.h;
    plan.column = p.input.w;
    plan.channel = p.input.c;
  } else if (pixel_lanes) {
    // Columns that neighbouring outputs see side by side; a vector may read beyond the last.
    plan.phases = w.stride_w;
    plan.column = 1;
    plan.channel = ceil_div(plan.in_columns, plan.phases) + kLanes;
    plan.phase = p.in_channels * plan.channel;
    plan.line = plan.phases * plan.phase;
  } else if (plan.cut) {
    plan.channel = 1;
    plan.column = plan.piece_channels;
    plan.line = plan.in_columns * plan.column;
  } else if (p.input.c == 1 || p.in_channels == 1) {
    plan.channel = 1;
    plan.column = p.in_channels;
    plan.line = plan.in_columns * p.in_channels;
  } else {
    plan.column = 1;
    plan.channel = plan.in_columns;
    plan.line = plan.in_columns * p.in_channels;
  }
  plan.piece = plan.piece_channels * plan.channel;
  plan.offsets_bytes = round_up(plan.depth * int64_t{sizeof(int64_t)}, 64);
  if (narrow) {
    plan.places_bytes = p.in_channels / p.groups * kLanes * int64_t{sizeof(int32_t)};
    plan.places_bytes = round_up(plan.places_bytes, 64);
    plan.weights_bytes = plan.panels * plan.depth * kPanel * kElement;
  }
  // Copies end with whole vectors.
  plan.lines_bytes =
      plan.in_place ? 0 : round_up((plan.in_rows * plan.line + kLanes) * kElement, 64);
  if (pool) {
    plan.pooled = plan_pooled(p, p.batch * plan.slices, plan.rows, threads);
    plan.map_bytes = plan.pooled.map_rows * p.out_w * plan.slice_panels * kPanel * kElement;
  }
  return plan;
}

}  // namespace
}  // namespace zoo
