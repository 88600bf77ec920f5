// How a convolution is cut into blocks, and what the kernel is told of it.
#pragma once

#include <initializer_list>

#include "plan.h"

namespace zoo::cuda {

// A block's share of the product: kRows pixels x kColumns filters, by as many threads as rows.
template <int32_t kRows_, int32_t kColumns_>
struct Tile {
  static constexpr int32_t kRows = kRows_, kColumns = kColumns_, kThreads = kRows;
};
using LargeTile = Tile<128, 64>;
using SmallTile = Tile<64, 32>;

struct Conv2dProblem {
  int32_t batch, in_h, in_w, out_h, out_w;
  int32_t channels, filters;  // of a group
  Window32 window;
  Activation activation;
  bool stores_chunks;                       // 16 bytes of output and residual at once
  Strides input, weight, residual, output;  // weight: n is the filter's
  // With a pool: a block computes a rectangle of the convolution's pixels (its rows), from which it
  // pools a rectangle of results. Neighbours compute the pixels that both need twice.
  Pool pool;
  Window32 pool_window;
  int32_t pool_h, pool_w;
  int32_t rectangle_h, rectangle_w;  // of the convolution
  int32_t results_h, results_w;      // of the pool
  int32_t across, down;              // how many such rectangles make up a map
};

struct Conv2dPlan {
  const char* declines = nullptr;  // or why the kernel does not take the case
  Conv2dProblem problem{};
  bool large = false, loads_chunks = false;
  Grid grid;
};

// The rectangle of results of which the fewest make up the map, for a block of `rows` pixels.
inline void cut_pool(Conv2dProblem& p, const Window& w, int32_t rows) {
  const auto seen = [](int64_t results, int64_t stride, int64_t kernel, int64_t dilation) {
    return (results - 1) * stride + (kernel - 1) * dilation + 1;
  };
  int64_t best = 0;
  for (int64_t h = 1; h <= p.pool_h; ++h) {
    const int64_t height = seen(h, w.stride_h, w.kernel_h, w.dilation_h);
    if (height > rows) break;
    const int64_t room = rows / height - seen(1, w.stride_w, w.kernel_w, w.dilation_w);
    if (room < 0) break;
    const int64_t most = room / w.stride_w + 1, width = most < p.pool_w ? most : p.pool_w;
    const int64_t across = ceil_div(p.pool_w, width), down = ceil_div(p.pool_h, h);
    if (best != 0 && across * down >= best) continue;
    best = across * down;
    p.across = static_cast<int32_t>(across), p.down = static_cast<int32_t>(down);
    p.results_h = static_cast<int32_t>(h);
    p.results_w = static_cast<int32_t>(ceil_div(p.pool_w, across));  // as even as can be
    p.rectangle_h = static_cast<int32_t>(height);
    p.rectangle_w = static_cast<int32_t>(seen(p.results_w, w.stride_w, w.kernel_w, w.dilation_w));
  }
}

// `element` is the size of a number in bytes; `processors` is how many multiprocessors the device
// has: where large tiles would leave some of them idle, or have columns to spare, small ones serve.
// The residual's pointer may be null.
inline Conv2dPlan plan_conv2d(const Conv2dParams& from, const Strides& weight_strides,
                              int32_t element, const void* input, const void* weight,
                              const void* residual, const void* output, int32_t processors) {
  Conv2dPlan plan;
  const auto declined = [&](const char* reason) {
    plan.declines = reason;
    return plan;
  };
  const auto n = [](int64_t x) { return static_cast<int32_t>(x); };
  if (!fit(from.batch, from.in_h, from.in_w, from.out_h, from.out_w, from.in_channels,
           from.out_channels) ||
      !fits(from.window) || !fits(from.pool_window)) {
    return declined("a size of 2^28 or more");
  }
  if (from.in_channels == 0) return declined("no channels");
  const int64_t pixels = from.batch * from.out_h * from.out_w;
  if (pixels > kMostX) return declined("2^31 output pixels or more");
  const double depth = static_cast<double>(from.in_channels / from.groups) *
                       static_cast<double>(from.window.kernel_h) *
                       static_cast<double>(from.window.kernel_w);
  if (depth > kMostSize) return declined("more than 2^28 products an output");
  Conv2dProblem& p = plan.problem;
  p.batch = n(from.batch), p.in_h = n(from.in_h), p.in_w = n(from.in_w);
  p.out_h = n(from.out_h), p.out_w = n(from.out_w);
  p.channels = n(from.in_channels / from.groups), p.filters = n(from.out_channels / from.groups);
  p.window = narrow(from.window);
  p.activation = from.activation;
  p.input = from.input, p.weight = weight_strides;
  p.residual = from.residual, p.output = from.output;
  const int64_t count = 16 / element;
  plan.loads_chunks = p.channels % count == 0 && loads_chunks(input, p.input, count) &&
                      loads_chunks(weight, p.weight, count);
  p.stores_chunks = p.filters % count == 0 && loads_chunks(output, p.output, count) &&
                    (residual == nullptr || loads_chunks(residual, p.residual, count));
  p.pool = from.pool;
  p.pool_window = narrow(from.pool_window);
  p.pool_h = n(from.pool_h), p.pool_w = n(from.pool_w);

  for (const bool large : {true, false}) {
    const int32_t rows = large ? LargeTile::kRows : SmallTile::kRows;
    const int32_t columns = large ? LargeTile::kColumns : SmallTile::kColumns;
    if (p.pool != Pool::none) {
      p.across = 0;
      cut_pool(p, from.pool_window, rows);
      if (p.across == 0) {
        if (large) return declined("a pool window of more than 128 pixels");
        continue;  // large it stays
      }
    }
    const Grid grid{p.pool == Pool::none ? ceil_div(pixels, rows)
                                         : static_cast<int64_t>(p.batch) * p.across * p.down,
                    ceil_div(p.filters, columns), from.groups, rows};
    if (!large && plan.grid.blocks() >= 2 * processors && p.filters > columns) break;
    plan.large = large;
    plan.grid = grid;
  }
  if (p.pool != Pool::none && plan.large) cut_pool(p, from.pool_window, LargeTile::kRows);
  if (plan.grid.x > kMostX) return declined("2^31 tiles or more");
  if (plan.grid.y > kMostYZ) return declined("more than 65535 tiles of filters");
  if (plan.grid.z > kMostYZ) return declined("more than 65535 groups");
  return plan;
}

}  // namespace zoo::cuda
