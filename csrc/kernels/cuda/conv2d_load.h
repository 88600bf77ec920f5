// From global memory to a thread's registers: its part of the next slice of both matrices. Row m of
// A is what the window sees at output pixel m, column j of B is filter j; neither is ever built.
#pragma once

#include "conv2d_plan.h"
#include "element.h"

namespace zoo::cuda {

// The output pixel of a row of the tile; image is -1 where there is none.
struct Pixel {
  int32_t image, y, x;
};

template <typename TileShape, bool kPooled>
ZOO_DEVICE Pixel pixel_of(const Conv2dProblem& p, int32_t block, int32_t row) {
  if constexpr (kPooled) {
    const int32_t i = row / p.rectangle_w, j = row % p.rectangle_w;
    const int32_t image = block / (p.across * p.down), at = block % (p.across * p.down);
    const int32_t y =
        at / p.across * p.results_h * p.pool_window.stride_h - p.pool_window.pad_h + i;
    const int32_t x =
        at % p.across * p.results_w * p.pool_window.stride_w - p.pool_window.pad_w + j;
    const bool there = i < p.rectangle_h && y >= 0 && y < p.out_h && x >= 0 && x < p.out_w;
    return {there ? image : -1, y, x};
  } else {
    const int64_t at = static_cast<int64_t>(block) * TileShape::kRows + row;
    const int32_t map = p.out_h * p.out_w;
    const int32_t image = static_cast<int32_t>(at / map), rest = static_cast<int32_t>(at % map);
    return {image < p.batch ? image : -1, rest / p.out_w, rest % p.out_w};
  }
}

// A place in the depth of the product: row and column of the window, and channel. Beyond the depth
// the row is kernel_h or more.
struct Depth {
  int32_t r, s, c;

  ZOO_DEVICE Depth(const Conv2dProblem& p, int32_t at)
      : r(at / p.channels / p.window.kernel_w),
        s(at / p.channels % p.window.kernel_w),
        c(at % p.channels) {}
  ZOO_DEVICE void advance(const Conv2dProblem& p, int32_t by) {
    c += by;
    while (c >= p.channels) {
      c -= p.channels;
      if (++s == p.window.kernel_w) s = 0, ++r;
    }
  }
};

// Threads side by side load chunks side by side: kDepth / kChunk of them make up a row of the
// slice. A thread's chunks are all at the same depth, in rows kStep apart.
template <typename T, typename TileShape, int32_t kDepth, bool kChunks>
class Loader {
 public:
  static constexpr int32_t kChunk = Chunk<T>::kCount;
  static constexpr int32_t kAcross = kDepth / kChunk, kStep = TileShape::kThreads / kAcross;
  static constexpr int32_t kA = TileShape::kRows / kStep, kB = TileShape::kColumns / kStep;

  template <typename Context>
  ZOO_DEVICE Loader(const Context& ctx, const Conv2dProblem& problem, const Pixel* pixels,
                    const T* input_data, const T* weight_data)
      : p(problem),
        input(input_data),
        weight(weight_data),
        row(ctx.thread() / kAcross),
        column(ctx.thread() % kAcross * kChunk),
        depth(problem, column) {
    const int64_t channel = static_cast<int64_t>(ctx.block_z()) * p.channels;
    ZOO_UNROLL for (int32_t i = 0; i < kA; ++i) {
      const Pixel pixel = pixels[row + i * kStep];
      const bool there = pixel.image >= 0;
      // Where there is no pixel, no row of the window is on the map.
      top[i] = there ? pixel.y * p.window.stride_h - p.window.pad_h : -(1 << 30);
      left[i] = pixel.x * p.window.stride_w - p.window.pad_w;
      from_a[i] =
          pixel.image * p.input.n + channel * p.input.c + top[i] * p.input.h + left[i] * p.input.w;
    }
    ZOO_UNROLL for (int32_t i = 0; i < kB; ++i) {
      const int32_t filter = ctx.block_y() * TileShape::kColumns + row + i * kStep;
      const int64_t place = static_cast<int64_t>(ctx.block_z()) * p.filters + filter;
      from_b[i] = filter < p.filters ? place * p.weight.n : -1;
    }
  }

  // Loads the next slice; zeros beyond the map, the filters and the depth.
  template <typename Context>
  ZOO_DEVICE void fetch(const Context& ctx) {
    ZOO_UNROLL for (int32_t i = 0; i < kA; ++i) a[i] = {};
    ZOO_UNROLL for (int32_t i = 0; i < kB; ++i) b[i] = {};
    if constexpr (kChunks) {  // the channels are a multiple of a chunk: it is at one tap
      if (depth.r < p.window.kernel_h) {
        const int64_t at_a = offset_a(depth), at_b = offset_b(depth);
        ZOO_UNROLL for (int32_t i = 0; i < kA; ++i) {
          if (on_map(i, depth)) a[i].bits = ctx.load16(input + from_a[i] + at_a);
        }
        ZOO_UNROLL for (int32_t i = 0; i < kB; ++i) {
          if (from_b[i] >= 0) b[i].bits = ctx.load16(weight + from_b[i] + at_b);
        }
      }
    } else {
      Depth at = depth;
      ZOO_UNROLL for (int32_t j = 0; j < kChunk; ++j) {
        if (at.r < p.window.kernel_h) {
          const int64_t at_a = offset_a(at), at_b = offset_b(at);
          ZOO_UNROLL for (int32_t i = 0; i < kA; ++i) {
            if (on_map(i, at)) a[i].set(j, input[from_a[i] + at_a]);
          }
          ZOO_UNROLL for (int32_t i = 0; i < kB; ++i) {
            if (from_b[i] >= 0) b[i].set(j, weight[from_b[i] + at_b]);
          }
        }
        at.advance(p, 1);
      }
    }
    depth.advance(p, kDepth);
  }

  // Puts what was fetched where the product reads it.
  template <typename Context, typename Slices>
  ZOO_DEVICE void put(const Context& ctx, Slices& slices) const {
    ZOO_UNROLL for (int32_t i = 0; i < kA; ++i) slices.put_a(ctx, row + i * kStep, column, a[i]);
    ZOO_UNROLL for (int32_t i = 0; i < kB; ++i) slices.put_b(ctx, row + i * kStep, column, b[i]);
  }

 private:
  ZOO_DEVICE int64_t offset_a(const Depth& at) const {
    return at.r * p.window.dilation_h * p.input.h + at.s * p.window.dilation_w * p.input.w +
           at.c * p.input.c;
  }
  ZOO_DEVICE int64_t offset_b(const Depth& at) const {
    return at.r * p.weight.h + at.s * p.weight.w + at.c * p.weight.c;
  }
  ZOO_DEVICE bool on_map(int32_t i, const Depth& at) const {
    const int32_t h = top[i] + at.r * p.window.dilation_h;
    const int32_t w = left[i] + at.s * p.window.dilation_w;
    return h >= 0 && h < p.in_h && w >= 0 && w < p.in_w;
  }

  const Conv2dProblem& p;
  const T *input, *weight;
  int32_t row, column;  // of the first chunk; column is its depth in the slice
  Depth depth;
  int32_t top[kA], left[kA];
  int64_t from_a[kA], from_b[kB];
  Chunk<T> a[kA], b[kB];
};

}  // namespace zoo::cuda
