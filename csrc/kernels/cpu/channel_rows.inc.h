// A way over tensors that are rows of channels, pixel after pixel, with numbers for each channel
// and sums over all pixels.
//
// Few channels would leave lanes empty, and each sum would wait for the one before: so pixels that
// lie together are joined to one long row, whose columns are each channel several times, and a
// channel's sum is in the end that of its columns. Rows go through four at a time, so that sums and
// what belongs to a channel are loaded for four pixels.
#pragma once

#include "common.inc.h"
#include "vec_pair.h"

namespace zoo {
namespace {

// Columns that are looked at together: their sums and numbers stay in L1.
constexpr int64_t kRowColumns = 1024;

// Sums in T of some pixels' columns, then of all in double: an error grows with the pixels between.
template <typename T, int kSums>
struct ColumnSums {
  static constexpr int64_t kPixels = 128;

  alignas(64) T sums[kSums][kRowColumns];

  [[gnu::noinline]] void clear(int64_t columns) {
    for (int i = 0; i < kSums; ++i) {
      for (int64_t j = 0; j < columns; ++j) sums[i][j] = 0;
    }
  }
  // Adds `times` times n columns to n channels of each of the totals, which are `step` apart.
  [[gnu::noinline]] void add_to(double* totals, int64_t step, int64_t n, int64_t times) const {
    for (int i = 0; i < kSums; ++i, totals += step) {
      for (int64_t t = 0; t < times; ++t) {
        for (int64_t c = 0; c < n; ++c) totals[c] += static_cast<double>(sums[i][t * n + c]);
      }
    }
  }
};

// Where no sums are asked for.
template <typename T>
struct ColumnSums<T, 0> {
  static constexpr int64_t kPixels = int64_t{1} << 40;

  T sums[1][1];

  void clear(int64_t) {}
  void add_to(double*, int64_t, int64_t, int64_t) const {}
};

// Vectors of all lanes, or of the first n.
template <typename V>
struct WholeVector {
  using Vector = V;
  template <typename T>
  [[gnu::always_inline]] V load(const T* p) const {
    return V::load(p);
  }
  template <typename T>
  [[gnu::always_inline]] void store(V x, T* p) const {
    x.store(p);
  }
};
template <typename V>
struct VectorStart {
  using Vector = V;
  int64_t n;
  template <typename T>
  [[gnu::always_inline]] V load(const T* p) const {
    return V::load(p, n);
  }
  template <typename T>
  [[gnu::always_inline]] void store(V x, T* p) const {
    x.store(p, n);
  }
};

// n numbers, `times` times, and zeros to the end of a vector.
template <typename T>
[[gnu::noinline]] void repeat(const T* from, int64_t n, int64_t times, T* to) {
  int64_t j = 0;
  for (int64_t t = 0; t < times; ++t) {
    for (int64_t c = 0; c < n; ++c) to[j++] = from[c];
  }
  while (j % Vec<T>::kLanes != 0) to[j++] = 0;
}

// An Op says what is done with a vector of columns:
//   kConstants, kSums     how many numbers it needs for each channel, and how many sums it makes
//   kLong                 whether it computes so much that vectors should go side by side
//   op(at, lanes, k, s)   the vector at element `at` of its tensors, by lanes.load and lanes.store,
//                         with the channels' numbers k; adds to the sums s
template <typename T, typename Op>
struct ChannelRows {
  using V = Vec<T>;
  using Wide = typename Together<T>::Type;
  static constexpr int64_t kLanes = V::kLanes;
  static constexpr int kConstants = Op::kConstants, kSums = Op::kSums;
  static constexpr int kRows = Op::kLong ? 1 : 4;

  alignas(64) T constants[kConstants > 0 ? kConstants : 1][kRowColumns];
  ColumnSums<T, kSums> block;

  // A vector of columns from j on, in rows `step` apart.
  template <int kCount, typename Lanes>
  [[gnu::always_inline]] void vector(Op op, int64_t at, int64_t step, int64_t j, Lanes lanes) {
    using X = typename Lanes::Vector;
    X numbers[kConstants > 0 ? kConstants : 1], sums[kSums > 0 ? kSums : 1];
    ZOO_UNROLL
    for (int i = 0; i < kConstants; ++i) numbers[i] = X::load(&constants[i][j]);
    ZOO_UNROLL
    for (int i = 0; i < kSums; ++i) sums[i] = X::zero();
    ZOO_UNROLL
    for (int r = 0; r < kCount; ++r) op(at + r * step, lanes, numbers, sums);
    ZOO_UNROLL
    for (int i = 0; i < kSums; ++i) (X::load(&block.sums[i][j]) + sums[i]).store(&block.sums[i][j]);
  }

