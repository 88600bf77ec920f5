// Depthwise convolution of maps whose channels are together: lanes run over channels.
#pragma once

#include <cstring>

#include "activation.inc.h"
#include "conv2d_depthwise_plan.inc.h"

namespace zoo {
namespace {

template <typename T>
struct DepthwiseRows {
  using V = Vec<T>;
  static constexpr int64_t kLanes = V::kLanes;
  // Columns of a block, at most: with the weights of 7 taps 8 fill 16 registers. Fewer where
  // vectors are short, to save code.
  static constexpr int kColumns = kLanes > 4 ? 8 : 4;
  // With 9 taps half of them, where there are 16 registers.
  static constexpr int columns_of(int64_t taps) {
    return taps > 7 && kLanes == 8 ? kColumns / 2 : kColumns;
  }

  const Conv2dParams& p;
  const T* input;
  Strides in;  // of input; channels together
  const T* weight;
  const T* bias;
  const T* residual;
  bool fetch;  // the input is not in cache: ask for it early

  // Blocks of output columns side by side, over some rows. The pointers belong to the first column
  // at the first channel, of row 0 (`output`: of the first row). Where a window begins outside of
  // the map, so does `input`.
  struct Area {
    Range ys;
    int64_t count;  // blocks
    Range columns;  // those of a block's input columns that are inside the map
    int64_t channels;
    const T* input;
    const T* weight;
    const T* bias;
    const T* residual;
    T* output;
    int64_t step_h, step_w;  // of the output
    bool plain;              // the residual's channels, if there is one, are together
    bool later;  // of a plain one: the activation is not just a limit, and follows by blocks
    T least;     // of the output: 0 for ReLU
  };
  // Of the input, from a row and a column to the next; of the weights, from a tap.
  struct Steps {
    int64_t row, column, factor;
  };
  using Kernel = void (*)(const DepthwiseRows&, const Area&);

  int64_t padded() const { return depthwise_width(p.out_channels); }

  // The sums of P output columns, n channels, to the output.
  template <int P>
  [[gnu::always_inline]] void finish(const Area& at, int64_t n, const T* residual_at, T* to,
                                     V (&sum)[P]) const {
    if (at.plain) {
      if (residual_at != nullptr) {
        ZOO_UNROLL
        for (int i = 0; i < P; ++i) {
          sum[i] = sum[i] + load_lanes(residual_at + i * p.residual.w, 1, n);
        }
      }
      const V least = V::broadcast(at.least);
      ZOO_UNROLL
      for (int i = 0; i < P; ++i) store_lanes(max(least, sum[i]), to + i * at.step_w, 1, n);
      return;
    }
    alignas(64) T sums[P * kLanes];
    ZOO_UNROLL
    for (int i = 0; i < P; ++i) sum[i].store(sums + i * kLanes);
    finish_rarer(at, n, residual_at, to, sums, P);
  }

  // The same from memory, which it uses up.
  [[gnu::noinline]] void finish_rarer(const Area& at, int64_t n, const T* residual_at, T* to,
                                      T* sums, int columns) const {
    for (int i = 0; residual_at != nullptr && i < columns; ++i) {
      const V more = load_lanes(residual_at + i * p.residual.w, p.residual.c, n);
      (V::load(sums + i * kLanes) + more).store(sums + i * kLanes);
    }
    activate_rows(p.activation, sums, columns, kLanes, kLanes);
    for (int i = 0; i < columns; ++i) {
      store_lanes(V::load(sums + i * kLanes), to + i * at.step_w, 1, n);
    }
  }

