// Depthwise conv2d, one filter per channel: what a tile of outputs sees of 32 channels is copied to
// shared memory as floats, padded with zeros, and so are the weights. A thread then walks the
// window's rows; a quad of channels that it loads feeds all of its outputs that see it.
#pragma once

#include "activation.h"
#include "depthwise_plan.h"
#include "element.h"

namespace zoo::cuda {

template <int32_t kKernel, int32_t kStride>
struct alignas(128) DepthwiseShared {
  using Shape = DepthwiseTile<kStride>;
  static constexpr int32_t kSeenH = (Shape::kRows - 1) * kStride + kKernel;
  static constexpr int32_t kSeenW = (Shape::kColumns - 1) * kStride + kKernel;
  float input[kSeenH][kSeenW][Shape::kChannels];
  float weight[kKernel][kKernel][Shape::kChannels];
  float own[Shape::kThreads][4];  // see activate()
};

// The part of a map's channels [first, first + 32) from (top, left) on, zeros beyond the map. With
// `chunks` 16 bytes at a time; otherwise neighbouring threads load neighbouring columns or
// channels, whichever are closer in memory.
template <typename T, typename Shared, typename Context>
ZOO_DEVICE void load_map(const Context& ctx, const DepthwiseProblem& p, const T* map, int32_t top,
                         int32_t left, int32_t first, Shared& shared) {
  constexpr int32_t kChunk = Chunk<T>::kCount, kAcross = Shared::Shape::kChannels / kChunk;
  constexpr int32_t kPixels = Shared::kSeenH * Shared::kSeenW, kThreads = Shared::Shape::kThreads;
  const auto on_map = [&](int32_t h, int32_t w) {
    return h >= 0 && h < p.in_h && w >= 0 && w < p.in_w;
  };
  if (p.loads_chunks) {
    for (int32_t e = ctx.thread(); e < kPixels * kAcross; e += kThreads) {
      const int32_t pixel = e / kAcross, c = e % kAcross * kChunk;
      const int32_t y = pixel / Shared::kSeenW, x = pixel % Shared::kSeenW;
      Chunk<T> chunk{};
      if (on_map(top + y, left + x)) {
        const T* from = map + (top + y) * p.input.h + (left + x) * p.input.w + first + c;
        if (first + c + kChunk <= p.channels) {
          chunk.bits = ctx.load16(from);
        } else {
          ZOO_UNROLL for (int32_t i = 0; i < kChunk; ++i) {
            if (first + c + i < p.channels) chunk.set(i, from[i]);
          }
        }
      }
      ZOO_UNROLL for (int32_t i = 0; i < kChunk; i += 4) {
        ctx.store4(&shared.input[y][x][c + i],
                   {{chunk.get(i), chunk.get(i + 1), chunk.get(i + 2), chunk.get(i + 3)}});
      }
    }
    return;
  }
  const bool planes = p.input.w == 1;
  for (int32_t e = ctx.thread(); e < kPixels * Shared::Shape::kChannels; e += kThreads) {
    const int32_t pixel = planes ? e % kPixels : e / Shared::Shape::kChannels;
    const int32_t c = planes ? e / kPixels : e % Shared::Shape::kChannels;
    const int32_t y = pixel / Shared::kSeenW, x = pixel % Shared::kSeenW;
    const bool there = on_map(top + y, left + x) && first + c < p.channels;
    shared.input[y][x][c] =
        there ? to_float(
                    map[(top + y) * p.input.h + (left + x) * p.input.w + (first + c) * p.input.c])
              : 0;
  }
}

// Grid: x is the tile of an image, y the 32 channels. bias may be null.
template <typename T, int32_t kKernel, int32_t kStride, typename Context>
ZOO_DEVICE void depthwise_body(Context& ctx, const DepthwiseProblem& p, const T* input,
                               const T* weight, const T* bias, T* output) {
  using Shared = DepthwiseShared<kKernel, kStride>;
  using Shape = typename Shared::Shape;
  constexpr int32_t kAtOnce = Shape::kAtOnce;
  Shared& shared = ctx.template shared<Shared>();
  const int32_t image = ctx.block_x() / (p.across * p.down);
  const int32_t at = ctx.block_x() % (p.across * p.down);
  const int32_t y0 = at / p.across * Shape::kRows, x0 = at % p.across * Shape::kColumns;
  const int32_t first = ctx.block_y() * Shape::kChannels;

  for (int32_t e = ctx.thread(); e < kKernel * kKernel * Shape::kChannels; e += Shape::kThreads) {
    const int32_t c = e % Shape::kChannels, tap = e / Shape::kChannels;
    const int32_t r = tap / kKernel, s = tap % kKernel;
    shared.weight[r][s][c] =
        first + c < p.channels
            ? to_float(weight[(first + c) * p.weight.n + r * p.weight.h + s * p.weight.w])
            : 0;
  }
  load_map(ctx, p, input + image * p.input.n, y0 * kStride - p.pad_h, x0 * kStride - p.pad_w, first,
           shared);
  ctx.sync();

  const int32_t c = ctx.thread() % Shape::kQuads * 4;
  const int32_t place = ctx.thread() / Shape::kQuads;
  const int32_t x = place % (Shape::kColumns / kAtOnce) * kAtOnce;
  const int32_t y = place / (Shape::kColumns / kAtOnce);
  float sums[kAtOnce][4];
  ZOO_UNROLL for (int32_t i = 0; i < 4; ++i) {
    const bool has = bias != nullptr && first + c + i < p.channels;
    const float start = has ? to_float(bias[first + c + i]) : 0;
    ZOO_UNROLL for (int32_t j = 0; j < kAtOnce; ++j) sums[j][i] = start;
  }
  for (int32_t r = 0; r < kKernel; ++r) {
    Float4 taps[kKernel];
    ZOO_UNROLL for (int32_t s = 0; s < kKernel; ++s) taps[s] = ctx.load4(&shared.weight[r][s][c]);
    ZOO_UNROLL for (int32_t v = 0; v < (kAtOnce - 1) * kStride + kKernel; ++v) {
      const Float4 seen = ctx.load4(&shared.input[y * kStride + r][x * kStride + v][c]);
      ZOO_UNROLL for (int32_t j = 0; j < kAtOnce; ++j) {
        const int32_t s = v - j * kStride;  // the tap that this output sees it by
        if (s < 0 || s >= kKernel) continue;
        ZOO_UNROLL for (int32_t i = 0; i < 4; ++i) sums[j][i] += seen.value[i] * taps[s].value[i];
      }
    }
  }

  if (y0 + y >= p.out_h || first + c >= p.channels) return;
  ZOO_UNROLL for (int32_t j = 0; j < kAtOnce; ++j) {
    if (x0 + x + j >= p.out_w) break;
    T* to = output + image * p.output.n + (first + c) * p.output.c + (y0 + y) * p.output.h +
            (x0 + x + j) * p.output.w;
    activate<4>(p.activation, sums[j], shared.own[ctx.thread()]);
    T values[4];
    ZOO_UNROLL for (int32_t i = 0; i < 4; ++i) values[i] = from_float<T>(sums[j][i]);
    if (p.stores_quads && first + c + 4 <= p.channels) {
      ctx.store_quad(to, values);
    } else {
      ZOO_UNROLL for (int32_t i = 0; i < 4; ++i) {
        if (first + c + i < p.channels) to[i * p.output.c] = values[i];
      }
    }
  }
}

}  // namespace zoo::cuda
