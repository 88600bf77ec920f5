// Depthwise convolution of maps whose columns are together (NCHW): lanes run over columns, and
// nothing is transposed.
#pragma once

#include "activation.inc.h"
#include "conv2d_depthwise_plan.inc.h"

namespace zoo {
namespace {

template <typename T>
struct DepthwisePlanes {
  using V = Vec<T>;
  static constexpr int64_t kLanes = V::kLanes;
  static constexpr int kRows = kLanes > 4 ? 4 : 2, kVecs = 2;  // of a tile

  const Conv2dParams& p;
  const DepthwiseLines& lines;
  const T* input;
  const T* weight;
  const T* bias;
  const T* residual;

  // Some output rows of one channel.
  struct Rows {
    const T* lines;    // of the first window
    const V* factors;  // each tap's weight in all lanes
    V start, least;    // of the sums, and of the output: 0 for ReLU
    bool plain;        // the activation is none or ReLU, and the residual's columns are together
    const T* residual;
    T* output;
    int64_t step_h;  // of the output
  };
  using Kernel = void (*)(const DepthwisePlanes&, const Rows&);

  // R rows of C vectors, the last of which has n columns. Each vector of a line is loaded once,
  // and feeds the rows that see it.
  template <int K, int S, int R, int C>
  [[gnu::always_inline]] void tile(const Rows& at, int64_t x, int64_t n) const {
    const int64_t line = lines.line, phase = lines.phase;
    V sum[R][C];
    ZOO_UNROLL
    for (int q = 0; q < R; ++q) {
      ZOO_UNROLL
      for (int j = 0; j < C; ++j) sum[q][j] = at.start;
    }
    const T* from = at.lines + x;
    ZOO_UNROLL
    for (int i = 0; i < (R - 1) * S + K; ++i) {
      ZOO_UNROLL
      for (int s = 0; s < K; ++s) {
        V v[C];
        ZOO_UNROLL
        for (int j = 0; j < C; ++j) v[j] = V::load(from + s % S * phase + s / S + j * kLanes);
        ZOO_UNROLL
        for (int q = 0; q < R; ++q) {
          const int r = i - q * S;
          if (r < 0 || r >= K) continue;
          ZOO_UNROLL
          for (int j = 0; j < C; ++j) sum[q][j] = fma(v[j], at.factors[r * K + s], sum[q][j]);
        }
      }
      from = opaque(from + line);
    }
    T* const to = at.output + x;
    const T* const more = at.residual == nullptr ? nullptr : at.residual + x * p.residual.w;
    if (!at.plain) {
      alignas(64) T sums[R * C * kLanes];
      ZOO_UNROLL
      for (int q = 0; q < R; ++q) {
        ZOO_UNROLL
        for (int j = 0; j < C; ++j) sum[q][j].store(sums + (q * C + j) * kLanes);
      }
      return finish_rarer(at, sums, R, (C - 1) * kLanes + n, C * kLanes, more, to);
    }
    const int64_t step = at.step_h, more_step = p.residual.h;
    const V least = at.least;
    if (more != nullptr) {
      ZOO_UNROLL
      for (int q = 0; q < R; ++q) {
        ZOO_UNROLL
        for (int j = 0; j < C; ++j) {
          sum[q][j] = sum[q][j] + load_lanes(more + q * more_step + j * kLanes, 1, last(j, C, n));
        }
      }
    }
    ZOO_UNROLL
    for (int q = 0; q < R; ++q) {
      ZOO_UNROLL
      for (int j = 0; j < C; ++j) {
        store_lanes(max(least, sum[q][j]), to + q * step + j * kLanes, 1, last(j, C, n));
      }
    }
  }

  static int64_t last(int j, int vecs, int64_t n) { return j == vecs - 1 ? n : kLanes; }

  // `rows` rows of sums, `pitch` apart, to the output's first `columns` columns.
  [[gnu::noinline]] void finish_rarer(const Rows& at, T* sums, int rows, int64_t columns,
                                      int64_t pitch, const T* more, T* to) const {
    const auto each = [&](auto with) {
      for (int q = 0; q < rows; ++q) {
        for (int64_t j = 0; j < columns; j += kLanes) {
          with(q, j, sums + q * pitch + j, lesser(columns - j, kLanes));
        }
      }
    };
    if (more != nullptr) {
      each([&](int q, int64_t j, T* sum, int64_t n) {
        const T* const extra = more + q * p.residual.h + j * p.residual.w;
        (V::load(sum) + load_lanes(extra, p.residual.w, n)).store(sum);
      });
    }
    activate_rows(p.activation, sums, rows, pitch, pitch);
    each([&](int q, int64_t j, const T* sum, int64_t n) {
      store_lanes(V::load(sum), to + q * at.step_h + j, 1, n);
    });
  }

