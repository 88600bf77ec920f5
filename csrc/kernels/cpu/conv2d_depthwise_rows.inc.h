// Depthwise convolution of maps whose channels are together: lanes run over channels.
#pragma once

#include "activation.inc.h"
#include "common.inc.h"

#ifndef PF
#define PF 1
#endif
namespace zoo {
namespace {

template <typename T>
struct DepthwiseRows {
  using V = Vec<T>;
  static constexpr int64_t kLanes = V::kLanes;

  const Conv2dParams& p;
  const T* input;
  Strides in;  // of input; channels together
  const T* weight;
  const T* bias;
  const T* residual;

  // Output columns that one call makes, and the pointers that belong to the first of them at the
  // first channel.
  struct Place {
    Range rows;  // the window's rows that are inside the map
    // The window's columns that are: of the first output column, or, in the kernels of a fixed
    // window, of the block, whose input columns are counted from the first that it would see.
    Range columns;
    int64_t channels;
    const T* input;  // at the first of these rows
    const T* weight;
    const T* bias;
    const T* residual;
    T* output;
    int64_t step;   // of the output, from a column to the next
    int64_t count;  // blocks in a row
  };
  using Kernel = void (*)(const DepthwiseRows&, Place);

  V start(const Place& at, int64_t c, int64_t n) const {
    return at.bias == nullptr ? V::zero() : load_lanes(at.bias + c, 1, n);
  }

  // Output column i of the place, n channels from c on.
  [[gnu::always_inline]] void finish(const Place& at, int i, int64_t c, int64_t n, V sum) const {
    if (at.residual != nullptr) {
      sum = sum + load_lanes(at.residual + i * p.residual.w + c * p.residual.c, p.residual.c, n);
    }
    store_lanes(activate(p.activation, sum), at.output + i * at.step + c, 1, n);
  }

  // One vector of P output columns. Each input vector is loaded once a row, and feeds the columns
  // that see it; at the map's edge the input columns outside are passed over.
  template <int K, int S, int P, bool kEdge, typename Load>
  [[gnu::always_inline]] void tile(const Place& at, int64_t c, int64_t n, const T* ahead,
                                   Load load) const {
    const int64_t padded = round_up(p.out_channels, kPanel);
    const T* row = at.input + c;
    const T* factors = at.weight + c;
    V sum[P];
    const V first = start(at, c, n);
    ZOO_UNROLL
    for (int i = 0; i < P; ++i) sum[i] = first;
    for (int64_t r = at.rows.begin; r < at.rows.end; ++r) {
      V f[K];
      ZOO_UNROLL
      for (int s = 0; s < K; ++s) f[s] = V::load(factors + s * padded);
      const T* from = row;
      ZOO_UNROLL
      for (int j = 0; j < (P - 1) * S + K; ++j, from += in.w) {
        if (kEdge && (j < at.columns.begin || j >= at.columns.end)) continue;
        const V x = load(from);
        ZOO_UNROLL
        for (int s = 0; s < K; ++s) {
          if (j >= s && (j - s) % S == 0 && (j - s) / S < P) {
            sum[(j - s) / S] = fma(x, f[s], sum[(j - s) / S]);
          }
        }
      }
      row += in.h;
      factors += K * padded;
    }
    if (ahead != nullptr) {
      ZOO_UNROLL
      for (int j = 0; j < P * S; ++j) __builtin_prefetch(ahead + j * in.w);
    }
    ZOO_UNROLL
    for (int i = 0; i < P; ++i) finish(at, i, c, n, sum[i]);
  }

  // Blocks of P output columns, all channels.
  template <int K, int S, int P, bool kEdge>
  static void blocks(const DepthwiseRows& self, Place at) {
    const int64_t per_line = 64 / (kLanes * sizeof(T));
    for (int64_t i = 0; i < at.count; ++i) {
      int64_t c = 0;
      for (; c + kLanes <= at.channels; c += kLanes) {
        const bool fetch = PF && (c / kLanes) % per_line == 0;
        self.tile<K, S, P, kEdge>(at, c, kLanes,
                                  fetch ? at.input + (at.rows.end - at.rows.begin) * self.in.h + c : nullptr,
                                  LoadAll<T>{});
      }
      if (c < at.channels) {
        const int64_t n = at.channels - c;
        self.tile<K, S, P, true>(at, c, n, nullptr, LoadFirst<T>{n});
      }
      at.input += P * S * self.in.w;
      at.output += P * at.step;
      if (at.residual != nullptr) at.residual += P * self.p.residual.w;
    }
  }

