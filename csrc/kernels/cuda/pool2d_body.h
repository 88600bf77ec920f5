// Max and average pooling. Sums are float; NaN goes where PyTorch sends it.
#pragma once

#include <math.h>

#include "element.h"
#include "pool2d_plan.h"

namespace zoo::cuda {

// The rows or columns of the input that a window sees: count of them, `step` apart.
struct Seen {
  int32_t first, count, step;
  int32_t padded;  // how many of a mean's divisor count them, the padding included
};

ZOO_DEVICE Seen seen_by(bool adaptive, int32_t at, int32_t in, int32_t out, int32_t kernel,
                        int32_t stride, int32_t pad, int32_t dilation) {
  if (adaptive) {
    const int32_t first = static_cast<int32_t>(static_cast<int64_t>(at) * in / out);
    const int32_t end = static_cast<int32_t>((static_cast<int64_t>(at + 1) * in + out - 1) / out);
    return {first, end - first, 1, end - first};
  }
  const int32_t start = at * stride - pad;
  const int32_t skipped = start < 0 ? (-start + dilation - 1) / dilation : 0;
  const int32_t first = start + skipped * dilation;
  const int32_t room = first < in ? (in - first + dilation - 1) / dilation : 0;
  const int32_t left = kernel > skipped ? kernel - skipped : 0;
  const int32_t end = start + kernel < in + pad ? start + kernel : in + pad;
  return {first, room < left ? room : left, dilation, end - start};
}

ZOO_DEVICE float pool_start(bool max) { return max ? -INFINITY : 0; }
ZOO_DEVICE float pool_with(bool max, float so_far, float x) {
  if (!max) return so_far + x;
  return x > so_far || x != x ? x : so_far;
}
ZOO_DEVICE float pool_end(const Pool2dProblem& p, float value, int32_t seen, int32_t padded) {
  if (p.max || seen == 0) return value;
  const int32_t count = p.count_include_pad ? padded : seen;
  return value / (p.divisor != 0 ? p.divisor : static_cast<float>(count));
}

// kCount elements at `from`: 16 bytes, or one.
template <int32_t kCount, typename T, typename Context>
ZOO_DEVICE void pool_load(const Context& ctx, bool max, const T* from, float* values) {
  if constexpr (kCount == 1) {
    values[0] = pool_with(max, values[0], to_float(*from));
  } else {
    const Chunk<T> chunk{ctx.load16(from)};
    ZOO_UNROLL for (int32_t i = 0; i < kCount; ++i) {
      values[i] = pool_with(max, values[i], chunk.get(i));
    }
  }
}
template <int32_t kCount, typename T, typename Context>
ZOO_DEVICE void pool_store(const Context& ctx, T* to, const float* values) {
  if constexpr (kCount == 1) {
    *to = from_float<T>(values[0]);
  } else {
    Chunk<T> chunk{};
    ZOO_UNROLL for (int32_t i = 0; i < kCount; ++i) chunk.set(i, from_float<T>(values[i]));
    ctx.store16(to, chunk.bits);
  }
}

// Neighbouring threads make neighbouring channels; without chunks, where columns are closer in
// memory, neighbouring columns. Grid: x is the image, and its blocks.
template <typename T, bool kChunks, typename Context>
ZOO_DEVICE void pool2d_window_body(Context& ctx, const Pool2dProblem& p, const T* input,
                                   T* output) {
  constexpr int32_t kCount = kChunks ? Chunk<T>::kCount : 1;
  const int32_t image = ctx.block_x() / p.per_image;
  const int64_t item =
      static_cast<int64_t>(ctx.block_x() % p.per_image) * kPoolThreads + ctx.thread();
  const int32_t channels = p.channels / kCount, pixels = p.out_h * p.out_w;
  if (item >= static_cast<int64_t>(channels) * pixels) return;
  const int32_t number = static_cast<int32_t>(item);
  const bool planes = !kChunks && p.output.w == 1;
  const int32_t pixel = planes ? number % pixels : number / channels;
  const int32_t c = (planes ? number / pixels : number % channels) * kCount;
  const int32_t y = pixel / p.out_w, x = pixel % p.out_w;

  const Window32& w = p.window;
  const Seen rows =
      seen_by(p.adaptive, y, p.in_h, p.out_h, w.kernel_h, w.stride_h, w.pad_h, w.dilation_h);
  const Seen columns =
      seen_by(p.adaptive, x, p.in_w, p.out_w, w.kernel_w, w.stride_w, w.pad_w, w.dilation_w);
  float values[kCount];
  ZOO_UNROLL for (int32_t i = 0; i < kCount; ++i) values[i] = pool_start(p.max);
  const T* map = input + image * p.input.n + c * p.input.c;
  for (int32_t r = 0; r < rows.count; ++r) {
    const T* row = map + (rows.first + r * rows.step) * p.input.h;
    for (int32_t s = 0; s < columns.count; ++s) {
      pool_load<kCount>(ctx, p.max, row + (columns.first + s * columns.step) * p.input.w, values);
    }
  }
  ZOO_UNROLL for (int32_t i = 0; i < kCount; ++i) {
    values[i] = pool_end(p, values[i], rows.count * columns.count, rows.padded * columns.padded);
  }
  pool_store<kCount>(
      ctx, output + image * p.output.n + c * p.output.c + y * p.output.h + x * p.output.w, values);
}

template <typename T>
struct alignas(128) PoolShared {
  float values[kPoolWarps][kPoolAcross][Chunk<T>::kCount];
};

// A map to one pixel. By chunks: 32 threads share a chunk's pixels; those of a warp add up by
// shuffles, the warps by shared memory. Otherwise a warp shares a channel's pixels.
template <typename T, bool kChunks, typename Context>
ZOO_DEVICE void pool2d_global_body(Context& ctx, const Pool2dProblem& p, const T* input,
                                   T* output) {
  constexpr int32_t kCount = kChunks ? Chunk<T>::kCount : 1;
  constexpr int32_t kSharers = 32, kNearest = kChunks ? kPoolAcross : 1;
  const int32_t image = ctx.block_x() / p.per_image, warp = ctx.thread() / 32;
  const int32_t part = kChunks ? ctx.thread() % kPoolAcross : warp;
  const int32_t sharer = kChunks ? ctx.thread() / kPoolAcross : ctx.thread() % 32;
  const int32_t c = (ctx.block_x() % p.per_image * kPoolAcross + part) * kCount;
  const int32_t pixels = p.in_h * p.in_w;
  float values[kCount];
  ZOO_UNROLL for (int32_t i = 0; i < kCount; ++i) values[i] = pool_start(p.max);
  if (c < p.channels) {
    const T* map = input + image * p.input.n + c * p.input.c;
    for (int64_t at = sharer; at < pixels; at += kSharers) {
      const int32_t pixel = static_cast<int32_t>(at);
      pool_load<kCount>(ctx, p.max, map + pixel / p.in_w * p.input.h + pixel % p.in_w * p.input.w,
                        values);
    }
  }
  ZOO_UNROLL for (int32_t mask = kNearest; mask < 32; mask *= 2) {
    ZOO_UNROLL for (int32_t i = 0; i < kCount; ++i) {
      values[i] = pool_with(p.max, values[i], ctx.shfl_xor(values[i], mask));
    }
  }
  T* to = output + image * p.output.n + c * p.output.c;
  if constexpr (kChunks) {
    auto& shared = ctx.template shared<PoolShared<T>>();
    if (ctx.thread() % 32 < kPoolAcross) {
      ZOO_UNROLL for (int32_t i = 0; i < kCount; ++i) shared.values[warp][part][i] = values[i];
    }
    ctx.sync();
    if (warp != 0 || sharer != 0) return;
    for (int32_t other = 1; other < kPoolWarps; ++other) {
      ZOO_UNROLL for (int32_t i = 0; i < kCount; ++i) {
        values[i] = pool_with(p.max, values[i], shared.values[other][part][i]);
      }
    }
  }
  if (sharer != 0 || c >= p.channels) return;
  ZOO_UNROLL for (int32_t i = 0; i < kCount; ++i) values[i] =
      pool_end(p, values[i], pixels, pixels);
  pool_store<kCount>(ctx, to, values);
}

}  // namespace zoo::cuda
