// The activations' derivatives, as PyTorch has them where there are several (ReLU's at 0 is 0) and
// for NaN. Gradients are selected, not multiplied by 0 or 1: an infinite one that is not wanted
// would be NaN.
#pragma once

#include "activation.inc.h"
#include "channel_rows.inc.h"

namespace zoo {
namespace {

// grad where low < x < high
template <typename T, typename V>
[[gnu::always_inline]] inline V between(V grad, V x, T low, T high) {
  const V inside = select(greater(V::broadcast(high), x), grad, V::zero());
  return select(greater(x, V::broadcast(low)), inside, V::zero());
}

// grad * activation'(x) from y = activation(x)
template <Activation kActivation, typename T, typename V>
[[gnu::always_inline]] inline V gradient_from_output(V grad, V y) {
  static_assert(has_gradient_from_output(kActivation));
  const V one = V::broadcast(T(1));
  if constexpr (kActivation == Activation::relu) {
    return select(at_most(y, V::zero()), V::zero(), grad);  // NaN lets it through
  }
  if constexpr (kActivation == Activation::relu6) return between(grad, y, T(0), T(6));
  if constexpr (kActivation == Activation::sigmoid) return grad * ((one - y) * y);
  if constexpr (kActivation == Activation::tanh) return grad * (one - y * y);
  if constexpr (kActivation == Activation::hardsigmoid) {
    return between(grad * V::broadcast(T(1.0 / 6)), y, T(0), T(1));
  }
  if constexpr (kActivation == Activation::leaky_relu) {
    return select(greater(y, V::zero()), grad, grad * V::broadcast(T(0.01)));
  }
  return grad;
}

// The same from x
template <Activation kActivation, typename T, typename V>
[[gnu::always_inline]] inline V gradient_from_input(V grad, V x) {
  const V one = V::broadcast(T(1)), half = V::broadcast(T(0.5));
  if constexpr (kActivation == Activation::silu) {
    const V s = one / sigmoid_denominator(x);
    return grad * (s * fma(x, one - s, one));
  } else if constexpr (kActivation == Activation::gelu) {
    const V density = exp(x * x * V::broadcast(T(-0.5))) * V::broadcast(T(0.39894228040143267794));
    return grad * fma(x, density, normal_cdf(x));
  } else if constexpr (kActivation == Activation::hardswish) {
    const V three = V::broadcast(T(3));
    const V middle = grad * fma(x, V::broadcast(T(1.0 / 3)), half);
    const V right = select(at_most(three, x), grad, middle);
    return select(at_most(x, V::zero() - three), V::zero(), right);
  } else if constexpr (kActivation == Activation::hardsigmoid) {
    return between(grad * V::broadcast(T(1.0 / 6)), x, T(-3), T(3));
  } else if constexpr (kActivation == Activation::sigmoid || kActivation == Activation::tanh) {
    return gradient_from_output<kActivation, T>(grad, activate<kActivation, T>(x));
  } else {
    return gradient_from_output<kActivation, T>(grad, x);  // x and y are on the same side
  }
}

// Whether the activation, and its derivative from the input, are dozens of operations.
constexpr bool is_long(Activation a) {
  return a == Activation::sigmoid || a == Activation::tanh || a == Activation::silu ||
         a == Activation::gelu;
}

// choose() among those whose derivative follows from the output; false if it does not.
template <typename With>
[[gnu::always_inline]] inline bool choose_from_output(Activation activation, With with) {
  return choose(activation, [&](auto chosen) {
    if constexpr (has_gradient_from_output(decltype(chosen)::value)) {
      with(chosen);
      return true;
    }
    return false;
  });
}

template <typename T, Activation kActivation, bool kStore>
struct ActivationBackward {
  static constexpr int kConstants = 0, kSums = 1;
  static constexpr bool kLong = false;
  const T *grad, *output;
  T* grad_input;

  template <typename Lanes, typename V = typename Lanes::Vector>
  [[gnu::always_inline]] void operator()(int64_t at, Lanes lanes, const V*, V* sums) const {
    const V y = kActivation == Activation::none ? V::zero() : lanes.load(output + at);
    const V g = gradient_from_output<kActivation, T>(lanes.load(grad + at), y);
    if (kStore) lanes.store(g, grad_input + at);
    sums[0] = sums[0] + g;
  }
};

template <typename T>
void activation_backward(const BatchNormParams& p, const T* grad, const T* output, T* grad_input,
                         bool first, double* sums, const Parallel& parallel) {
  choose_from_output(p.activation, [&](auto chosen) {
    constexpr Activation kActivation = decltype(chosen)::value;
    const auto run = [&](auto op) { channel_rows<T>(p, op, nullptr, first, sums, parallel); };
    if (grad_input != nullptr) {
      run(ActivationBackward<T, kActivation, true>{grad, output, grad_input});
    } else {
      run(ActivationBackward<T, kActivation, false>{grad, output, nullptr});
    }
  });
}

}  // namespace
}  // namespace zoo
