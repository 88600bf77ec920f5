// The activations, on vectors. NaN stays NaN: the variable comes second in max and min.
#pragma once

#include "../params.h"

namespace zoo {
namespace {

template <typename T>
inline Vec<T> clamp06(Vec<T> x) {
  return min(Vec<T>::broadcast(T(6)), max(Vec<T>::zero(), x));
}

template <typename T>
[[gnu::noinline]] Vec<T> activate_rarer(Activation activation, Vec<T> x) {
  using V = Vec<T>;
  const V one = V::broadcast(T(1));
  switch (activation) {
    case Activation::none:
      return x;
    case Activation::relu:
      return max(V::zero(), x);
    case Activation::relu6:
      return clamp06(x);
    case Activation::sigmoid:
      return one / (one + exp(V::zero() - x));
    case Activation::tanh:
      return tanh(x);
    case Activation::silu:
      return x / (one + exp(V::zero() - x));
    case Activation::gelu:
      return x * V::broadcast(T(0.5)) * (one + erf(x * V::broadcast(T(0.70710678118654752440))));
    case Activation::hardswish:
      return x * clamp06(x + V::broadcast(T(3))) / V::broadcast(T(6));
    case Activation::hardsigmoid:
      return clamp06(x + V::broadcast(T(3))) / V::broadcast(T(6));
    case Activation::leaky_relu:
      return select(greater(x, V::zero()), x, x * V::broadcast(T(0.01)));
  }
  return x;
}

// The branch goes the same way throughout a call of a kernel, so it is predicted.
template <typename T>
inline Vec<T> activate(Activation activation, Vec<T> x) {
  if (activation == Activation::none) return x;
  if (activation == Activation::relu) return max(Vec<T>::zero(), x);
  return activate_rarer(activation, x);
}

}  // namespace
}  // namespace zoo