  // What is left of rows: short of a vector, or of four rows.
  [[gnu::noinline]] void rest(Op op, int64_t at, int64_t step, int64_t rows, int64_t j,
                              int64_t columns) {
    for (; rows > 0; --rows, at += step) {
      for (int64_t i = j; i < columns; i += kLanes) {
        vector<1>(op, at + i, 0, i, VectorStart<V>{lesser(kLanes, columns - i)});
      }
    }
  }

  [[gnu::noinline]] void add(Op op, int64_t at, int64_t step, int64_t rows, int64_t columns) {
    for (; rows >= kRows; rows -= kRows, at += kRows * step) {
      int64_t j = 0;
      if constexpr (Op::kLong && Wide::kLanes > kLanes) {
        for (; j + Wide::kLanes <= columns; j += Wide::kLanes) {
          vector<kRows>(op, at + j, step, j, WholeVector<Wide>{});
        }
      }
      for (; j + kLanes <= columns; j += kLanes) {
        vector<kRows>(op, at + j, step, j, WholeVector<V>{});
      }
      if (j < columns) rest(op, at, step, kRows, j, columns);
    }
    if (rows > 0) rest(op, at, step, rows, 0, columns);
  }

  // Pixels to a row: no lane is empty, and there are eight vectors at least, if there is room.
  static int64_t joined(int64_t channels) {
    int64_t pixels = 1;
    while (pixels * channels % (Op::kLong ? Wide::kLanes : kLanes) != 0) pixels *= 2;
    pixels *= larger(1, 8 * kLanes / (pixels * channels));
    return pixels * channels <= kRowColumns ? pixels : 1;
  }

  // Channels from c on of the pixels.
  [[gnu::noinline]] void run(Op op, const T* const* numbers, Range pixels, int64_t channels,
                             int64_t c, double* totals) {
    const int64_t n = lesser(kRowColumns, channels - c);
    const int64_t together = n == channels ? joined(n) : 1, step = together * channels;
    for (int i = 0; i < kConstants; ++i) repeat(numbers[i] + c, n, together, constants[i]);
    const auto some = [&](int64_t at, int64_t rows, int64_t times) {
      block.clear(round_up(times * n, kLanes));
      add(op, at, step, rows, times * n);
      block.add_to(totals + c, channels, n, times);
    };
    const int64_t count = pixels.end - pixels.begin, rows = count / together;
    const int64_t begin = pixels.begin * channels + c;
    for (int64_t i = 0; i < rows; i += block.kPixels) {
      some(begin + i * step, lesser(block.kPixels, rows - i), together);
    }
    if (count % together > 0) some(begin + rows * step, 1, count % together);
  }
};

// sums[part][which][channel] of a part for each thread, whoever works on it: the same number of
// threads gives the same bits. With `first` all parts are set, those of no pixels too.
// body(part, totals) gets the part's number.
template <int kSums, typename Body>
void for_parts(const Parallel& parallel, int64_t channels, bool first, double* sums, Body body) {
  parallel_for(parallel, parallel.threads, [&](int64_t begin, int64_t end, int32_t) {
    for (int64_t i = begin; i < end; ++i) {
      double* const totals = kSums > 0 ? sums + i * kSums * channels : nullptr;
      for (int64_t j = 0; first && j < kSums * channels; ++j) totals[j] = 0;
      body(i, totals);
    }
  });
}

template <typename T, typename Op>
void channel_rows(const BatchNormParams& p, Op op, const T* const* numbers, bool first,
                  double* sums, const Parallel& parallel) {
  for_parts<Op::kSums>(parallel, p.channels, first, sums, [&](int64_t i, double* totals) {
    const Range pixels = part(p.pixels, parallel.threads, i);
    if (pixels.begin == pixels.end) return;
    ChannelRows<T, Op> rows;
    for (int64_t c = 0; c < p.channels; c += kRowColumns) {
      rows.run(op, numbers, pixels, p.channels, c, totals);
    }
  });
}

}  // namespace
}  // namespace zoo
