// The activations, on vectors and on rows of them. NaN stays NaN: the variable comes second in max
// and min.
#pragma once

#include "../params.h"
#include "common.inc.h"
#include "vec_pair.h"

namespace zoo {
namespace {

template <typename T, typename V>
[[gnu::always_inline]] inline V clamp06(V x) {
  return min(V::broadcast(T(6)), max(V::zero(), x));
}

// V is Vec<T> or a pair of them.
template <Activation kActivation, typename T, typename V>
[[gnu::always_inline]] inline V activate(V x) {
  const V one = V::broadcast(T(1));
  if constexpr (kActivation == Activation::relu) return max(V::zero(), x);
  if constexpr (kActivation == Activation::relu6) return clamp06<T>(x);
  if constexpr (kActivation == Activation::sigmoid) return one / sigmoid_denominator(x);
  if constexpr (kActivation == Activation::tanh) return tanh(x);
  if constexpr (kActivation == Activation::silu) return x / sigmoid_denominator(x);
  if constexpr (kActivation == Activation::gelu) return x * normal_cdf(x);
  if constexpr (kActivation == Activation::hardswish) {
    return x * (clamp06<T>(x + V::broadcast(T(3))) * V::broadcast(T(1.0 / 6)));
  }
  if constexpr (kActivation == Activation::hardsigmoid) {
    return clamp06<T>(x + V::broadcast(T(3))) * V::broadcast(T(1.0 / 6));
  }
  if constexpr (kActivation == Activation::leaky_relu) {
    return select(greater(x, V::zero()), x, x * V::broadcast(T(0.01)));
  }
  return x;
}

// Whether the activation is only a lower limit to the values, and that limit.
inline bool is_simple(Activation activation) {
  return activation == Activation::none || activation == Activation::relu;
}
template <typename T>
T least_of(Activation activation) {
  return activation == Activation::relu ? T(0) : static_cast<T>(-__builtin_inf());
}

template <Activation kActivation>
struct Chosen {
  static constexpr Activation value = kActivation;
};

// Calls `with` with the Chosen of the activation.
template <typename With>
[[gnu::always_inline]] inline auto choose(Activation activation, With with) {
  using A = Activation;
  switch (activation) {
    case A::relu:
      return with(Chosen<A::relu>{});
    case A::relu6:
      return with(Chosen<A::relu6>{});
    case A::sigmoid:
      return with(Chosen<A::sigmoid>{});
    case A::tanh:
      return with(Chosen<A::tanh>{});
    case A::silu:
      return with(Chosen<A::silu>{});
    case A::gelu:
      return with(Chosen<A::gelu>{});
    case A::hardswish:
      return with(Chosen<A::hardswish>{});
    case A::hardsigmoid:
      return with(Chosen<A::hardsigmoid>{});
    case A::leaky_relu:
      return with(Chosen<A::leaky_relu>{});
    case A::none:
      break;
  }
  return with(Chosen<A::none>{});
}

template <typename T>
[[gnu::noinline]] Vec<T> activate_rarer(Activation activation, Vec<T> x) {
  return choose(activation, [&](auto chosen) { return activate<decltype(chosen)::value, T>(x); });
}

// A single vector. The branch goes the same way throughout a call of a kernel, so it is predicted.
template <typename T>
inline Vec<T> activate(Activation activation, Vec<T> x) {
  if (activation == Activation::none) return x;
  if (activation == Activation::relu) return max(Vec<T>::zero(), x);
  return activate_rarer(activation, x);
}

template <Activation kActivation, typename V, typename T>
[[gnu::always_inline]] inline void activate_at(T* data) {
  activate<kActivation, T>(V::load(data)).store(data);
}

// In place, `rows` rows of `columns` values, `stride` apart.
template <Activation kActivation, typename T>
[[gnu::noinline]] void activate_rows_by(T* data, int64_t rows, int64_t stride, int64_t columns) {
  using V = Vec<T>;
  using Wide = typename Together<T>::Type;
  constexpr int64_t kLanes = V::kLanes;
  if constexpr (Wide::kLanes == 4 * kLanes) {
    // The rows of a tile of the GEMM: two at a time.
    for (; columns == 2 * kLanes && rows >= 2; rows -= 2, data += 2 * stride) {
      const Wide x{Pair<V>::load(data), Pair<V>::load(data + stride)};
      const Wide y = activate<kActivation, T>(x);
      y.a.store(data);
      y.b.store(data + stride);
    }
  }
  for (int64_t i = 0; i < rows; ++i, data += stride) {
    int64_t j = 0;
    for (; j + Wide::kLanes <= columns; j += Wide::kLanes) {
      activate_at<kActivation, Wide>(data + j);
    }
    for (; j + kLanes <= columns; j += kLanes) activate_at<kActivation, V>(data + j);
    if (j < columns) {
      activate<kActivation, T>(V::load(data + j, columns - j)).store(data + j, columns - j);
    }
  }
}

template <typename T>
void activate_rows(Activation activation, T* data, int64_t rows, int64_t stride, int64_t columns) {
  if (activation == Activation::none) return;
  if (stride == columns) columns *= rows, rows = 1;
  choose(activation, [&](auto chosen) {
    activate_rows_by<decltype(chosen)::value>(data, rows, stride, columns);
  });
}

}  // namespace
}  // namespace zoo
