// How the work of a weight gradient is cut, and the memory that it needs.
#pragma once

#include "common.inc.h"
#include "conv2d_weight_grad_tile.inc.h"

namespace zoo {
namespace {

// Input channels of a chunk, at most: as floats, a cache line.
constexpr int64_t kWeightGradChunk = 16;

struct WeightGradPlan {
  // The weight, of each group, is cut into panels of filters and chunks of input channels. This
  // does not depend on the batch, and neither does `shared`.
  int64_t group_in, group_out;
  int64_t depth;          // products of a filter at a pixel
  int64_t panel, panels;  // filters (whole vectors) of a panel, at most
  int64_t width;          // filters of a group, in whole vectors
  int64_t chunks;         // channels: part(group_in, chunks, i)
  int64_t row_taps;       // taps of a window's row that lie together in a chunk: all or one
  bool shared;            // threads share the weight; otherwise the pixels, each with sums
  int64_t sums;           // elements of one thread's sums
  // Pixels are cut into blocks, whose inputs and gradients are copied, and these into strips.
  bool flat;                     // a pixel of the input for each output: rows do not matter
  bool in_place;                 // the gradients are not copied
  int64_t images, image_blocks;  // whole images in a block (at most), or
  int64_t rows, row_blocks;      // some rows of one
  int64_t in_rows, in_columns;   // of an image in a block (at most)
  int64_t area;    // pixels of a channel: so many that chunks do not crowd into a few places of L1
  int64_t strip;   // rows in a strip, or pixels where flat
  int64_t slices;  // parts of the chunks, so that their inputs stay in L2
  int64_t input_bytes, grad_bytes, line_bytes;  // a block's, each thread's own unless shared