  // A K x K window with stride S: a row of P output columns, one vector of n channels. Each input
  // vector is loaded once a row, and feeds the columns that see it. At the map's edge the input
  // columns outside are passed over: only the first and the last of the block can be.
  template <int K, int S, int P, bool kEdge, typename Load>
  [[gnu::always_inline]] static void tile(const Steps& steps, Range inside, const T* from,
                                          int64_t rows, const T* factors, V start, Load load,
                                          V (&sum)[P]) {
    ZOO_UNROLL
    for (int i = 0; i < P; ++i) sum[i] = start;
    for (int64_t r = 0; r < rows; ++r) {
      V f[K];
      const T* factor = factors;
      ZOO_UNROLL
      for (int s = 0; s < K; ++s) {
        f[s] = V::load(factor + s % 3 * steps.factor);
        if (s % 3 == 2) factor = opaque(factor + 3 * steps.factor);
      }
      const T* x_at = from;
      ZOO_UNROLL
      for (int j = 0; j < (P - 1) * S + K; ++j) {
        const T* const here = x_at + j % 3 * steps.column;
        if (j % 3 == 2) x_at = opaque(x_at + 3 * steps.column);
        if (kEdge && j < K - 1 && j < inside.begin) continue;
        if (kEdge && j > (P - 1) * S && j >= inside.end) continue;
        const V x = load(here);
        ZOO_UNROLL
        for (int s = 0; s < K; ++s) {
          if (j >= s && (j - s) % S == 0 && (j - s) / S < P) {
            sum[(j - s) / S] = fma(x, f[s], sum[(j - s) / S]);
          }
        }
      }
      from += steps.row;
      factors += K * steps.factor;
    }
  }

  enum class Kind { inside, edge, tail };  // tail: fewer channels than lanes, at the edge or not

  template <int K, int S, int P, Kind kKind>
  static void area(const DepthwiseRows& self, const Area& at) {
    const Conv2dParams& p = self.p;
    constexpr int64_t kPerLine = larger(64 / (kLanes * int64_t{sizeof(T)}), 1);
    constexpr bool kEdge = kKind != Kind::inside;
    const Steps steps{self.in.h, self.in.w, self.padded()};
    const Range inside = at.columns;
    T* to_row = at.output;
    for (int64_t y = at.ys.begin; y < at.ys.end; ++y, to_row += at.step_h) {
      const int64_t top = y * S - p.window.pad_h;
      const int64_t begin = larger(-top, 0);
      const int64_t rows = opaque(lesser(p.in_h - top, K) - begin);
      const T* from = at.input + (top + begin) * steps.row;
      const T* const factors = at.weight + begin * K * steps.factor;
      const T* residual_at = at.residual == nullptr ? nullptr : at.residual + y * p.residual.h;
      T* to = to_row;
      for (int64_t i = 0; i < at.count; ++i) {
        V sum[P];
        if constexpr (kKind == Kind::tail) {
          const int64_t n = at.channels;
          const V start = at.bias == nullptr ? V::zero() : V::load(at.bias, n);
          tile<K, S, P, kEdge>(steps, inside, from, rows, factors, start, LoadFirst<T>{n}, sum);
          self.finish<P>(at, n, residual_at, to, sum);
        } else {
          for (int64_t c = 0; c < at.channels; c += kLanes) {
            const V start = at.bias == nullptr ? V::zero() : V::load(at.bias + c);
            tile<K, S, P, kEdge>(steps, inside, from + c, rows, factors + c, start, LoadAll<T>{},
                                 sum);
            if (self.fetch && c / kLanes % kPerLine == 0) {
              const T* const ahead = from + rows * steps.row + c;
              ZOO_UNROLL
              for (int j = 0; j < P * S; ++j) __builtin_prefetch(ahead + j * steps.column);
            }
            self.finish<P>(at, kLanes,
                           residual_at == nullptr ? nullptr : residual_at + c * p.residual.c,
                           to + c, sum);
          }
        }
        if (at.later) activate_rows(p.activation, to, P, at.step_w, at.channels);
        from += P * S * steps.column;
        to += P * at.step_w;
        if (residual_at != nullptr) residual_at += P * p.residual.w;
      }
    }
  }

