// Pooling of whole maps (NCHW): lanes are taps.
#pragma once

#include "layout.inc.h"
#include "pool2d_window.inc.h"

namespace zoo {
namespace {

// One window that is a whole map whose elements all lie together: lanes are taps, until those of
// several channels are transposed.
template <typename T, bool kMax>
struct GlobalPooling {
  using V = Vec<T>;
  static constexpr int64_t kLanes = V::kLanes;
  static constexpr int64_t kMaps = 4 * kLanes;

  static bool takes(const Pool2dParams& p) {
    const Window& w = p.window;
    return !p.adaptive && p.out_h == 1 && p.out_w == 1 && w.pad_h == 0 && w.pad_w == 0 &&
           w.kernel_h == p.in_h && w.kernel_w == p.in_w && w.dilation_h == 1 && w.dilation_w == 1 &&
           p.input.w == 1 && p.input.h == p.in_w && p.in_h * p.in_w >= kLanes;
  }

  struct Reduction {
    V best;
    typename V::Mask nan;

    void take(V value) {
      if (kMax) nan = V::either(nan, is_nan(value));
      best = kMax ? max(best, value) : best + value;
    }
    V result() const { return kMax ? select(nan, V::broadcast(__builtin_nanf("")), best) : best; }
  };
  static Reduction nothing() {
    return {kMax ? V::broadcast(-__builtin_inf()) : V::zero(), is_nan(V::zero())};
  }

  // The taps of one map, lane by lane.
  static V taps(const T* from, int64_t count) {
    constexpr int kSums = 4;  // as many at a time, so that steps need not wait for each other
    Reduction parts[kSums] = {nothing(), nothing(), nothing(), nothing()};
    int64_t i = 0;
    for (; i + kSums * kLanes <= count; i += kSums * kLanes) {
      ZOO_UNROLL
      for (int j = 0; j < kSums; ++j) parts[j].take(V::load(from + i + j * kLanes));
    }
    for (; i + kLanes <= count; i += kLanes) parts[0].take(V::load(from + i));
    if (i < count) {
      // A maximum may see a tap twice; what a sum's last load lacks is 0.
      parts[1].take(kMax ? V::load(from + count - kLanes) : V::load(from + i, count - i));
    }
    ZOO_UNROLL
    for (int j = 1; j < kSums; ++j) parts[0].take(parts[j].result());
    return parts[0].result();
  }

  // At most kMaps channels. All are pooled before any is transposed, so that no load has to wait
  // for the stores that it overlaps.
  static void channels(const Pooling<T>& pooling, int64_t image, Range range) {
    const Pool2dParams& p = pooling.p;
    const int64_t n = range.end - range.begin, whole = round_up(n, kLanes);
    alignas(64) T lanes[kMaps * kLanes], turned[kLanes * kMaps];
    int64_t i = 0;
    do {
      const T* const map = pooling.input + offset(p.input, image, range.begin + i, 0, 0);
      taps(map, p.in_h * p.in_w).store(lanes + i * kLanes);
    } while (++i < n);
    for (; i < whole; ++i) V::zero().store(lanes + i * kLanes);
    transpose(lanes, kLanes, turned, kMaps, whole, kLanes);
    const V by = kMax ? V::zero() : V::broadcast(pooling.divisor(0, 0));
    for (int64_t c = 0; c < n; c += kLanes) {
      Reduction all = nothing();
      ZOO_UNROLL
      for (int64_t i = 0; i < kLanes; ++i) all.take(V::load(turned + i * kMaps + c));
      store_lanes(kMax ? all.result() : all.result() / by,
                  pooling.output.at(image, range.begin + c, 0, 0), p.output.c,
                  lesser(kLanes, n - c));
    }
  }
};

}  // namespace
}  // namespace zoo
