// Pooling where a map's rows lie together (NCHW): lanes are columns.
#pragma once

#include "pool2d_window.inc.h"

namespace zoo {
namespace {

// Joins each window's rows column by column in a small buffer, then the buffer's columns:
// kernel_h + kernel_w steps instead of kernel_h * kernel_w. What windows see outside of the map
// is in the buffer too, so that edges cost nothing more. The buffer holds some output rows, as
// loads that overlap two stores have to wait until these are done.
template <typename T, bool kMax>
struct PlanePooling {
  using V = Vec<T>;
  static constexpr int64_t kLanes = V::kLanes;
  static constexpr int64_t kColumns = 2048;      // of the buffer,
  static constexpr int64_t kSlack = 2 * kLanes;  // besides what a row's last vectors touch

  const Pooling<T>& pooling;
  const Pool2dParams& p;
  const Range whole = whole_rows(p);

  // Output rows whose windows are inside the map.
  static Range whole_rows(const Pool2dParams& p) {
    const Window& w = p.window;
    return interior(p.out_h, p.in_h, w.kernel_h, w.stride_h, w.pad_h, w.dilation_h);
  }

  // Columns that a window spans.
  static int64_t span(const Window& w) { return (w.kernel_w - 1) * w.dilation_w + 1; }

  static bool takes(const Pool2dParams& p) {
    const Window& w = p.window;
    if (p.adaptive) return !kMax && p.input.w == 1 && p.in_w <= kColumns;
    return p.input.w == 1 && p.output.w == 1 && w.stride_w <= 2 && span(w) <= kColumns / 2;
  }

  static V neutral() { return kMax ? V::broadcast(-__builtin_inf()) : V::zero(); }
  static V join(V a, V b) { return kMax ? max(a, b) : a + b; }

  // Joins n columns of `rows` rows (R, if not 0) that are `step` apart, and as much below it, each
  // `next` and `pitch` on, to `lines` lines in all. Says whether it met NaN.
  template <int R>
  static bool join_rows(const T* from, int64_t rows, int64_t step, int64_t n, T* to,
                        int64_t lines = 1, int64_t next = 0, int64_t pitch = 0) {
    auto met = is_nan(V::zero());
    const auto column = [&](const T* tap, auto load) {
      V best = load(tap);
      auto nan = is_nan(best);
      const int64_t count = R > 0 ? R : rows;
      ZOO_UNROLL
      for (int64_t r = 1; r < count; ++r) {
        tap += step;
        const V value = load(tap);
        // A NaN in `best` may be lost below, never one in `value`.
        if (kMax) nan = r == 1 ? unordered(best, value) : V::either(nan, unordered(best, value));
        best = join(best, value);
      }
      if (!kMax) return best;
      met = V::either(met, nan);
      return select(nan, V::broadcast(__builtin_nanf("")), best);
    };
    for (; lines > 0; --lines, from += next, to += pitch) {
      int64_t w = 0;
      for (; w + kLanes <= n; w += kLanes) column(from + w, LoadAll<T>{}).store(to + w);
      if (w < n) column(from + w, LoadFirst<T>{n - w}).store(to + w);
    }
    return kMax && V::any(met);
  }

  // Joins the K (kernel_w, if 0) columns of each of n windows, and divides an average's sums.
  // `room` lanes may be written.
  template <int K, int kStride, bool kNan>
  static void join_columns(const Window& w, const T* from, int64_t n, T divisor, T* to,
                           int64_t room) {
    const int64_t kernel = K > 0 ? K : w.kernel_w, step = K > 0 ? 1 : w.dilation_w;
    const auto taps = [&](const T* tap) {
      V best = V::load(tap);
      auto nan = is_nan(best);
      ZOO_UNROLL
      for (int64_t s = 1; s < kernel; ++s) {
        const V value = V::load(tap + s * step);
        if (kNan) nan = V::either(nan, is_nan(value));
        best = join(best, value);
      }
      return kNan ? select(nan, V::broadcast(__builtin_nanf("")), best) : best;
    };
    const V by = V::broadcast(divisor);
    const auto windows = [&](int64_t x) {
      const T* const tap = from + x * kStride;
      const V best = kStride == 1 ? taps(tap) : even(taps(tap), taps(tap + kLanes));
      return kMax ? best : best / by;
    };
    int64_t x = 0;
    for (; x + kLanes <= n; x += kLanes) windows(x).store(to + x);
    if (x == n) return;
    if (x + kLanes <= room) {
      windows(x).store(to + x);
    } else if (n >= kLanes) {
      windows(n - kLanes).store(to + n - kLanes);
    } else {
      windows(x).store(to + x, n - x);
    }
  }

  template <bool kNan>
  static auto columns_joiner(const Window& w) {
    const bool one = w.stride_w == 1, near = w.dilation_w == 1 && !kNan;
    if (near && w.kernel_w == 2) return one ? join_columns<2, 1, kNan> : join_columns<2, 2, kNan>;
    if (near && w.kernel_w == 3) return one ? join_columns<3, 1, kNan> : join_columns<3, 2, kNan>;
    return one ? join_columns<0, 1, kNan> : join_columns<0, 2, kNan>;
  }

