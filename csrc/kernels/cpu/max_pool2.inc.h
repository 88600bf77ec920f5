// 2x2 max-pool with stride 2 that remembers where each maximum was, and the way back through it and
// through the activation before it: all of a step between two convolutions in one pass each.
#pragma once

#include "activation_grad.inc.h"
#include "channel_rows.inc.h"

namespace zoo {
namespace {

// The bits of a pixel are whole bytes of 8 channels, so a step takes as many channels, in one
// vector or in several.
template <typename T>
struct PoolBits {
  static constexpr int64_t kLanes = Vec<T>::kLanes;
  static constexpr int64_t kStep = kLanes < 8 ? 8 : kLanes;
  static constexpr int64_t kVecs = kStep / kLanes;

  // Those of n channels.
  [[gnu::always_inline]] static uint32_t load(const uint8_t* p, int64_t n) {
    uint32_t bits = p[0];
    if (kStep > 8 && n > 8) bits |= static_cast<uint32_t>(p[1]) << 8;
    return bits;
  }
  [[gnu::always_inline]] static void store(uint32_t bits, uint8_t* p, int64_t n) {
    p[0] = static_cast<uint8_t>(bits);
    if (kStep > 8 && n > 8) p[1] = static_cast<uint8_t>(bits >> 8);
  }
  // body(channel, n, lanes) for each vector of a step of n channels.
  template <typename Body>
  [[gnu::always_inline]] static void vectors(int64_t n, Body body) {
    ZOO_UNROLL
    for (int64_t i = 0; i < kVecs; ++i) {
      if (n == kStep) {
        body(i * kLanes, WholeVector<Vec<T>>{});
      } else if (i * kLanes < n) {
        body(i * kLanes, VectorStart<Vec<T>>{lesser(kLanes, n - i * kLanes)});
      }
    }
  }
};

// The maps and what lies next to each other in them.
struct MaxPool2Sizes {
  int64_t out_h, out_w, bytes;  // bytes of a plane of bits of a pixel

  explicit MaxPool2Sizes(const MaxPool2Params& p)
      : out_h(p.in_h / 2), out_w(p.in_w / 2), bytes(ceil_div(p.channels, 8)) {}
};

// n channels of a window, from its first pixel on.
template <typename T>
[[gnu::always_inline]] inline void max_pool2_step(const T* top, const T* bottom, int64_t channels,
                                                  int64_t n, T* output, uint8_t* columns,
                                                  uint8_t* rows) {
  using V = Vec<T>;
  using Bits = PoolBits<T>;
  // As PyTorch: a later one wins if it is greater or NaN.
  const auto wins = [](V later, V best) { return V::either(greater(later, best), is_nan(later)); };
  uint32_t column_bits = 0, row_bits = 0;
  Bits::vectors(n, [&](int64_t i, auto lanes) {
    const V a = lanes.load(top + i), b = lanes.load(top + channels + i);
    const V c = lanes.load(bottom + i), d = lanes.load(bottom + channels + i);
    const auto right_above = wins(b, a), right_below = wins(d, c);
    const V above = select(right_above, b, a), below = select(right_below, d, c);
    const auto lower = wins(below, above);
    lanes.store(select(lower, below, above), output + i);
    const uint32_t row = V::bits(lower);
    row_bits |= row << i;
    column_bits |= ((V::bits(right_below) & row) | (V::bits(right_above) & ~row)) << i;
  });
  Bits::store(column_bits, columns, n);
  Bits::store(row_bits, rows, n);
}

// A row of `count` windows of rows `line` apart. All that it is told is its own copy: a byte that
// is stored might change anything else, for all that the compiler knows.
template <typename T>
[[gnu::noinline]] void max_pool2_row(const T* top, int64_t line, int64_t channels, int64_t count,
                                     T* output, uint8_t* where) {
  constexpr int64_t kStep = PoolBits<T>::kStep;
  const int64_t bytes = ceil_div(channels, 8);
  for (; count > 0; --count, top += 2 * channels, output += channels, where += 2 * bytes) {
    const T* const bottom = top + line;
    int64_t c = 0;
    for (; c + kStep <= channels; c += kStep) {
      max_pool2_step(top + c, bottom + c, channels, kStep, output + c, where + c / 8,
                     where + bytes + c / 8);
    }
    if (c < channels) {
      max_pool2_step(top + c, bottom + c, channels, channels - c, output + c, where + c / 8,
                     where + bytes + c / 8);
    }
  }
}

template <typename T>
void max_pool2(const MaxPool2Params& p, const T* input, T* output, uint8_t* where,
               const Parallel& parallel) {
  const MaxPool2Sizes size(p);
  const int64_t line = p.in_w * p.channels;
  parallel_for(parallel, p.batch * size.out_h, [&](int64_t begin, int64_t end, int32_t) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t image = i / size.out_h, y = i % size.out_h;
      max_pool2_row(input + (image * p.in_h + 2 * y) * line, line, p.channels, size.out_w,
                    output + i * size.out_w * p.channels, where + i * size.out_w * 2 * size.bytes);
    }
  });
}