  template <int K, int S, int R>
  static void rows_of(const DepthwisePlanes& self, const Rows& at) {
    int64_t x = 0;
    for (; x + kVecs * kLanes < self.p.out_w; x += kVecs * kLanes) {
      self.tile<K, S, R, kVecs>(at, x, kLanes);
    }
    const int64_t left = self.p.out_w - x;
    if (left > kLanes) {
      self.tile<K, S, R, kVecs>(at, x, left - kLanes);
    } else {
      self.tile<K, S, R, 1>(at, x, left);
    }
  }

  struct Kernels {
    Kernel run[kRows];  // by rows - 1
  };
  template <int K, int S, int... R>
  static constexpr Kernels kernels(Indices<R...>) {
    return {{rows_of<K, S, R + 1>...}};
  }
  static const Kernels& kernels_for(const Window& w) {
    using All = IndicesTo<kRows>;
    static constexpr Kernels kFixed[] = {kernels<3, 1>(All{}), kernels<3, 2>(All{}),
                                         kernels<5, 1>(All{}), kernels<5, 2>(All{}),
                                         kernels<7, 1>(All{}), kernels<7, 2>(All{})};
    return kFixed[fixed_window(w)];
  }

  static void zero(T* to, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i += kLanes) V::zero().store(to + i);
  }

  // One row of the map, and zeros in all that vectors of it reach. These run over the ends of
  // phases, into what is written next.
  template <int S>
  void fill_line(const T* row, T* line) const {
    ZOO_UNROLL
    for (int phase = 0; phase < S; ++phase, line += lines.phase) {
      const Range inside = lines.inside[phase];
      zero(line, 0, inside.begin);
      int64_t i = inside.begin, x = i * S - p.window.pad_w + phase;
      if constexpr (S == 1) {
        for (; i + kLanes <= inside.end; i += kLanes)
          V::load(row + x + i - inside.begin).store(line + i);
        if (i < inside.end) {
          V::load(row + x + i - inside.begin, inside.end - i).store(line + i);
        }
      } else {
        for (; i + kLanes <= inside.end; i += kLanes, x += 2 * kLanes) {
          V::load_even(row + x).store(line + i);
        }
        if (i < inside.end) {
          const int64_t n = 2 * (inside.end - i) - 1;
          const V first = V::load(row + x, lesser(n, kLanes));
          const V second = n > kLanes ? V::load(row + x + kLanes, n - kLanes) : V::zero();
          even(first, second).store(line + i);
        }
      }
      zero(line, inside.end, lines.phase);
    }
  }

  // The lines that output rows from y on see.
  template <int S>
  static void fill(const DepthwisePlanes& self, const T* map, int64_t top, int64_t count, T* to) {
    for (int64_t r = 0; r < count; ++r, to += self.lines.line) {
      if (top + r < 0 || top + r >= self.p.in_h) {
        zero(to, 0, self.lines.line);
      } else {
        self.fill_line<S>(map + (top + r) * self.p.input.h, to);
      }
    }
  }

  // Rows ys of a channel to `output`, where rows are step_h apart and columns are together.
  void rows(int64_t image, int64_t channel, Range ys, T* output, int64_t step_h, T* memory) const {
    const Window& w = p.window;
    const Kernels& run = kernels_for(w);
    const int64_t taps = w.kernel_h * w.kernel_w, padded = depthwise_width(p.out_channels);
    V factors[49];
    for (int64_t i = 0; i < taps; ++i) factors[i] = V::broadcast(weight[i * padded + channel]);
    Rows at{};
    at.factors = factors;
    at.start = bias == nullptr ? V::zero() : V::broadcast(bias[channel]);
    at.least = V::broadcast(least_of<T>(p.activation));
    at.plain = is_simple(p.activation) && (residual == nullptr || p.residual.w == 1);
    at.step_h = step_h;
    const T* const map = input + offset(p.input, image, channel, 0, 0);
    for (int64_t begin = ys.begin; begin < ys.end; begin += lines.rows) {
      const int64_t count = lesser(lines.rows, ys.end - begin);
      const int64_t top = begin * w.stride_h - w.pad_h;
      const int64_t inputs = (count - 1) * w.stride_h + w.kernel_h;
      (w.stride_h == 1 ? fill<1> : fill<2>)(*this, map, top, inputs, memory);
      const int64_t tiles = ceil_div(count, kRows);
      for (int64_t i = 0; i < tiles; ++i) {
        const auto [y, y_end] = part(count, tiles, i);
        at.lines = memory + y * w.stride_h * lines.line;
        at.output = output + (begin - ys.begin + y) * step_h;
        at.residual = residual == nullptr
                          ? nullptr
                          : residual + offset(p.residual, image, channel, begin + y, 0);
        run.run[y_end - y - 1](*this, at);
      }
    }
  }
};

}  // namespace
}  // namespace zoo
