// conv2d as an implicit matrix product: a block makes a tile of pixels x filters. While it
// multiplies one slice of the depth, the next is on its way from global memory to registers, and
// then goes to the other of two buffers, so that a step takes one barrier.
//
//   registers   <- slice 1     <- slice 2     <- slice 3
//   buffer 0    [0] multiply   write 2        [2] multiply
//   buffer 1    write 1        [1] multiply   write 3
//                           |              |                 barriers
#pragma once

#include <type_traits>

#include "activation.h"
#include "conv2d_load.h"
#include "conv2d_product.h"

namespace zoo::cuda {

template <typename T, typename TileShape, typename Context>
using Conv2dProduct =
    std::conditional_t<Context::template kHasMatrices<T>, MatrixProduct<T, TileShape, Context>,
                       ThreadProduct<T, TileShape>>;

template <typename T, typename TileShape, typename Context>
struct alignas(128) Conv2dShared {
  static constexpr int32_t kStride = TileShape::kColumns + 4;
  union {
    typename Conv2dProduct<T, TileShape, Context>::Slices slices[2];
    float map[TileShape::kRows][kStride];  // the finished tile
  };
  Pixel pixels[TileShape::kRows];
};

// Some neighbouring filters of one pixel, from the tile to global memory or back.
template <typename T>
struct Outputs {
  static constexpr int32_t kChunk = Chunk<T>::kCount;
  const Conv2dProblem& p;
  int32_t group, filter;  // the first one's number in its group
  int32_t count;          // how many there are, of a chunk

  template <typename Context>
  ZOO_DEVICE void store(const Context& ctx, T* output, const Pixel& at, const float* values) const {
    T* to = output + place(p.output, at);
    if (p.stores_chunks) {
      Chunk<T> chunk{};
      ZOO_UNROLL for (int32_t i = 0; i < kChunk; ++i) chunk.set(i, from_float<T>(values[i]));
      ctx.store16(to, chunk.bits);
    } else {
      ZOO_UNROLL for (int32_t i = 0; i < kChunk; ++i) {
        if (i < count) to[i * p.output.c] = from_float<T>(values[i]);
      }
    }
  }

  // activation(values + bias + residual); `own` is where the values are in the tile.
  template <typename Context>
  ZOO_DEVICE void finish(const Context& ctx, const T* bias, const T* residual, const Pixel& at,
                         float* values, float* own) const {
    if (bias != nullptr) {
      const T* from = bias + static_cast<int64_t>(group) * p.filters + filter;
      ZOO_UNROLL for (int32_t i = 0; i < kChunk; ++i) {
        if (i < count) values[i] += to_float(from[i]);
      }
    }
    if (residual != nullptr) {
      const T* from = residual + place(p.residual, at);
      if (p.stores_chunks) {
        const Chunk<T> chunk{ctx.load16(from)};
        ZOO_UNROLL for (int32_t i = 0; i < kChunk; ++i) values[i] += chunk.get(i);
      } else {
        ZOO_UNROLL for (int32_t i = 0; i < kChunk; ++i) {
          if (i < count) values[i] += to_float(from[i * p.residual.c]);
        }
      }
    }
    activate<kChunk>(p.activation, values, own);
  }