  struct Kernels {
    Kernel inside[kColumns], edge[kColumns], tail[kColumns];  // by columns - 1
  };
  template <int K, int S, int... P>
  static constexpr Kernels kernels(Indices<P...>) {
    return {{area<K, S, P + 1, Kind::inside>...},
            {area<K, S, P + 1, Kind::edge>...},
            {area<K, S, P + 1, Kind::tail>...}};
  }
  template <int K, int S>
  static constexpr Kernels kernels() {
    return kernels<K, S>(IndicesTo<columns_of(K)>{});
  }
  static const Kernels& kernels_for(const Window& w) {
    static constexpr Kernels kFixed[] = {kernels<3, 1>(), kernels<3, 2>(), kernels<5, 1>(),
                                         kernels<5, 2>(), kernels<7, 1>(), kernels<7, 2>(),
                                         kernels<9, 1>(), kernels<9, 2>()};
    return kFixed[fixed_window(w)];
  }

  // Any window: `count` output columns, at most kColumns. `from` is where the first one's window
  // begins, in column `left` of the map. With kEdge some windows reach over the edge, or there are
  // fewer columns: each tap is left out of the columns that do not see it.
  template <bool kEdge>
  [[gnu::noinline]] void any(const Area& at, Range rows, int64_t left, int64_t count, const T* from,
                             const T* residual_at, T* to) const {
    const Window& w = p.window;
    const int64_t hop = w.stride_w * in.w, next = padded();
    for (int64_t c = 0; c < at.channels; c += kLanes) {
      const int64_t n = lesser(at.channels - c, kLanes);
      with_lanes<T>(1, n, [&](auto load) {
        V sum[kColumns];
        const V start = at.bias == nullptr ? V::zero() : load(at.bias + c);
        ZOO_UNROLL
        for (int i = 0; i < kColumns; ++i) sum[i] = start;
        for (int64_t r = rows.begin; r < rows.end; ++r) {
          for (int64_t s = at.columns.begin; s < at.columns.end; ++s) {
            const T* const x = from + r * w.dilation_h * in.h + s * w.dilation_w * in.w + c;
            const V f = V::load(at.weight + (r * w.kernel_w + s) * next + c);
            const int64_t column = left + s * w.dilation_w;
            ZOO_UNROLL
            for (int i = 0; i < kColumns; ++i) {
              if (kEdge && (i >= count || column + i * w.stride_w < 0 ||
                            column + i * w.stride_w >= p.in_w)) {
                continue;
              }
              sum[i] = fma(load(x + i * hop), f, sum[i]);
            }
          }
        }
        alignas(64) T sums[kColumns * kLanes];
        ZOO_UNROLL
        for (int i = 0; i < kColumns; ++i) sum[i].store(sums + i * kLanes);
        finish_rarer(at, n, residual_at == nullptr ? nullptr : residual_at + c * p.residual.c,
                     to + c, sums, static_cast<int>(count));
      });
    }
  }

  void any_rows(Area at) const {
    const Window& w = p.window;
    const Range inside = interior(p.out_w, p.in_w, w.kernel_w, w.stride_w, w.pad_w, w.dilation_w);
    for (int64_t y = at.ys.begin; y < at.ys.end; ++y) {
      const int64_t top = y * w.stride_h - w.pad_h;
      const Range rows = taps_inside(top, w.kernel_h, w.dilation_h, p.in_h);
      for (int64_t x = 0; x < p.out_w; x += kColumns) {
        const int64_t count = lesser(p.out_w - x, kColumns), left = x * w.stride_w - w.pad_w;
        const int64_t last = left + (count - 1) * w.stride_w;
        at.columns = {taps_inside(last, w.kernel_w, w.dilation_w, p.in_w).begin,
                      taps_inside(left, w.kernel_w, w.dilation_w, p.in_w).end};
        const T* const from = at.input + top * in.h + left * in.w;
        T* const to = at.output + (y - at.ys.begin) * at.step_h + x * at.step_w;
        const T* const residual_at =
            at.residual == nullptr ? nullptr : at.residual + y * p.residual.h + x * p.residual.w;
        if (count == kColumns && x >= inside.begin && x + count <= inside.end) {
          any<false>(at, rows, left, count, from, residual_at, to);
        } else {
          any<true>(at, rows, left, count, from, residual_at, to);
        }
      }
    }
  }