  // Any window: P output columns that see the same taps.
  template <int P, typename Load>
  [[gnu::always_inline]] void any_tile(const Place& at, int64_t c, int64_t n, Load load) const {
    const Window& w = p.window;
    const int64_t padded = round_up(p.out_channels, kPanel);
    const int64_t hop = w.stride_w * in.w;
    V sum[P];
    const V first = start(at, c, n);
    ZOO_UNROLL
    for (int i = 0; i < P; ++i) sum[i] = first;
    const T* row = at.input + c;
    const T* factors = at.weight + c;
    for (int64_t r = at.rows.begin; r < at.rows.end; ++r) {
      for (int64_t s = at.columns.begin; s < at.columns.end; ++s) {
        const T* const from = row + s * w.dilation_w * in.w;
        const V f = V::load(factors + s * padded);
        ZOO_UNROLL
        for (int i = 0; i < P; ++i) sum[i] = fma(load(from + i * hop), f, sum[i]);
      }
      row += w.dilation_h * in.h;
      factors += w.kernel_w * padded;
    }
    ZOO_UNROLL
    for (int i = 0; i < P; ++i) finish(at, i, c, n, sum[i]);
  }

  template <int P>
  [[gnu::noinline]] void any(const Place& at) const {
    int64_t c = 0;
    for (; c + kLanes <= at.channels; c += kLanes) any_tile<P>(at, c, kLanes, LoadAll<T>{});
    const int64_t n = at.channels - c;
    if (n > 0) any_tile<P>(at, c, n, LoadFirst<T>{n});
  }

  static constexpr int kColumns = 8;  // of a block; with the weights of 7 taps, 16 registers

  struct Kernels {
    int64_t kernel, stride;
    Kernel inside[kColumns], edge[kColumns];  // by columns - 1
  };
  template <int K, int S, int... P>
  static constexpr Kernels kernels(Indices<P...>) {
    return {K, S, {blocks<K, S, P + 1, false>...}, {blocks<K, S, P + 1, true>...}};
  }
  static const Kernels* kernels_for(const Window& w) {
    using All = IndicesTo<kColumns>;
    static constexpr Kernels kFixed[] = {kernels<3, 1>(All{}), kernels<3, 2>(All{}),
                                         kernels<5, 1>(All{}), kernels<5, 2>(All{}),
                                         kernels<7, 1>(All{}), kernels<7, 2>(All{})};
    if (w.dilation_h != 1 || w.dilation_w != 1) return nullptr;
    for (const Kernels& k : kFixed) {
      if (w.kernel_w == k.kernel && w.kernel_h == k.kernel && w.stride_w == k.stride) return &k;
    }
    return nullptr;
  }

  // Columns xs of row y, to `output`, where columns are `step` apart and their channels together.
  void row(int64_t image, int64_t y, Range xs, Range channels, T* output, int64_t step) const {
    const Window& w = p.window;
    const int64_t top = y * w.stride_h - w.pad_h;
    const Range rows = taps_inside(top, w.kernel_h, w.dilation_h, p.in_h);
    const int64_t padded = round_up(p.out_channels, kPanel);
    Place at{};
    at.rows = rows;
    at.channels = channels.end - channels.begin;
    at.weight = weight + rows.begin * w.kernel_w * padded + channels.begin;
    at.bias = bias == nullptr ? nullptr : bias + channels.begin;
    at.step = step;
    const auto move = [&](int64_t x) {
      at.input = input + offset(in, image, channels.begin, top + rows.begin * w.dilation_h,
                                x * w.stride_w - w.pad_w);
      at.output = output + (x - xs.begin) * step;
      if (residual != nullptr) {
        at.residual = residual + offset(p.residual, image, channels.begin, y, x);
      }
    };
    const Kernels* const fixed = kernels_for(w);
    if (fixed == nullptr) {
      const Range inside = interior(p.out_w, p.in_w, w.kernel_w, w.stride_w, w.pad_w, w.dilation_w);
      for (int64_t x = xs.begin; x < xs.end;) {
        at.columns = taps_inside(x * w.stride_w - w.pad_w, w.kernel_w, w.dilation_w, p.in_w);
        move(x);
        if (x >= inside.begin && x + 8 <= lesser(inside.end, xs.end)) {
          any<8>(at);
          x += 8;
        } else {
          any<1>(at);
          ++x;
        }
      }
      return;
    }
    const int64_t count = xs.end - xs.begin, blocks = ceil_div(count, kColumns);
    const int64_t size = count / blocks;
    int64_t longer = count % blocks;  // blocks of one more
    for (int64_t x = xs.begin; x < xs.end;) {
      const int64_t columns = size + (longer > 0 ? 1 : 0);
      const int64_t left = x * w.stride_w - w.pad_w;
      const int64_t span = (columns - 1) * w.stride_w + w.kernel_w;
      at.columns = {clamp(-left, 0, span), clamp(p.in_w - left, 0, span)};
      move(x);
      at.count = 1;
      if (at.columns.begin > 0 || at.columns.end < span) {
        fixed->edge[columns - 1](*this, at);
      } else {
        const int64_t alike = longer > 0 ? longer : (xs.end - x) / size;
        const int64_t room = (p.in_w - left - span) / (columns * w.stride_w) + 1;
        at.count = lesser(alike, room);
        fixed->inside[columns - 1](*this, at);
      }
      x += at.count * columns;
      longer = larger(longer - at.count, 0);
    }
  }
};

}  // namespace
}  // namespace zoo