 private:
  ZOO_DEVICE int64_t place(const Strides& s, const Pixel& at) const {
    const int64_t channel = static_cast<int64_t>(group) * p.filters + filter;
    return at.image * s.n + channel * s.c + at.y * s.h + at.x * s.w;
  }
};

// The largest or the mean of a window of the tile's pixels. Pixels beyond the map are in no
// maximum, and count as zeros in a mean.
template <int32_t kChunk, typename Shared>
ZOO_DEVICE void pool_window(const Conv2dProblem& p, const Shared& shared, int32_t corner,
                            int32_t column, float* values) {
  const Window32& w = p.pool_window;
  const bool max = p.pool == Pool::max;
  ZOO_UNROLL for (int32_t i = 0; i < kChunk; ++i) values[i] = max ? -INFINITY : 0;
  for (int32_t r = 0; r < w.kernel_h; ++r) {
    for (int32_t s = 0; s < w.kernel_w; ++s) {
      const int32_t row = corner + r * w.dilation_h * p.rectangle_w + s * w.dilation_w;
      if (shared.pixels[row].image < 0) continue;
      ZOO_UNROLL for (int32_t i = 0; i < kChunk; ++i) {
        const float x = shared.map[row][column + i];
        if (!max) {
          values[i] += x;
        } else if (x > values[i] || x != x) {  // a NaN stays
          values[i] = x;
        }
      }
    }
  }
  if (!max) {
    const float divisor = static_cast<float>(w.kernel_h * w.kernel_w);
    ZOO_UNROLL for (int32_t i = 0; i < kChunk; ++i) values[i] /= divisor;
  }
}

// Grid: x is the tile's pixels, y its filters, z the group. bias and residual may be null.
template <typename T, typename TileShape, bool kChunks, bool kPooled, typename Context>
ZOO_DEVICE void conv2d_body(Context& ctx, const Conv2dProblem& p, const T* input, const T* weight,
                            const T* bias, const T* residual, T* output) {
  using Product = Conv2dProduct<T, TileShape, Context>;
  using Shared = Conv2dShared<T, TileShape, Context>;
  constexpr int32_t kChunk = Chunk<T>::kCount, kAcross = TileShape::kColumns / kChunk;
  Shared& shared = ctx.template shared<Shared>();
  const int32_t thread = ctx.thread();

  shared.pixels[thread] = pixel_of<TileShape, kPooled>(p, ctx.block_x(), thread);
  ctx.sync();
  Loader<T, TileShape, Product::kDepth, kChunks> loader(ctx, p, shared.pixels, input, weight);
  Product product(ctx);
  const int32_t depth = p.window.kernel_h * p.window.kernel_w * p.channels;
  const int32_t steps = (depth + Product::kDepth - 1) / Product::kDepth;
  loader.fetch(ctx);
  loader.put(ctx, shared.slices[0]);
  ctx.sync();
  for (int32_t step = 0; step < steps; ++step) {
    const bool more = step + 1 < steps;
    if (more) loader.fetch(ctx);
    product.add(ctx, shared.slices[step % 2]);
    if (more) loader.put(ctx, shared.slices[(step + 1) % 2]);
    ctx.sync();
  }
  product.write(ctx, &shared.map[0][0], Shared::kStride);
  ctx.sync();

  for (int32_t e = thread; e < TileShape::kRows * kAcross; e += TileShape::kThreads) {
    const int32_t row = e / kAcross, column = e % kAcross * kChunk;
    const int32_t filter = ctx.block_y() * TileShape::kColumns + column;
    const Pixel pixel = shared.pixels[row];
    if (pixel.image < 0 || filter >= p.filters) continue;
    const Outputs<T> outputs{p, ctx.block_z(), filter, p.filters - filter};
    float values[kChunk];
    ZOO_UNROLL for (int32_t i = 0; i < kChunk; ++i) values[i] = shared.map[row][column + i];
    outputs.finish(ctx, bias, residual, pixel, values, &shared.map[row][column]);
    if constexpr (kPooled) {
      ZOO_UNROLL for (int32_t i = 0; i < kChunk; ++i) shared.map[row][column + i] = values[i];
    } else {
      outputs.store(ctx, output, pixel, values);
    }
  }

  if constexpr (kPooled) {
    ctx.sync();
    const int32_t image = ctx.block_x() / (p.across * p.down);
    const int32_t at = ctx.block_x() % (p.across * p.down);
    const int32_t results = p.results_h * p.results_w;
    for (int32_t e = thread; e < results * kAcross; e += TileShape::kThreads) {
      const int32_t i = e / kAcross / p.results_w, j = e / kAcross % p.results_w;
      const int32_t column = e % kAcross * kChunk;
      const int32_t filter = ctx.block_y() * TileShape::kColumns + column;
      const Pixel pixel{image, at / p.across * p.results_h + i, at % p.across * p.results_w + j};
      if (pixel.y >= p.pool_h || pixel.x >= p.pool_w || filter >= p.filters) continue;
      const int32_t corner =
          i * p.pool_window.stride_h * p.rectangle_w + j * p.pool_window.stride_w;
      float values[kChunk];
      pool_window<kChunk>(p, shared, corner, column, values);
      Outputs<T>{p, ctx.block_z(), filter, p.filters - filter}.store(ctx, output, pixel, values);
    }
  }
}

}  // namespace zoo::cuda
