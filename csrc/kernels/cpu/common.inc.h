// What every kernel uses: small arithmetic, threads, and vectors with any distance between lanes.
// Nothing from the standard library: its inline functions are shared symbols, and the linker
// could keep the copy that was compiled for an instruction set that the machine lacks.
#pragma once

#include <cstddef>
#include <cstdint>

#include "../params.h"
#include "../table.h"

// Before a loop of at most 32 steps whose variables must each live in a register: what is not
// unrolled whole keeps them in memory. The longest is depthwise 7x7 with stride 2, of 21.
#define ZOO_UNROLL _Pragma("GCC unroll 32")

namespace zoo {
namespace {

constexpr int64_t lesser(int64_t a, int64_t b) { return a < b ? a : b; }
constexpr int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }
constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
constexpr int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }
constexpr int64_t clamp(int64_t x, int64_t low, int64_t high) {
  return lesser(larger(x, low), high);
}

// x, of which the compiler knows nothing any more: it neither derives other addresses from it, each
// in a register of its own, nor unrolls a loop because it knows a bound.
template <typename T>
[[gnu::always_inline]] inline T opaque(T x) {
  asm("" : "+r"(x));
  return x;
}

// 0, 1, ... N - 1 as template arguments
template <int... I>
struct Indices {};
template <int N, int... I>
struct IndicesUpTo : IndicesUpTo<N - 1, N - 1, I...> {};
template <int... I>
struct IndicesUpTo<0, I...> {
  using Type = Indices<I...>;
};
template <int N>
using IndicesTo = typename IndicesUpTo<N>::Type;

struct Range {
  int64_t begin, end;
};

// Part i of [0, count) cut into `parts` pieces whose sizes differ by at most one.
inline Range part(int64_t count, int64_t parts, int64_t i) {
  const int64_t size = count / parts, longer = count % parts;
  const int64_t begin = i * size + lesser(i, longer);
  return {begin, begin + size + (i < longer ? 1 : 0)};
}

// Which of `kernel` taps, `dilation` apart from `start` on, fall inside [0, size).
inline Range taps_inside(int64_t start, int64_t kernel, int64_t dilation, int64_t size) {
  // Most windows are inside; the others pay for divisions.
  if (start >= 0 && start + (kernel - 1) * dilation < size) return {0, kernel};
  const int64_t begin = start >= 0 ? 0 : lesser(ceil_div(-start, dilation), kernel);
  const int64_t end = start >= size ? 0 : lesser(ceil_div(size - start, dilation), kernel);
  return {begin, larger(begin, end)};
}

// The output positions whose whole window is inside the map; possibly empty.
inline Range interior(int64_t out, int64_t in, int64_t kernel, int64_t stride, int64_t pad,
                      int64_t dilation) {
  const int64_t begin = lesser(ceil_div(pad, stride), out);
  const int64_t room = in + pad - (kernel - 1) * dilation - 1;  // the last start that fits
  return {begin, room < 0 ? begin : clamp(room / stride + 1, begin, out)};
}

// body(begin, end, thread) over [0, count)
template <typename Body>
void parallel_for(const Parallel& parallel, int64_t count, Body body) {
  if (count <= 0) return;
  if (parallel.run == nullptr || parallel.threads <= 1) {
    body(int64_t{0}, count, 0);
    return;
  }
  parallel.run(parallel, count, &body,
               [](void* context, int64_t begin, int64_t end, int32_t thread) {
                 (*static_cast<Body*>(context))(begin, end, thread);
               });
}

