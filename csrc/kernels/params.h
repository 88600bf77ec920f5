// What a kernel is told: sizes, strides and options, in plain structs. No torch, no Python.
#pragma once

#include <cstdint>

namespace zoo {

// Strides of a 4-d tensor (batch, channel, row, column), in elements. Any values are allowed:
// NCHW, channels_last, slices and expanded (0) dimensions are all the same to a kernel.
struct Strides {
  int64_t n, c, h, w;
};

enum class Activation : int32_t {
  none,
  relu,
  relu6,
  sigmoid,
  tanh,
  silu,
  gelu,  // the exact one, by erf
  hardswish,
  hardsigmoid,
  leaky_relu,  // slope 0.01
};

// Whether an activation's derivative follows from its output alone. That of the others takes what
// went in.
constexpr bool has_gradient_from_output(Activation a) {
  return a != Activation::silu && a != Activation::gelu && a != Activation::hardswish;
}

enum class Pool : int32_t { none, max, avg };

// A rectangular window moving over a map. Padding is the number of rows above and columns to
// the left; what lies below and to the right follows from the output's size.
struct Window {
  int64_t kernel_h = 1, kernel_w = 1;
  int64_t stride_h = 1, stride_w = 1;
  int64_t pad_h = 0, pad_w = 0;
  int64_t dilation_h = 1, dilation_w = 1;
};

// activation(conv2d(input, weight) + bias + residual), then optionally pooled.
// The pool pads as PyTorch does: max with -inf, avg with zeros that count.
struct Conv2dParams {
  int64_t batch = 0;
  int64_t in_channels = 0, in_h = 0, in_w = 0;
  int64_t out_channels = 0, out_h = 0, out_w = 0;  // of the convolution, before the pool
  int64_t groups = 1;
  Window window;
  Activation activation = Activation::none;
  Pool pool = Pool::none;
  Window pool_window;
  int64_t pool_h = 0, pool_w = 0;  // of the result, when pool != none
  Strides input{}, residual{}, output{};
};

// input: (batch, channels, in_h, in_w) -> (batch, channels, out_h, out_w)
struct Pool2dParams {
  int64_t batch = 0, channels = 0;
  int64_t in_h = 0, in_w = 0, out_h = 0, out_w = 0;
  Window window;
  // avg only; then window is not looked at: output row y is the mean of the input's rows from
  // floor(y in_h / out_h) to ceil((y + 1) in_h / out_h), likewise columns.
  bool adaptive = false;
  bool count_include_pad = true;  // avg only
  int64_t divisor_override = 0;   // avg only; 0 means none
  Strides input{}, output{};      // the indices of max pooling have the output's strides
};

// activation(input * scale + shift), element by element; scale and shift broadcast by strides of 0.
struct ScaleShiftParams {
  int64_t batch = 0, channels = 0, height = 0, width = 0;
  Activation activation = Activation::none;
  Strides input{}, scale{}, shift{}, output{};
};

// (row - mean) / sqrt(variance + eps) for rows of channels, all of them together in memory.
struct LayerNormParams {
  int64_t rows = 0, channels = 0;
  double eps = 0;
};

// The parts of a training step that follow or precede a convolution. All tensors are dense rows of
// channels: pixel after pixel, image after image.

// 2x2 max-pool with stride 2 over maps of in_h x in_w; a last odd row or column is in no window.
struct MaxPool2Params {
  int64_t batch = 0, channels = 0, in_h = 0, in_w = 0;
  Activation activation = Activation::none;  // of the convolution before the pool
};

// activation(x * scale + shift + residual) for rows of channels; scale and shift one per channel.
struct BatchNormParams {
  int64_t pixels = 0, channels = 0;
  Activation activation = Activation::none;
};

// How a kernel asks for threads. run() calls body(context, begin, end, thread) over disjoint
// ranges that cover [0, count), possibly at once, and returns when all have ended; thread is
// in [0, threads). The caller owns the thread pool: kernels never start threads themselves.
struct Parallel {
  int32_t threads = 1;
  void (*run)(const Parallel& self, int64_t count, void* context,
              void (*body)(void* context, int64_t begin, int64_t end, int32_t thread)) = nullptr;
  void* pool = nullptr;  // whatever run() needs
};

}  // namespace zoo
