// The activations on single floats. NaN stays NaN.
#pragma once

#include <math.h>

#include "../params.h"
#include "element.h"

namespace zoo::cuda {

ZOO_DEVICE float clamp06(float x) { return x < 0 ? 0 : x > 6 ? 6 : x; }

// All threads of a launch take the same way through the switch.
ZOO_DEVICE float activate(Activation activation, float x) {
  switch (activation) {
    case Activation::none:
      return x;
    case Activation::relu:
      return x < 0 ? 0 : x;
    case Activation::relu6:
      return clamp06(x);
    case Activation::sigmoid:
      return 1 / (1 + expf(-x));
    case Activation::tanh:
      return tanhf(x);
    case Activation::silu:
      return x / (1 + expf(-x));
    case Activation::gelu:
      return x * 0.5f * (1 + erff(x * 0.70710678f));
    case Activation::hardswish:
      return x * (clamp06(x + 3) * (1.0f / 6));
    case Activation::hardsigmoid:
      return clamp06(x + 3) * (1.0f / 6);
    case Activation::leaky_relu:
      return x > 0 ? x : x * 0.01f;
  }
  return x;
}

// Some values in registers. Activations other than ReLU go over them in shared memory, where `own`
// is this thread's: a loop can walk over that, but not over registers, each of which would need a
// copy of exp, tanh and erf.
template <int32_t kCount>
ZOO_DEVICE void activate(Activation activation, float* values, float* own) {
  if (activation == Activation::none) return;
  if (activation == Activation::relu) {
    ZOO_UNROLL for (int32_t i = 0; i < kCount; ++i) values[i] = values[i] < 0 ? 0 : values[i];
    return;
  }
  ZOO_UNROLL for (int32_t i = 0; i < kCount; ++i) own[i] = values[i];
  ZOO_ROLLED for (int32_t i = 0; i < kCount; ++i) own[i] = activate(activation, own[i]);
  ZOO_UNROLL for (int32_t i = 0; i < kCount; ++i) values[i] = own[i];
}

}  // namespace zoo::cuda