template <typename T>
void fill_zeros(T* p, int64_t count) {
  for (int64_t i = 0; i < count; ++i) p[i] = 0;
}

// Pieces of pooled rows, some channels of them.
template <typename T, Activation kActivation>
struct MaxPool2Backward {
  using V = Vec<T>;
  using Bits = PoolBits<T>;
  const T *grad, *output;
  const uint8_t* where;
  T* grad_input;
  int64_t channels, bytes, below;  // from a pixel to the one below

  // Channels c to c + n of kPixels pixels; the first pooled one is number `from` and its window
  // begins at element `to`.
  template <int kPixels>
  [[gnu::always_inline]] void step(int64_t from, int64_t to, int64_t c, int64_t n, T* sums) const {
    uint32_t columns[kPixels], rows[kPixels];
    ZOO_UNROLL
    for (int i = 0; i < kPixels; ++i) {
      const uint8_t* const bits = where + (from + i) * 2 * bytes + c / 8;
      columns[i] = Bits::load(bits, n), rows[i] = Bits::load(bits + bytes, n);
    }
    Bits::vectors(n, [&](int64_t j, auto lanes) {
      V sum = V::load(sums + j);
      ZOO_UNROLL
      for (int i = 0; i < kPixels; ++i) {
        const int64_t at = (from + i) * channels + c + j;
        const V y = kActivation == Activation::none ? V::zero() : lanes.load(output + at);
        const V g = gradient_from_output<kActivation, T>(lanes.load(grad + at), y);
        sum = sum + g;
        const auto right = V::of_bits(columns[i] >> j), low = V::of_bits(rows[i] >> j);
        const V zero = V::zero(), top = select(low, zero, g), bottom = select(low, g, zero);
        T* const window = grad_input + to + 2 * i * channels + c + j;
        lanes.store(select(right, zero, top), window);
        lanes.store(select(right, top, zero), window + channels);
        lanes.store(select(right, zero, bottom), window + below);
        lanes.store(select(right, bottom, zero), window + below + channels);
      }
      sum.store(sums + j);
    });
  }

  template <int kPixels>
  [[gnu::always_inline]] void pixels(int64_t from, int64_t to, Range range, T* sums) const {
    int64_t c = range.begin;
    for (; c + Bits::kStep <= range.end; c += Bits::kStep, sums += Bits::kStep) {
      step<kPixels>(from, to, c, Bits::kStep, sums);
    }
    if (c < range.end) step<kPixels>(from, to, c, range.end - c, sums);
  }

  [[gnu::noinline]] void row(int64_t from, int64_t to, int64_t count, Range range, T* sums) const {
    const MaxPool2Backward own = *this;  // which no store can change
    for (; count >= 2; count -= 2, from += 2, to += 4 * channels) {
      own.template pixels<2>(from, to, range, sums);
    }
    if (count > 0) own.template pixels<1>(from, to, range, sums);
  }
};

template <typename T>
void max_pool2_backward(const MaxPool2Params& p, const T* grad, const T* output,
                        const uint8_t* where, T* grad_input, bool first, double* sums,
                        const Parallel& parallel) {
  const MaxPool2Sizes size(p);
  const int64_t channels = p.channels, line = p.in_w * channels;
  const int64_t all_rows = ceil_div(p.in_h, 2);  // with an odd last one, which is in no window
  for_parts<1>(parallel, channels, first, sums, [&](int64_t i, double* totals) {
    const Range units = part(p.batch * all_rows, parallel.threads, i);
    choose_from_output(p.activation, [&](auto chosen) {
      const MaxPool2Backward<T, decltype(chosen)::value> backward{
          grad, output, where, grad_input, channels, size.bytes, line};
      ColumnSums<T, 1> block;
      for (int64_t c = 0; c < channels; c += kRowColumns) {
        const Range range{c, lesser(c + kRowColumns, channels)};
        const int64_t n = range.end - range.begin, padded = round_up(n, PoolBits<T>::kStep);
        int64_t pixels = 0;
        block.clear(padded);
        const auto flush = [&] {
          block.add_to(totals + c, channels, n, 1);
          block.clear(padded);
          pixels = 0;
        };
        for (int64_t unit = units.begin; unit < units.end; ++unit) {
          const int64_t image = unit / all_rows, y = unit % all_rows;
          const int64_t to = (image * p.in_h + 2 * y) * line;
          if (y == size.out_h) {
            if (c == 0) fill_zeros(grad_input + to, line);
            continue;
          }
          const int64_t from = (image * size.out_h + y) * size.out_w;
          for (int64_t x = 0; x < size.out_w;) {
            if (pixels == block.kPixels) flush();
            const int64_t count = lesser(block.kPixels - pixels, size.out_w - x);
            backward.row(from + x, to + 2 * x * channels, count, range, block.sums[0]);
            x += count, pixels += count;
          }
          if (p.in_w % 2 != 0) {
            T* const last = grad_input + to + line - channels + c;
            fill_zeros(last, n);
            fill_zeros(last + line, n);
          }
        }
        flush();
      }
    });
  });
}

}  // namespace
}  // namespace zoo