  int64_t blocks() const { return image_blocks * row_blocks; }
  int64_t block_bytes() const { return input_bytes + grad_bytes + line_bytes; }
};

// A window of one row sees only every stride_h-th row of the map: these are the map then. Likewise
// columns.
inline Conv2dParams seen_rows_only(Conv2dParams p) {
  Window& w = p.window;
  if (w.kernel_h == 1) w.dilation_h = 1;
  if (w.kernel_w == 1) w.dilation_w = 1;
  if (w.kernel_h == 1 && w.pad_h == 0 && (p.out_h - 1) * w.stride_h < p.in_h) {
    p.input.h *= w.stride_h;
    p.in_h = p.out_h;
    w.stride_h = 1;
  }
  if (w.kernel_w == 1 && w.pad_w == 0 && (p.out_w - 1) * w.stride_w < p.in_w) {
    p.input.w *= w.stride_w;
    p.in_w = p.out_w;
    w.stride_w = 1;
  }
  return p;
}

template <typename T>
WeightGradPlan plan_weight_grad(const Conv2dParams& p, int32_t threads) {
  constexpr int64_t kLanes = Vec<T>::kLanes, kSize = sizeof(T), kTile = Vec<T>::kTileVecs;
  constexpr int64_t kL1Share = 24 << 10, kL2Share = 160 << 10;
  const Window& w = p.window;
  WeightGradPlan plan{};
  plan.group_in = p.in_channels / p.groups;
  plan.group_out = p.out_channels / p.groups;
  plan.depth = w.kernel_h * w.kernel_w * plan.group_in;
  plan.width = round_up(plan.group_out, kLanes);

  plan.row_taps = w.dilation_w == 1 ? w.kernel_w : 1;
  const int64_t all_vecs = plan.width / kLanes;
  const bool narrow = plan.row_taps * plan.group_in <= weight_grad_rows<T>(2 * kTile);
  const int64_t vecs = clamp(all_vecs, 1, narrow ? WeightGradTiles<T>::kMostVecs : kTile);
  plan.panel = vecs * kLanes;
  plan.panels = ceil_div(plan.width, plan.panel);
  plan.chunks = ceil_div(plan.group_in, kWeightGradChunk);
  plan.sums = p.groups * plan.width * plan.depth;
  plan.shared = threads > 1 && plan.sums * kSize > 512 << 10 &&
                p.groups * plan.panels * plan.chunks >= 4 * threads;

  plan.flat = w.kernel_h == 1 && w.kernel_w == 1 && w.stride_h == 1 && w.stride_w == 1 &&
              w.pad_h == 0 && w.pad_w == 0 && p.in_h == p.out_h && p.in_w == p.out_w;
  // Pixels that are farther apart would crowd into a few places of L1.
  plan.in_place = plan.group_out % kLanes == 0 && p.output.w * kSize <= 128 &&
                  p.output.h == p.out_w * p.output.w && p.output.n == p.out_h * p.output.h;

  // A block is large enough for the sums to be read and written seldom.
  const auto seen = [](int64_t out, int64_t stride, int64_t kernel, int64_t dilation) {
    return (out - 1) * stride + (kernel - 1) * dilation + 1;
  };
  const int64_t out_h = larger(p.out_h, 1), out_w = larger(p.out_w, 1);
  plan.in_columns = seen(out_w, w.stride_w, w.kernel_w, w.dilation_w);
  const int64_t row_bytes =
      (w.stride_h * plan.in_columns * p.in_channels + out_w * p.groups * plan.width) * kSize;
  const int64_t most_bytes =
      plan.shared ? 8 << 20 : clamp(6 * plan.sums * kSize, 256 << 10, 2 << 20);
  const int64_t most_rows = clamp(most_bytes / row_bytes, 1, ceil_div(1024, out_w));
  plan.images = clamp(most_rows / out_h, 1, larger(p.batch, 1));
  plan.row_blocks = ceil_div(out_h, lesser(most_rows, out_h));
  if (!plan.shared) {  // equal shares for the threads
    plan.images = lesser(plan.images, ceil_div(larger(p.batch, 1), threads));
    const int64_t blocks = ceil_div(larger(p.batch, 1), plan.images) * plan.row_blocks;
    if (blocks % threads != 0 && blocks < 8 * threads) {
      plan.row_blocks = lesser(round_up(plan.row_blocks, threads), out_h);
      if (plan.row_blocks > 1) plan.images = 1;
    }
  }
  plan.image_blocks = ceil_div(p.batch, plan.images);
  plan.rows = ceil_div(out_h, plan.row_blocks);
  plan.in_rows = seen(plan.rows, w.stride_h, w.kernel_h, w.dilation_h);

  // A strip's inputs of one chunk, and gradients of one panel, stay in L1.
  const int64_t chunk = ceil_div(plan.group_in, plan.chunks);
  if (plan.flat) {
    plan.strip = kL1Share / ((chunk + plan.panel) * kSize) / 8 * 8;
  } else {
    const auto bytes = [&](int64_t rows) {
      return (seen(rows, w.stride_h, w.kernel_h, w.dilation_h) * plan.in_columns * chunk +
              rows * out_w * plan.panel) *
             kSize;
    };
    plan.strip = 1;
    while (plan.strip < plan.images * plan.rows && bytes(plan.strip + 1) <= kL1Share) ++plan.strip;
  }
  plan.area = (ceil_div(plan.images * plan.in_rows * plan.in_columns, 8) | 1) * 8;
  plan.slices = clamp(ceil_div(plan.area * plan.group_in * kSize, kL2Share), 1, plan.chunks);
  if (plan.shared) {
    const int64_t least = ceil_div(4 * threads, p.groups * plan.panels);
    plan.slices = clamp(least, plan.slices, plan.chunks);
  }
  plan.input_bytes = round_up(plan.area * p.in_channels * kSize, 64);
  plan.line_bytes = round_up(plan.images * plan.rows * int64_t{sizeof(int64_t)}, 64);
  plan.grad_bytes =
      plan.in_place ? 0
                    : round_up(plan.images * plan.rows * out_w * p.groups * plan.width * kSize, 64);
  return plan;
}

}  // namespace
}  // namespace zoo