// Four ways to load n lanes that are `stride` elements apart. with_lanes picks one outside of
// the loop that uses it.
template <typename T>
struct LoadAll {
  Vec<T> operator()(const T* p) const { return Vec<T>::load(p); }
};
template <typename T>
struct LoadFirst {
  int64_t n;
  Vec<T> operator()(const T* p) const { return Vec<T>::load(p, n); }
};
template <typename T>
struct LoadEven {
  Vec<T> operator()(const T* p) const { return Vec<T>::load_even(p); }
};
template <typename T>
struct LoadApart {
  int64_t stride, n;
  Vec<T> operator()(const T* p) const {
    alignas(64) T lanes[Vec<T>::kLanes] = {};
    for (int64_t i = 0; i < n; ++i) lanes[i] = p[i * stride];
    return Vec<T>::load(lanes);
  }
};

template <typename T, typename Body>
inline void with_lanes(int64_t stride, int64_t n, Body body) {
  if (n == Vec<T>::kLanes && stride == 1) return body(LoadAll<T>{});
  if (stride == 1) return body(LoadFirst<T>{n});
  if (n == Vec<T>::kLanes && stride == 2) return body(LoadEven<T>{});
  body(LoadApart<T>{stride, n});
}

template <typename T>
inline Vec<T> load_lanes(const T* p, int64_t stride, int64_t n) {
  if (stride == 1) return n == Vec<T>::kLanes ? Vec<T>::load(p) : Vec<T>::load(p, n);
  return LoadApart<T>{stride, n}(p);
}

template <typename T>
inline void store_lanes(Vec<T> x, T* p, int64_t stride, int64_t n) {
  if (stride == 1 && n == Vec<T>::kLanes) return x.store(p);
  if (stride == 1) return x.store(p, n);
  alignas(64) T lanes[Vec<T>::kLanes];
  x.store(lanes);
  for (int64_t i = 0; i < n; ++i) p[i * stride] = lanes[i];
}

// Whether an output in channels_last is written around the caches (Vec::stream): it is so large
// that its lines have left them before anyone reads them, and an ordinary store would first read
// each line from memory, only to replace it. (Where the residual lies there, it is read anyway.)
// Every vector that begins at a multiple of a line's channels is aligned then. A thread that has
// streamed ends with a fence.
template <typename T>
inline bool writes_around(const Conv2dParams& p, const T* residual, const T* output) {
  constexpr int64_t kLine = 64 / sizeof(T), kLarge = 16 << 20;
  const Strides& s = p.output;
  const int64_t bytes = p.batch * p.out_channels * p.out_h * p.out_w * int64_t{sizeof(T)};
  return p.pool == Pool::none && residual != output && bytes >= kLarge && s.c == 1 &&
         (s.n | s.h | s.w | p.out_channels / p.groups) % kLine == 0 &&
         reinterpret_cast<uintptr_t>(output) % 64 == 0;
}

// At one depth of packed weights, vector j of filters from the one at b on. Strips are `strip`
// elements apart.
template <typename T>
[[gnu::always_inline]] inline Vec<T> load_filters(const T* b, int64_t strip, int64_t j) {
  j *= Vec<T>::kLanes;
  return Vec<T>::load(b + j / kStrip * strip + j % kStrip);
}

// All lanes added up, halves to halves.
template <typename T>
inline T sum_of_lanes(Vec<T> x) {
  alignas(64) T lanes[Vec<T>::kLanes];
  x.store(lanes);
  for (int64_t half = Vec<T>::kLanes / 2; half > 0; half /= 2) {
    for (int64_t i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  }
  return lanes[0];
}

// Where a kernel writes: a tensor, or a piece of one whose first image, channel and row are the
// given ones.
template <typename T>
struct Target {
  T* data;
  Strides strides;
  int64_t image = 0, channel = 0, row = 0;

  T* at(int64_t n, int64_t c, int64_t h, int64_t w) const {
    return data + (n - image) * strides.n + (c - channel) * strides.c + (h - row) * strides.h +
           w * strides.w;
  }
};

inline int64_t offset(const Strides& s, int64_t n, int64_t c, int64_t h, int64_t w) {
  return n * s.n + c * s.c + h * s.h + w * s.w;
}

}  // namespace
}  // namespace zoo
