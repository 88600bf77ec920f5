// How a Winograd convolution is cut into units of work, and the memory that these need.
#pragma once

#include "conv2d_gemm_tile.inc.h"
#include "layout.inc.h"

namespace zoo {
namespace {

// Products are summed in blocks of this depth: half of the GEMM's, as the output transformation
// subtracts large sums from each other. Halves the errors at 512 channels, and is no slower.
constexpr int64_t kWinogradDepth = kDepthBlock / 2;

struct WinogradPlan {
  int64_t tiles_h, tiles_w, tiles;  // of a map; of all maps
  int64_t panels;
  int64_t rows, blocks;  // tiles in a block (at most), blocks
  bool shared;           // all threads work on the same transformed input, each on its own panels
  bool staged;           // the input is first copied to channels_last
  // A block's transformed input is [points][C / 16][rows][16], its products with one panel are
  // [points][rows][32]. Points are this many elements apart: an odd number of cache lines, so that
  // the transformations, which touch all points at once, spread over the sets of the caches.
  int64_t input_point, product_point;
  int64_t input_bytes, product_bytes;  // of a block

  int64_t thread_bytes() const { return product_bytes + (shared ? 0 : input_bytes); }
  int64_t shared_bytes() const { return shared ? blocks * input_bytes : 0; }
};

template <typename T, typename F>
WinogradPlan plan_winograd(const Conv2dParams& p, int32_t threads) {
  constexpr int64_t kChunk = ShortRows<T>::kChunk, kPoints = F::kIn * F::kIn;
  WinogradPlan plan;
  plan.tiles_h = ceil_div(p.out_h, F::kOut);
  plan.tiles_w = ceil_div(p.out_w, F::kOut);
  plan.tiles = p.batch * plan.tiles_h * plan.tiles_w;
  plan.panels = ceil_div(p.out_channels, kPanel);
  plan.staged = apart(p.input, p.in_channels);

  // Each block reads all weights once: more tiles where these come from memory. Otherwise what is
  // transformed stays in L2, and 12 to 96 tiles were as fast as each other.
  const int64_t weight_bytes = kPoints * plan.panels * kPanel * p.in_channels * int64_t{sizeof(T)};
  const int64_t wanted = weight_bytes <= 16 << 20 ? 28 : 64;
  // Where the threads would get less than that each, reading the weights would be all they do:
  // then each reads a part of them, and all the tiles.
  plan.shared = threads > 1 && plan.tiles < threads * 14;
  plan.blocks = larger(ceil_div(plan.tiles, wanted), 1);
  if (!plan.shared && plan.blocks < 8 * threads) plan.blocks = round_up(plan.blocks, threads);
  plan.rows = larger(ceil_div(plan.tiles, plan.blocks), 1);

  const int64_t line = 64 / int64_t{sizeof(T)}, lines = ceil_div(p.in_channels, kChunk) * plan.rows;
  plan.input_point = (lines | 1) * line;
  plan.product_point = (plan.rows * kPanel / line | 1) * line;
  plan.input_bytes = kPoints * plan.input_point * int64_t{sizeof(T)};
  plan.product_bytes = kPoints * plan.product_point * int64_t{sizeof(T)};
  return plan;
}

}  // namespace
}  // namespace zoo
