// Batch norm in training, with the activation behind it: the sums over all pixels that it and its
// gradient need, and the passes that use them. Each tensor is read once a pass.
#pragma once

#include "activation_grad.inc.h"
#include "channel_rows.inc.h"

namespace zoo {
namespace {

template <typename T>
struct Moments {
  static constexpr int kConstants = 1, kSums = 2;
  static constexpr bool kLong = false;
  const T* x;

  template <typename Lanes, typename V = typename Lanes::Vector>
  [[gnu::always_inline]] void operator()(int64_t at, Lanes lanes, const V* shift, V* sums) const {
    const V rest = lanes.load(x + at) - shift[0];
    sums[0] = sums[0] + rest;
    sums[1] = fma(rest, rest, sums[1]);
  }
};

template <typename T>
void moments(const BatchNormParams& p, const T* x, const T* shift, bool first, double* sums,
             const Parallel& parallel) {
  channel_rows<T>(p, Moments<T>{x}, &shift, first, sums, parallel);
}

template <typename T, Activation kActivation, bool kResidual>
struct Normalize {
  static constexpr int kConstants = 2, kSums = 0;
  static constexpr bool kLong = is_long(kActivation);
  const T *x, *residual;
  T* output;

  template <typename Lanes, typename V = typename Lanes::Vector>
  [[gnu::always_inline]] void operator()(int64_t at, Lanes lanes, const V* k, V*) const {
    V z = fma(lanes.load(x + at), k[0], k[1]);
    if (kResidual) z = z + lanes.load(residual + at);
    lanes.store(activate<kActivation, T>(z), output + at);
  }
};

template <typename T>
void normalize(const BatchNormParams& p, const T* x, const T* scale, const T* shift,
               const T* residual, T* output, const Parallel& parallel) {
  const T* const numbers[] = {scale, shift};
  choose(p.activation, [&](auto chosen) {
    constexpr Activation kActivation = decltype(chosen)::value;
    const auto run = [&](auto op) { channel_rows<T>(p, op, numbers, false, nullptr, parallel); };
    if (residual != nullptr) {
      run(Normalize<T, kActivation, true>{x, residual, output});
    } else {
      run(Normalize<T, kActivation, false>{x, nullptr, output});
    }
  });
}

// What comes back through the activation, from its output or from its input x * scale + shift.
template <typename T, Activation kActivation, bool kFromOutput>
struct ThroughActivation {
  static constexpr bool kLong = !kFromOutput && is_long(kActivation);
  const T *grad, *output;

  template <typename Lanes, typename V>
  [[gnu::always_inline]] V operator()(int64_t at, Lanes lanes, V x, V scale, V shift) const {
    const V g = lanes.load(grad + at);
    if constexpr (kActivation == Activation::none) {
      return g;
    } else if constexpr (kFromOutput) {
      return gradient_from_output<kActivation, T>(g, lanes.load(output + at));
    } else {
      return gradient_from_input<kActivation, T>(g, fma(x, scale, shift));
    }
  }
};

template <typename T, typename With>
void through_activation(Activation activation, const T* grad, const T* output, With with) {
  const bool done = output != nullptr && choose_from_output(activation, [&](auto chosen) {
                      with(ThroughActivation<T, decltype(chosen)::value, true>{grad, output});
                    });
  if (done) return;
  choose(activation, [&](auto chosen) {
    with(ThroughActivation<T, decltype(chosen)::value, false>{grad, nullptr});
  });
}

template <typename T, typename Through, bool kStore>
struct NormalizeSums {
  static constexpr int kConstants = 3, kSums = 2;
  static constexpr bool kLong = Through::kLong;
  Through through;
  const T* x;
  T* grad_residual;

  template <typename Lanes, typename V = typename Lanes::Vector>
  [[gnu::always_inline]] void operator()(int64_t at, Lanes lanes, const V* k, V* sums) const {
    const V from = lanes.load(x + at);
    const V g = through(at, lanes, from, k[1], k[2]);
    if (kStore) lanes.store(g, grad_residual + at);
    sums[0] = sums[0] + g;
    sums[1] = fma(g, from - k[0], sums[1]);
  }
};

template <typename T>
void normalize_sums(const BatchNormParams& p, const T* grad, const T* output, const T* x,
                    const T* mean, const T* scale, const T* shift, T* grad_residual, bool first,
                    double* sums, const Parallel& parallel) {
  const T* const numbers[] = {mean, scale, shift};
  through_activation(p.activation, grad, output, [&](auto through) {
    using Through = decltype(through);
    const auto run = [&](auto op) { channel_rows<T>(p, op, numbers, first, sums, parallel); };
    if (grad_residual != nullptr) {
      run(NormalizeSums<T, Through, true>{through, x, grad_residual});
    } else {
      run(NormalizeSums<T, Through, false>{through, x, nullptr});
    }
  });
}

template <typename T, typename Through>
struct NormalizeBackward {
  static constexpr int kConstants = 6, kSums = 0;
  static constexpr bool kLong = Through::kLong;
  Through through;
  const T* x;
  T* grad_x;

  template <typename Lanes, typename V = typename Lanes::Vector>
  [[gnu::always_inline]] void operator()(int64_t at, Lanes lanes, const V* k, V*) const {
    const V from = lanes.load(x + at);
    const V g = through(at, lanes, from, k[1], k[2]);
    lanes.store(fma(g, k[3], fma(from - k[0], k[4], k[5])), grad_x + at);
  }
};

template <typename T>
void normalize_backward(const BatchNormParams& p, const T* grad, const T* output, const T* x,
                        const T* mean, const T* scale, const T* shift, const T* a, const T* b,
                        const T* c, T* grad_x, const Parallel& parallel) {
  const T* const numbers[] = {mean, scale, shift, a, b, c};
  through_activation(p.activation, grad, output, [&](auto through) {
    channel_rows<T>(p, NormalizeBackward<T, decltype(through)>{through, x, grad_x}, numbers, false,
                    nullptr, parallel);
  });
}

// In the order of the parts, so that the bits do not depend on who was first.
template <typename T>
void add_parts(int64_t count, int64_t channels, double* sums, int32_t threads) {
  const int64_t size = count * channels;
  for (int64_t i = 1; i < threads; ++i) {
    for (int64_t j = 0; j < size; ++j) sums[j] += sums[i * size + j];
  }
}

}  // namespace
}  // namespace zoo