  // Joins the rows of windows at columns [x0, x1), with what is outside of the map around them:
  // those of the first output row, and of the rows below that see as many. Returns the row behind
  // them, and says whether it met NaN.
  int64_t fill(const T* map, Range ys, int64_t x0, int64_t x1, T* to, int64_t pitch,
               bool& nan) const {
    const Window& w = p.window;
    const Range rows = pooling.taps_h(ys.begin);
    const int64_t count = rows.end - rows.begin;
    const int64_t start = pooling.start_w(x0), stop = pooling.start_w(x1 - 1) + span(w);
    const int64_t w0 = larger(start, 0), w1 = lesser(stop, p.in_w);
    const bool empty = count == 0 || w0 >= w1, padded = w0 != start || w1 != stop;
    // What spills over a line's end must not meet the padding of the next one.
    const bool apart = !padded || pitch - (stop - start) >= kLanes;
    const bool many = apart && !empty && ys.begin >= whole.begin && ys.begin < whole.end;
    const int64_t lines = many ? lesser(ys.end, whole.end) - ys.begin : 1;
    if (!empty) {
      const auto join = count == 2 ? join_rows<2> : count == 3 ? join_rows<3> : join_rows<0>;
      const int64_t h0 = pooling.start_h(ys.begin) + rows.begin * w.dilation_h;
      nan |= join(map + h0 * p.input.h + w0, count, w.dilation_h * p.input.h, w1 - w0,
                  to + w0 - start, lines, w.stride_h * p.input.h, pitch);
    }
    for (int64_t line = 0; padded && line < lines; ++line, to += pitch) {
      for (int64_t i = start; i < w0; ++i) to[i - start] = kMax ? -T(__builtin_inf()) : T(0);
      for (int64_t i = empty ? w0 : w1; i < stop; i += kLanes) neutral().store(to + i - start);
    }
    return ys.begin + lines;
  }

  // Output rows of one map, means over windows of several sizes.
  void adaptive_plane(int64_t image, int64_t channel, Range ys) const {
    alignas(64) T buffer[kColumns];
    const T* const map = pooling.input + offset(p.input, image, channel, 0, 0);
    for (int64_t y = ys.begin; y < ys.end; ++y) {
      const int64_t rows = pooling.taps_h(y).end;
      join_rows<0>(map + pooling.start_h(y) * p.input.h, rows, p.input.h, p.in_w, buffer);
      // start_w and taps_w for each x in turn, without their divisions
      const int64_t step = p.in_w / p.out_w, more = p.in_w % p.out_w;
      T* to = pooling.output.at(image, channel, y, 0);
      for (int64_t x = 0, start = 0, rest = 0; x < p.out_w; ++x, to += p.output.w) {
        rest += more;
        const int64_t next = start + step + (rest >= p.out_w);
        rest -= rest >= p.out_w ? p.out_w : 0;
        const int64_t stop = next + (rest > 0);
        T sum = buffer[start];
        for (int64_t i = start + 1; i < stop; ++i) sum += buffer[i];
        *to = sum / static_cast<T>(rows * (stop - start));
        start = next;
      }
    }
  }

  // Output rows of one map.
  void plane(int64_t image, int64_t channel, Range ys) const {
    const Window& w = p.window;
    alignas(64) T buffer[kColumns + 3 * kSlack];
    const T* const map = pooling.input + offset(p.input, image, channel, 0, 0);
    const T* const end = pooling.output.at(image, channel, ys.end, 0);
    const bool dense = p.output.h == p.out_w;
    const Range same = same_divisor();
    // Windows that do not overlap, with one divisor: all rows of the buffer are joined as one.
    const bool flat = dense && span(w) <= w.stride_w && p.out_w * w.stride_w <= kColumns &&
                      (kMax || (w.pad_h == 0 && same.end - same.begin == p.out_w &&
                                pooling.counted_h(ys.begin) == pooling.counted_h(ys.end - 1)));
    const int64_t block = lesser((kColumns - span(w)) / w.stride_w + 1, p.out_w);
    const int64_t width = (block - 1) * w.stride_w + span(w);
    const int64_t pitch = flat ? p.out_w * w.stride_w : width + kSlack;
    const int64_t batch = larger(kColumns / pitch, 1);
    const auto plain = columns_joiner<false>(w), careful = columns_joiner<kMax>(w);
    // Writes windows from (y, x) on; may spill over what comes later, here or in the next rows.
    const auto join = [&](auto join_columns, const T* from, int64_t y, int64_t x, int64_t n) {
      T* const to = pooling.output.at(image, channel, y, x);
      const bool spills = dense && block == p.out_w;
      join_columns(w, from, n, kMax ? T(1) : pooling.divisor(y, x), to, spills ? end - to : n);
    };
    for (int64_t x0 = 0; x0 < p.out_w; x0 += block) {
      const int64_t x1 = lesser(x0 + block, p.out_w);
      for (int64_t y0 = ys.begin; y0 < ys.end; y0 += batch) {
        const int64_t y1 = lesser(y0 + batch, ys.end);
        bool nan = false;
        for (int64_t y = y0; y < y1;) {
          y = fill(map, {y, y1}, x0, x1, buffer + (y - y0) * pitch, pitch, nan);
        }
        const auto join_columns = nan ? careful : plain;
        if (flat) {
          join(join_columns, buffer, y0, 0, (y1 - y0) * p.out_w);
          continue;
        }
        for (int64_t y = y0; y < y1; ++y) {
          for (int64_t x = x0; x < x1;) {
            const bool alike = x >= same.begin && x < same.end;
            const int64_t after = kMax ? x1 : alike ? lesser(same.end, x1) : x + 1;
            join(join_columns, buffer + (y - y0) * pitch + (x - x0) * w.stride_w, y, x, after - x);
            x = after;
          }
        }
      }
    }
  }

  // Output columns whose averages have the same divisor.
  Range same_divisor() const {
    const Window& w = p.window;
    if (p.divisor_override != 0) return {0, p.out_w};
    if (!p.count_include_pad) return pooling.alike();
    return interior(p.out_w, p.in_w + 2 * w.pad_w, w.kernel_w, w.stride_w, 0, 1);
  }
};

}  // namespace
}  // namespace zoo
