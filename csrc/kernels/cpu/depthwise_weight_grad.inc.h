// The gradient of a depthwise convolution's weight: lanes are channels, and the sums of some taps
// (3x3: of all) stay in registers while a vector of channels runs over some rows of the map.
// Nothing is padded: in the middle of the map all taps are inside it, at its edges each is asked.
#pragma once

#include "common.inc.h"

namespace zoo {
namespace {

struct DepthwiseWeightGradPlan {
  int64_t width;   // channels in whole vectors
  int64_t sums;    // elements of one thread's sums, [row, column][channel]
  int64_t strips;  // pieces that a map's rows are cut into
};

template <typename T>
DepthwiseWeightGradPlan plan_depthwise_weight_grad(const Conv2dParams& p) {
  constexpr int64_t kL2Share = 192 << 10;
  DepthwiseWeightGradPlan plan;
  plan.width = round_up(p.out_channels, Vec<T>::kLanes);
  plan.sums = p.window.kernel_h * p.window.kernel_w * plan.width;
  const int64_t row_bytes =
      larger((p.in_w * p.window.stride_h + p.out_w) * plan.width * int64_t{sizeof(T)}, 1);
  plan.strips = ceil_div(p.out_h, clamp(kL2Share / row_bytes, 1, larger(p.out_h, 1)));
  return plan;
}

template <typename T>
struct DepthwiseWeightGrad {
  using V = Vec<T>;
  static constexpr int64_t kLanes = V::kLanes;
  // What the registers hold besides a gradient.
  static constexpr int kMostTaps = kLanes > 8 ? 28 : 14;
  static constexpr int rows_of(int columns) {
    return static_cast<int>(lesser(kMostTaps / columns, 7));
  }

  const Conv2dParams& p;
  const DepthwiseWeightGradPlan& plan;
  const T* input;
  const T* grad;

  // Of one vector of channels: a rectangle of taps, and the rows of an image.
  struct Area {
    const T* input;  // that the first tap sees at the first output: perhaps outside of the map
    const T* grad;   // of row 0
    Range ys;
    int64_t row, column;  // of the first tap
    int64_t channels;
    T* sums;  // of the first tap
    bool add;
  };
  using Kernel = void (*)(const DepthwiseWeightGrad&, const Area&);

  template <int R, int S, typename Load>
  [[gnu::always_inline]] void area(const Area& at, Load load) const {
    const Window& w = p.window;
    const int64_t in_row = w.dilation_h * p.input.h, in_tap = w.dilation_w * p.input.w;
    const int64_t in_step = w.stride_w * p.input.w, step = p.output.w;
    const int64_t top = at.row * w.dilation_h - w.pad_h, left = at.column * w.dilation_w - w.pad_w;
    // The output columns whose taps are all inside.
    const int64_t room = p.in_w - 1 - left - (S - 1) * w.dilation_w;
    const int64_t begin = left >= 0 ? 0 : lesser(ceil_div(-left, w.stride_w), p.out_w);
    const int64_t end = room < 0 ? begin : clamp(room / w.stride_w + 1, begin, p.out_w);

    V sum[R][S];
    ZOO_UNROLL
    for (int r = 0; r < R; ++r) {
      ZOO_UNROLL
      for (int s = 0; s < S; ++s) sum[r][s] = V::zero();
    }
    for (int64_t y = at.ys.begin; y < at.ys.end; ++y) {
      const Range rows = taps_inside(y * w.stride_h + top, R, w.dilation_h, p.in_h);
      if (rows.begin == rows.end) continue;
      const T* const row = at.input + y * w.stride_h * p.input.h;
      const T* const line = at.grad + y * p.output.h;
      const bool whole = rows.end - rows.begin == R;
      const auto edge = [&](int64_t from, int64_t to) {
        for (int64_t x = from; x < to; ++x) {
          const Range columns = taps_inside(x * w.stride_w + left, S, w.dilation_w, p.in_w);
          const T* const first = row + x * in_step;
          const V g = load(line + x * step);
          ZOO_UNROLL
          for (int r = 0; r < R; ++r) {
            if (r < rows.begin || r >= rows.end) continue;
            ZOO_UNROLL
            for (int s = 0; s < S; ++s) {
              if (s < columns.begin || s >= columns.end) continue;
              sum[r][s] = fma(load(first + r * in_row + s * in_tap), g, sum[r][s]);
            }
          }
        }
      };
      edge(0, whole ? begin : p.out_w);
      if (!whole) continue;
      const T* first = row + begin * in_step;
      const T* gradient = line + begin * step;
      for (int64_t n = end - begin; n > 0; --n, first += in_step, gradient += step) {
        const V g = load(gradient);
        const T* tap = first;
        ZOO_UNROLL
        for (int r = 0; r < R; ++r) {
          ZOO_UNROLL
          for (int s = 0; s < S; ++s) sum[r][s] = fma(load(tap + s * in_tap), g, sum[r][s]);
          tap = opaque(tap + in_row);
        }
      }
      edge(end, p.out_w);
    }
    ZOO_UNROLL
    for (int r = 0; r < R; ++r) {
      ZOO_UNROLL
      for (int s = 0; s < S; ++s) {
        T* const to = at.sums + (r * w.kernel_w + s) * plan.width;
        (at.add ? sum[r][s] + V::load(to) : sum[r][s]).store(to);
      }
    }
  }

