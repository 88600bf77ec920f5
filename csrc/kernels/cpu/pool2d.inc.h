// Max and average pooling: which of the ways a case goes, and how threads share it.
#pragma once

#include "pool2d_global.inc.h"
#include "pool2d_planes.inc.h"
#include "pool2d_window.inc.h"

namespace zoo {
namespace {

// Where rows of windows begin below each other as in one tall map, all maps are one.
inline Pool2dParams join_maps(Pool2dParams p) {
  const Window& w = p.window;
  const auto stacked = [&](const Strides& s, int64_t rows) {
    return s.c == rows * s.h && (p.batch == 1 || s.n == p.channels * s.c);
  };
  if (!p.adaptive && w.pad_h == 0 && (w.kernel_h - 1) * w.dilation_h < w.stride_h &&
      p.in_h == p.out_h * w.stride_h && stacked(p.input, p.in_h) && stacked(p.output, p.out_h)) {
    p.in_h *= p.batch * p.channels;
    p.out_h *= p.batch * p.channels;
    p.batch = p.channels = 1;
  }
  return p;
}

template <typename T, bool kMax>
void run_pool2d(const Pool2dParams& p, const T* input, T* output, int64_t* indices,
                const Parallel& parallel) {
  const Pooling<T> pooling{p, input, 0, {output, p.output}, indices};
  if (indices == nullptr && !pooling.lanes_are_channels()) {
    if (GlobalPooling<T, kMax>::takes(p)) {
      constexpr int64_t kMaps = GlobalPooling<T, kMax>::kMaps;
      const int64_t pieces = ceil_div(p.channels, kMaps);
      return parallel_for(parallel, p.batch * pieces, [&](int64_t begin, int64_t end, int32_t) {
        for (int64_t i = begin; i < end; ++i) {
          const int64_t c = i % pieces * kMaps;
          GlobalPooling<T, kMax>::channels(pooling, i / pieces, {c, lesser(c + kMaps, p.channels)});
        }
      });
    }
    using Planes = PlanePooling<T, kMax>;
    if (Planes::takes(p)) {
      const Pool2dParams q = join_maps(p);
      const Pooling<T> each{q, input, 0, {output, q.output}, nullptr};
      const Planes planes{each, q};
      const int64_t rows = q.batch * q.channels * q.out_h;
      return parallel_for(parallel, rows, [&](int64_t begin, int64_t end, int32_t) {
        for (int64_t i = begin; i < end;) {
          const int64_t map = i / q.out_h, y = i % q.out_h, stop = lesser(q.out_h, y + end - i);
          if (q.adaptive) {
            planes.adaptive_plane(map / q.channels, map % q.channels, {y, stop});
          } else {
            planes.plane(map / q.channels, map % q.channels, {y, stop});
          }
          i += stop - y;
        }
      });
    }
  }
  // Units are rows: of single channels where lanes are columns, of slices where rows are few.
  int64_t slice = 1;
  if (pooling.lanes_are_channels()) {
    const bool few = p.batch * p.out_h < 4 * parallel.threads;
    slice = few ? larger(64, round_up(ceil_div(p.channels, parallel.threads), 16)) : p.channels;
  }
  const int64_t slices = ceil_div(p.channels, slice);
  parallel_for(parallel, p.batch * slices * p.out_h, [&](int64_t begin, int64_t end, int32_t) {
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t y = unit % p.out_h, rest = unit / p.out_h;
      const int64_t c = rest % slices * slice;
      pooling.template row<kMax>(rest / slices, y, {c, lesser(c + slice, p.channels)});
    }
  });
}

template <typename T>
void max_pool2d(const Pool2dParams& p, const T* input, T* output, int64_t* indices,
                const Parallel& parallel) {
  run_pool2d<T, true>(p, input, output, indices, parallel);
}

template <typename T>
void avg_pool2d(const Pool2dParams& p, const T* input, T* output, const Parallel& parallel) {
  run_pool2d<T, false>(p, input, output, nullptr, parallel);
}

}  // namespace
}  // namespace zoo
