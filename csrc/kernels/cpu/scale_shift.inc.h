// activation(input * scale + shift) on tensors of any strides: what is left of normalisations,
// gates and sums that no convolution could take in.
#pragma once

#include "activation.inc.h"
#include "common.inc.h"

namespace zoo {
namespace {

// One dimension of the loop: its size, and how far each tensor moves in a step.
struct ScaleShiftLoop {
  int64_t size, input, scale, shift, output;

  bool continues(const ScaleShiftLoop& inner) const {
    return input == inner.input * inner.size && scale == inner.scale * inner.size &&
           shift == inner.shift * inner.size && output == inner.output * inner.size;
  }
};

// The four dimensions as loops, outermost first: the output's neighbours innermost, and dimensions
// that lie together in every tensor as one. Those that are left over have one step.
struct ScaleShiftLoops {
  static constexpr int kCount = 4;
  ScaleShiftLoop at[kCount];

  explicit ScaleShiftLoops(const ScaleShiftParams& p) {
    const ScaleShiftLoop all[kCount] = {
        {p.batch, p.input.n, p.scale.n, p.shift.n, p.output.n},
        {p.channels, p.input.c, p.scale.c, p.shift.c, p.output.c},
        {p.height, p.input.h, p.scale.h, p.shift.h, p.output.h},
        {p.width, p.input.w, p.scale.w, p.shift.w, p.output.w},
    };
    int count = 0;
    for (const ScaleShiftLoop& loop : all) {
      if (loop.size == 1) continue;
      int i = count++;
      for (; i > 0 && at[i - 1].output < loop.output; --i) at[i] = at[i - 1];
      at[i] = loop;
    }
    int merged = 0;
    for (int i = 0; i < count; ++i) {
      if (merged > 0 && at[merged - 1].continues(at[i])) {
        const int64_t size = at[merged - 1].size;
        at[merged - 1] = at[i];
        at[merged - 1].size *= size;
      } else {
        at[merged++] = at[i];
      }
    }
    for (int i = kCount - 1; i >= 0; --i) {
      const int from = i - (kCount - merged);
      at[i] = from >= 0 ? at[from] : ScaleShiftLoop{1, 0, 0, 0, 0};
    }
  }
};

// How an operand moves along the innermost loop.
template <typename T>
struct Operand {
  const T* data;  // null: not there
  int64_t step;

  // The value of n lanes from element i on.
  Vec<T> operator()(int64_t i, int64_t n) const {
    if (step == 0) return Vec<T>::broadcast(*data);
    return load_lanes(data + i * step, step, n);
  }
};

template <typename T, bool kScale, bool kShift>
[[gnu::always_inline]] inline Vec<T> scale_and_shift(Vec<T> x, Vec<T> scale, Vec<T> shift) {
  if (kScale && kShift) return fma(x, scale, shift);
  if (kScale) return x * scale;
  return kShift ? x + shift : x;
}

// One run of the innermost loop.
template <typename T, bool kScale, bool kShift>
void scale_shift_row(Activation activation, int64_t count, Operand<T> input, Operand<T> scale,
                     Operand<T> shift, T* output, int64_t step) {
  using V = Vec<T>;
  constexpr int64_t kLanes = V::kLanes, kVecs = 4;
  const V none = V::zero();
  int64_t i = 0;
  const auto steady = [](const Operand<T>& x) { return x.data == nullptr || x.step <= 1; };
  if (input.step == 1 && step == 1 && steady(scale) && steady(shift)) {
    const V still_scale = kScale && scale.step == 0 ? V::broadcast(*scale.data) : none;
    const V still_shift = kShift && shift.step == 0 ? V::broadcast(*shift.data) : none;
    for (; i + kVecs * kLanes <= count; i += kVecs * kLanes) {
      ZOO_UNROLL
      for (int64_t j = 0; j < kVecs; ++j) {
        const int64_t at = i + j * kLanes;
        const V by = kScale && scale.step != 0 ? V::load(scale.data + at) : still_scale;
        const V plus = kShift && shift.step != 0 ? V::load(shift.data + at) : still_shift;
        scale_and_shift<T, kScale, kShift>(V::load(input.data + at), by, plus).store(output + at);
      }
    }
    activate_rows(activation, output, 1, i, i);
  }
  for (; i < count; i += kLanes) {
    const int64_t n = lesser(kLanes, count - i);
    const V x = scale_and_shift<T, kScale, kShift>(input(i, n), kScale ? scale(i, n) : none,
                                                   kShift ? shift(i, n) : none);
    store_lanes(activate(activation, x), output + i * step, step, n);
  }
}

template <typename T>
void scale_shift(const ScaleShiftParams& p, const T* input, const T* scale, const T* shift,
                 T* output, const Parallel& parallel) {
  const auto row =
      scale != nullptr
          ? (shift != nullptr ? scale_shift_row<T, true, true> : scale_shift_row<T, true, false>)
          : (shift != nullptr ? scale_shift_row<T, false, true> : scale_shift_row<T, false, false>);
  const ScaleShiftLoops loops(p);
  const ScaleShiftLoop &a = loops.at[0], &b = loops.at[1], &c = loops.at[2], &d = loops.at[3];
  // Long rows are cut, so that a single one occupies all threads.
  constexpr int64_t kPiece = 4096;
  const int64_t pieces = ceil_div(d.size, kPiece);
  parallel_for(
      parallel, a.size * b.size * c.size * pieces, [&](int64_t begin, int64_t end, int32_t) {
        for (int64_t unit = begin; unit < end; ++unit) {
          const int64_t from = unit % pieces * kPiece, count = lesser(kPiece, d.size - from);
          const int64_t z = unit / pieces % c.size, rest = unit / pieces / c.size;
          const int64_t y = rest % b.size, x = rest / b.size;
          const auto at = [&](const T* data, int64_t ScaleShiftLoop::* step) {
            if (data == nullptr) return Operand<T>{nullptr, 0};
            return Operand<T>{data + x * a.*step + y * b.*step + z * c.*step + from * d.*step,
                              d.*step};
          };
          const Operand<T> to = at(output, &ScaleShiftLoop::output);
          row(p.activation, count, at(input, &ScaleShiftLoop::input),
              at(scale, &ScaleShiftLoop::scale), at(shift, &ScaleShiftLoop::shift),
              const_cast<T*>(to.data), to.step);
        }
      });
}

}  // namespace
}  // namespace zoo