  template <int R, int S>
  static void area(const DepthwiseWeightGrad& self, const Area& at) {
    if (at.channels == kLanes) return self.area<R, S>(at, LoadAll<T>{});
    self.area<R, S>(at, LoadFirst<T>{at.channels});
  }

  struct Kernels {
    Kernel one[rows_of(1)], three[rows_of(3)], five[rows_of(5)], seven[rows_of(7)];

    template <int... I, int... J, int... K, int... L>
    static constexpr Kernels make(Indices<I...>, Indices<J...>, Indices<K...>, Indices<L...>) {
      return {{area<I + 1, 1>...}, {area<J + 1, 3>...}, {area<K + 1, 5>...}, {area<L + 1, 7>...}};
    }
    Kernel run(int64_t rows, int64_t columns) const {
      return (columns == 1 ? one : columns == 3 ? three : columns == 5 ? five : seven)[rows - 1];
    }
  };

  // A piece of the taps in a row that has a kernel.
  static int64_t columns_for(int64_t taps) {
    return taps >= 7 ? 7 : taps >= 5 ? 5 : taps >= 3 ? 3 : 1;
  }

  void strip(int64_t image, Range ys, T* sums, bool add) const {
    static constexpr Kernels kKernels =
        Kernels::make(IndicesTo<rows_of(1)>{}, IndicesTo<rows_of(3)>{}, IndicesTo<rows_of(5)>{},
                      IndicesTo<rows_of(7)>{});
    const Window& w = p.window;
    const T* const image_in = input + image * p.input.n - w.pad_h * p.input.h - w.pad_w * p.input.w;
    for (int64_t c = 0; c < p.out_channels; c += kLanes) {
      for (int64_t s = 0, columns = 0; s < w.kernel_w; s += columns) {
        columns = columns_for(w.kernel_w - s);
        const int64_t parts = ceil_div(w.kernel_h, rows_of(static_cast<int>(columns)));
        for (int64_t i = 0; i < parts; ++i) {
          const Range rows = part(w.kernel_h, parts, i);
          Area at{};
          at.input =
              image_in + rows.begin * w.dilation_h * p.input.h + s * w.dilation_w * p.input.w + c;
          at.grad = grad + image * p.output.n + c;
          at.ys = ys;
          at.row = rows.begin;
          at.column = s;
          at.channels = lesser(kLanes, p.out_channels - c);
          at.sums = sums + (rows.begin * w.kernel_w + s) * plan.width + c;
          at.add = add;
          kKernels.run(rows.end - rows.begin, columns)(*this, at);
        }
      }
    }
  }
};

template <typename T>
int64_t depthwise_weight_grad_sums_bytes(const Conv2dParams& p, int32_t threads) {
  return plan_depthwise_weight_grad<T>(p).sums * int64_t{sizeof(T)} * larger(threads, 1);
}

template <typename T>
int64_t depthwise_weight_grad_workspace_bytes(const Conv2dParams&, int32_t) {
  return 0;
}

template <typename T>
void depthwise_weight_grad_add(const Conv2dParams& p, const T* input, const T* grad, bool first,
                               void* sums, void*, const Parallel& parallel) {
  const DepthwiseWeightGradPlan plan = plan_depthwise_weight_grad<T>(p);
  const DepthwiseWeightGrad<T> all{p, plan, input, grad};
  const int64_t parts = larger(parallel.threads, 1);
  const int64_t strips = p.out_w > 0 ? p.batch * plan.strips : 0;
  parallel_for(parallel, parts, [&](int64_t begin, int64_t end, int32_t) {
    for (int64_t t = begin; t < end; ++t) {
      T* const own = static_cast<T*>(sums) + t * plan.sums;
      const Range some = part(strips, parts, t);
      if (first && some.begin == some.end) {
        __builtin_memset(own, 0, static_cast<std::size_t>(plan.sums) * sizeof(T));
      }
      for (int64_t i = some.begin; i < some.end; ++i) {
        all.strip(i / plan.strips, part(p.out_h, plan.strips, i % plan.strips), own,
                  !first || i > some.begin);
      }
    }
  });
}

template <typename T>
void depthwise_weight_grad_finish(const Conv2dParams& p, const void* sums, T* weight,
                                  const Strides& strides, const Parallel& parallel) {
  const DepthwiseWeightGradPlan plan = plan_depthwise_weight_grad<T>(p);
  const Window& w = p.window;
  const T* from = static_cast<const T*>(sums);
  for (int64_t r = 0; r < w.kernel_h; ++r) {
    for (int64_t s = 0; s < w.kernel_w; ++s, from += plan.width) {
      for (int64_t c = 0; c < p.out_channels; ++c) {
        T sum = from[c];
        for (int64_t t = 1; t < parallel.threads; ++t) sum += from[t * plan.sums + c];
        weight[c * strides.n + r * strides.h + s * strides.w] = sum;
      }
    }
  }
}

}  // namespace
}  // namespace zoo
