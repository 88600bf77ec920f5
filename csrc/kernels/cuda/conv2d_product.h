// Two ways to multiply slices of A and B that lie in shared memory: thread by thread, and by the
// matrix units (tensor cores), warp by warp. Sums stay in registers, and are float.
#pragma once

#include "conv2d_plan.h"
#include "element.h"

namespace zoo::cuda {

// A thread sums 8 pixels x kColumns / 8 filters, in quads:
//
//            filters 4 tx ..      32 + 4 tx ..
//   pixels   +------+             +------+         One step of the depth loads 2 quads of A and 1
//   4 ty ..  | 4x4  |             | 4x4  |         or 2 of B, and does 32 or 64 multiply-adds. The
//            +------+             +------+         8 threads of a row of quads load 128 bytes of B
//   half +   +------+             +------+         side by side; a quad of A goes to all of them.
//   4 ty ..  | 4x4  |             | 4x4  |
//            +------+             +------+
template <typename T, typename TileShape>
class ThreadProduct {
 public:
  static constexpr int32_t kDepth = 16;
  static constexpr int32_t kHalf = TileShape::kRows / 2, kQuads = TileShape::kColumns / 32;

  struct alignas(16) Slices {
    // Depth after depth, each row 16 bytes longer than the tile, against bank conflicts.
    float a[kDepth][TileShape::kRows + 4], b[kDepth][TileShape::kColumns + 4];

    template <typename Context>
    ZOO_DEVICE void put_a(const Context&, int32_t row, int32_t depth, const Chunk<T>& chunk) {
      ZOO_UNROLL for (int32_t i = 0; i < Chunk<T>::kCount; ++i) a[depth + i][row] = chunk.get(i);
    }
    template <typename Context>
    ZOO_DEVICE void put_b(const Context&, int32_t row, int32_t depth, const Chunk<T>& chunk) {
      ZOO_UNROLL for (int32_t i = 0; i < Chunk<T>::kCount; ++i) b[depth + i][row] = chunk.get(i);
    }
  };

  template <typename Context>
  ZOO_DEVICE explicit ThreadProduct(const Context& ctx)
      : first_row(ctx.thread() / 8 * 4), first_column(ctx.thread() % 8 * 4) {
    ZOO_UNROLL for (int32_t i = 0; i < 8; ++i) {
      ZOO_UNROLL for (int32_t j = 0; j < 4 * kQuads; ++j) sums[i][j] = 0;
    }
  }

  template <typename Context>
  ZOO_DEVICE void add(Context& ctx, const Slices& slices) {
    ZOO_UNROLL for (int32_t k = 0; k < kDepth; ++k) {
      Float4 a[2], b[kQuads];
      a[0] = ctx.load4(&slices.a[k][first_row]);
      a[1] = ctx.load4(&slices.a[k][kHalf + first_row]);
      ZOO_UNROLL for (int32_t q = 0; q < kQuads; ++q) {
        b[q] = ctx.load4(&slices.b[k][32 * q + first_column]);
      }
      ZOO_UNROLL for (int32_t i = 0; i < 8; ++i) {
        ZOO_UNROLL for (int32_t j = 0; j < 4 * kQuads; ++j) {
          sums[i][j] += a[i / 4].value[i % 4] * b[j / 4].value[j % 4];
        }
      }
    }
  }

  template <typename Context>
  ZOO_DEVICE void write(Context& ctx, float* to, int32_t stride) const {
    ZOO_UNROLL for (int32_t i = 0; i < 8; ++i) {
      const int32_t row = i / 4 * kHalf + first_row + i % 4;
      ZOO_UNROLL for (int32_t q = 0; q < kQuads; ++q) {
        ctx.store4(to + row * stride + 32 * q + first_column,
                   {{sums[i][4 * q], sums[i][4 * q + 1], sums[i][4 * q + 2], sums[i][4 * q + 3]}});
      }
    }
  }

 private:
  int32_t first_row, first_column;
  float sums[8][4 * kQuads];
};

// A warp sums 32 pixels x all filters of the tile, in matrices of 16x16.
template <typename T, typename TileShape, typename Context>
class MatrixProduct {
 public:
  static constexpr int32_t kDepth = 32, kDown = 2, kAcross = TileShape::kColumns / 16;

  struct alignas(32) Slices {
    // Pixel after pixel and filter after filter, 16 bytes apart, against bank conflicts.
    T a[TileShape::kRows][kDepth + 8], b[TileShape::kColumns][kDepth + 8];

    ZOO_DEVICE void put_a(const Context& ctx, int32_t row, int32_t depth, const Chunk<T>& chunk) {
      ctx.store16(&a[row][depth], chunk.bits);
    }
    ZOO_DEVICE void put_b(const Context& ctx, int32_t row, int32_t depth, const Chunk<T>& chunk) {
      ctx.store16(&b[row][depth], chunk.bits);
    }
  };

  ZOO_DEVICE explicit MatrixProduct(const Context& ctx) : first_row(ctx.thread() / 32 * 32) {
    ZOO_UNROLL for (int32_t i = 0; i < kDown; ++i) {
      ZOO_UNROLL for (int32_t j = 0; j < kAcross; ++j) ctx.clear(sums[i][j]);
    }
  }

  ZOO_DEVICE void add(Context& ctx, const Slices& slices) {
    ZOO_UNROLL for (int32_t k = 0; k < kDepth; k += 16) {
      typename Context::template Matrix<T, Role::a> a[kDown];
      ZOO_UNROLL for (int32_t i = 0; i < kDown; ++i) {
        ctx.load_matrix(a[i], &slices.a[first_row + 16 * i][k], kDepth + 8);
      }
      ZOO_UNROLL for (int32_t j = 0; j < kAcross; ++j) {
        typename Context::template Matrix<T, Role::b> b;
        ctx.load_matrix(b, &slices.b[16 * j][k], kDepth + 8);
        ZOO_UNROLL for (int32_t i = 0; i < kDown; ++i) ctx.multiply_add(sums[i][j], a[i], b);
      }
    }
  }

  ZOO_DEVICE void write(Context& ctx, float* to, int32_t stride) const {
    ZOO_UNROLL for (int32_t i = 0; i < kDown; ++i) {
      ZOO_UNROLL for (int32_t j = 0; j < kAcross; ++j) {
        ctx.store_sums(to + (first_row + 16 * i) * stride + 16 * j, sums[i][j], stride);
      }
    }
  }

 private:
  int32_t first_row;
  typename Context::Sums sums[kDown][kAcross];
};

}  // namespace zoo::cuda