  // The same from a copy of what some rows of some channels see.
  DepthwiseRows from_copy(int64_t image, Range ys, Range channels, T* copy, int64_t pixel) const {
    const Window& w = p.window;
    const int64_t top = ys.begin * w.stride_h - w.pad_h;
    const int64_t bottom = (ys.end - 1) * w.stride_h - w.pad_h + (w.kernel_h - 1) * w.dilation_h;
    const Range seen{clamp(top, 0, p.in_h), clamp(bottom + 1, 0, p.in_h)};
    const int64_t n = channels.end - channels.begin, row = p.in_w * pixel;
    T* to = copy;
    for (int64_t y = seen.begin; y < seen.end; ++y) {
      const T* from = input + offset(in, image, channels.begin, y, 0);
      for (int64_t x = 0; x < p.in_w; ++x, from += in.w, to += pixel) {
        std::memcpy(to, from, static_cast<size_t>(n) * sizeof(T));
      }
    }
    DepthwiseRows same = *this;
    same.input = copy - seen.begin * row;
    same.in = {0, 0, row, pixel};
    same.fetch = false;
    return same;
  }

  Area from_channel(Area at, int64_t c, int64_t channels) const {
    at.channels = channels;
    at.input += c;
    at.weight += c;
    if (at.bias != nullptr) at.bias += c;
    if (at.residual != nullptr) at.residual += c * p.residual.c;
    at.output += c;
    return at;
  }

  // Rows ys of the channels, to `output`, where rows are step_h and columns step_w apart, and
  // channels are together.
  void rows(int64_t image, Range ys, Range channels, T* output, int64_t step_h,
            int64_t step_w) const {
    const Window& w = p.window;
    Area at{};
    at.ys = ys;
    at.channels = channels.end - channels.begin;
    at.weight = weight + channels.begin;
    at.bias = bias == nullptr ? nullptr : bias + channels.begin;
    at.step_h = step_h;
    at.step_w = step_w;
    at.plain = residual == nullptr || p.residual.c == 1;
    at.later = at.plain && !is_simple(p.activation);
    at.least = least_of<T>(p.activation);
    const T* const image_in = input + offset(in, image, channels.begin, 0, 0);
    const T* const image_residual =
        residual == nullptr ? nullptr : residual + offset(p.residual, image, channels.begin, 0, 0);

    if (fixed_window(w) < 0) {
      at.input = image_in;
      at.residual = image_residual;
      at.output = output;
      return any_rows(at);
    }
    const Kernels& fixed = kernels_for(w);
    const int64_t whole = at.channels / kLanes * kLanes;
    at.channels = whole;
    const int64_t blocks = ceil_div(p.out_w, columns_of(w.kernel_w)), size = p.out_w / blocks;
    int64_t longer = p.out_w % blocks;  // blocks of one column more
    for (int64_t x = 0; x < p.out_w;) {
      const int64_t columns = size + (longer > 0 ? 1 : 0);
      const int64_t left = x * w.stride_w - w.pad_w;
      const int64_t span = (columns - 1) * w.stride_w + w.kernel_w;
      at.columns = {clamp(-left, 0, span), clamp(p.in_w - left, 0, span)};
      at.input = image_in + left * in.w;
      at.residual = image_residual == nullptr ? nullptr : image_residual + x * p.residual.w;
      at.output = output + x * step_w;
      const bool edge = at.columns.begin > 0 || at.columns.end < span;
      at.count = 1;
      if (!edge) {
        const int64_t alike = longer > 0 ? longer : (p.out_w - x) / size;
        at.count = lesser(alike, (p.in_w - left - span) / (columns * w.stride_w) + 1);
      }
      const int64_t tail = channels.end - channels.begin - whole;
      if (whole > 0) (edge ? fixed.edge : fixed.inside)[columns - 1](*this, at);
      if (tail > 0) fixed.tail[columns - 1](*this, from_channel(at, whole, tail));
      x += at.count * columns;
      longer = larger(longer - at.count, 0);
    }
  }
};

}  // namespace
}  // namespace zoo
