// Convolution and pooling as their definitions say, in double.
#pragma once

#include "support.h"

namespace zoo::test {

inline double activation(Activation a, double x) {
  const auto clamp06 = [](double y) { return y < 0 ? 0 : y > 6 ? 6 : y; };  // NaN stays
  switch (a) {
    case Activation::none:
      return x;
    case Activation::relu:
      return x < 0 ? 0 : x;
    case Activation::relu6:
      return clamp06(x);
    case Activation::sigmoid:
      return 1 / (1 + std::exp(-x));
    case Activation::tanh:
      return std::tanh(x);
    case Activation::silu:
      return x / (1 + std::exp(-x));
    case Activation::gelu:
      return x * 0.5 * (1 + std::erf(x / std::sqrt(2.0)));
    case Activation::hardswish:
      return x * clamp06(x + 3) / 6;
    case Activation::hardsigmoid:
      return clamp06(x + 3) / 6;
    case Activation::leaky_relu:
      return x > 0 ? x : x * 0.01;
  }
  return x;
}

struct Value {
  double value;
  double magnitude;  // the sum of the products' absolute values: what errors are relative to
};

template <typename T>
Value convolution(const Conv2dParams& p, const Tensor<T>& input, const Tensor<T>& weight,
                  const T* bias, const Tensor<T>* residual, int64_t n, int64_t o, int64_t y,
                  int64_t x) {
  const int64_t in = p.in_channels / p.groups, group = o / (p.out_channels / p.groups);
  const Window& w = p.window;
  double sum = 0, magnitude = 0;
  for (int64_t r = 0; r < w.kernel_h; ++r) {
    for (int64_t s = 0; s < w.kernel_w; ++s) {
      const int64_t h = y * w.stride_h - w.pad_h + r * w.dilation_h;
      const int64_t v = x * w.stride_w - w.pad_w + s * w.dilation_w;
      if (h < 0 || h >= p.in_h || v < 0 || v >= p.in_w) continue;
      for (int64_t c = 0; c < in; ++c) {
        const double product = static_cast<double>(input.at(n, group * in + c, h, v)) *
                               static_cast<double>(weight.at(o, c, r, s));
        sum += product;
        if (std::isfinite(product)) magnitude += std::abs(product);
      }
    }
  }
  if (bias != nullptr) sum += bias[o], magnitude += std::abs(bias[o]);
  if (residual != nullptr) {
    sum += residual->at(n, o, y, x);
    magnitude += std::abs(residual->at(n, o, y, x));
  }
  return {activation(p.activation, sum), magnitude};
}

struct Pooled {
  double value;
  double magnitude;
  int64_t index;
};

// get(h, w) -> Value; pools one window of an in_h x in_w map.
template <typename Get>
Pooled pooled(Pool kind, const Window& w, int64_t in_h, int64_t in_w, bool count_include_pad,
              int64_t divisor_override, int64_t y, int64_t x, Get get) {
  const bool max = kind == Pool::max;
  const int64_t h0 = y * w.stride_h - w.pad_h, w0 = x * w.stride_w - w.pad_w;
  Pooled result{max ? -std::numeric_limits<double>::infinity() : 0, 0, -1};
  int64_t count = 0;
  for (int64_t r = 0; r < w.kernel_h; ++r) {
    for (int64_t s = 0; s < w.kernel_w; ++s) {
      const int64_t h = h0 + r * w.dilation_h, v = w0 + s * w.dilation_w;
      if (h < 0 || h >= in_h || v < 0 || v >= in_w) continue;
      const Value one = get(h, v);
      ++count;
      result.magnitude =
          max ? std::max(result.magnitude, one.magnitude) : result.magnitude + one.magnitude;
      if (!max) {
        result.value += one.value;
      } else if (result.index < 0 || one.value > result.value || std::isnan(one.value)) {
        result.value = one.value;
        result.index = h * in_w + v;
      }
    }
  }
  if (max || count == 0) return result;
  if (count_include_pad) {
    count = (std::min(h0 + w.kernel_h, in_h + w.pad_h) - h0) *
            (std::min(w0 + w.kernel_w, in_w + w.pad_w) - w0);
  }
  const double divisor = static_cast<double>(divisor_override != 0 ? divisor_override : count);
  result.value /= divisor;
  result.magnitude /= std::abs(divisor);
  return result;
}

}  // namespace zoo::test
