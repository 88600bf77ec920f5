// The table of kernels that each instruction set fills in once, and the choice among them.
#pragma once

#include "params.h"

namespace zoo {

// Packed weights of the GEMM and the direct kernel, the same for every instruction set:
//   [groups][ceil(O/groups / 32)][2][kernel_h * kernel_w * C/groups][16]
// panels of 32 filters, of two strips each, with the depth in the order (row, column, channel), and
// zeros where O/groups ends. A strip's depth is a cache line of floats, line after line.
// Packed weights of the depthwise kernel: [kernel_h * kernel_w][depthwise_width(C)].
// Packed weights of the Winograd kernels, transformed: [ceil(O / 32)][points][2][C][16], with 36
// points (row, column) for tiles of 4x4 outputs and 16 for tiles of 2x2.
constexpr int64_t kPanel = 32, kStrip = 16;

// Where filter j of a panel begins, for a strip of so much depth.
constexpr int64_t in_panel(int64_t j, int64_t depth) {
  return j / kStrip * depth * kStrip + j % kStrip;
}

// An odd number of panels: at a power of two all taps of a channel would crowd into a few places of
// the L1 cache.
constexpr int64_t depthwise_width(int64_t channels) {
  return ((channels + kPanel - 1) / kPanel | 1) * kPanel;
}

// One operation on one element type. workspace holds workspace_bytes(params, threads) bytes,
// aligned to 64; kernels allocate nothing. bias and residual may be null. Without a pool, output
// may be residual, if their strides are the same and channels are together.
template <typename T>
struct Conv2dKernel {
  const char* name;  // e.g. "gemm_avx2_6x16"
  int64_t (*workspace_bytes)(const Conv2dParams&, int32_t threads);
  void (*run)(const Conv2dParams&, const T* input, const T* packed_weight, const T* bias,
              const T* residual, T* output, void* workspace, const Parallel&);
};

template <typename T>
struct Pool2dKernels {
  // indices may be null; otherwise they get the position row * in_w + column of each maximum.
  void (*max_pool2d)(const Pool2dParams&, const T* input, T* output, int64_t* indices,
                     const Parallel&);
  void (*avg_pool2d)(const Pool2dParams&, const T* input, T* output, const Parallel&);
};

// scale and shift may be null; output may be input, if their strides are the same.
template <typename T>
struct PointwiseKernels {
  void (*scale_shift)(const ScaleShiftParams&, const T* input, const T* scale, const T* shift,
                      T* output, const Parallel&);
};

// Each row times weight plus bias, if they are not null; output may be input.
template <typename T>
struct NormKernels {
  void (*layer_norm)(const LayerNormParams&, const T* input, const T* weight, const T* bias,
                     T* output, const Parallel&);
};

// The gradient of a convolution's weight: of the products of each input that a weight saw with the
// gradient of the output that it went to, the sum over all outputs. The params are the
// convolution's, without a pool; `input` and `grad` (of the output, strides params.output) have
// their channels next to each other. Images are added a few at a time: sums_bytes and the layout
// of the sums depend on everything but params.batch and on threads; workspace_bytes is for a call.
template <typename T>
struct Conv2dWeightGradKernel {
  const char* name;  // e.g. "weight_grad_avx2_6x16"
  int64_t (*sums_bytes)(const Conv2dParams&, int32_t threads);
  int64_t (*workspace_bytes)(const Conv2dParams&, int32_t threads);
  // Adds these images to the sums; with `first` the sums are set to them.
  void (*add)(const Conv2dParams&, const T* input, const T* grad, bool first, void* sums,
              void* workspace, const Parallel&);
  // Writes the sums to a weight (O, C/groups, kernel_h, kernel_w) with these strides (n is O's).
  void (*finish)(const Conv2dParams&, const void* sums, T* weight, const Strides& strides,
                 const Parallel&);
};

// What else a training step consists of; ops/autograd says how they make up a backward.
//
// Where a 2x2 max-pool's maximum was is kept in 2 bits, row * 2 + column of the window: for each
// output pixel 2 * ceil(channels / 8) bytes, first the columns of all channels, then their rows;
// channel c is bit c % 8 of byte c / 8. Ties and NaN go where PyTorch sends them.
//
// Sums are [thread][which sum][channel]: each thread adds to a part of its own, or with `first`
// sets it. finish adds up the parts; [which sum][channel] of the first holds the total.
template <typename T>
struct TrainingKernels {
  // The largest of each 2x2 window, and where it was.
  void (*max_pool2)(const MaxPool2Params&, const T* input, T* output, uint8_t* where,
                    const Parallel&);
  // The gradient of what went into the activation before the pool, of all of the map (zeros where
  // nothing was the maximum), from that of the pool's output and that output; and per channel its
  // sum, sums[1][channels].
  void (*max_pool2_backward)(const MaxPool2Params&, const T* grad, const T* output,
                             const uint8_t* where, T* grad_input, bool first, double* sums,
                             const Parallel&);
  // grad times the activation's derivative, from its output, and the sums of that per channel,
  // sums[1][channels]. grad_input may be null: then only sums are made.
  void (*activation_backward)(const BatchNormParams&, const T* grad, const T* output, T* grad_input,
                              bool first, double* sums, const Parallel&);
  // Per channel the sum of x - shift and of its square, sums[2][channels]. shift is any value near
  // the mean, so that the squares' sum less the sum's square keeps its digits.
  void (*moments)(const BatchNormParams&, const T* x, const T* shift, bool first, double* sums,
                  const Parallel&);
  // activation(x * scale + shift + residual); residual may be null, output may be x.
  void (*normalize)(const BatchNormParams&, const T* x, const T* scale, const T* shift,
                    const T* residual, T* output, const Parallel&);
  // g = grad * activation'(...): per channel the sum of g and of g * (x - mean), sums[2][channels].
  // The derivative is computed from output, where it is not null, otherwise from
  // x * scale + shift. grad_residual gets g, if it is not null.
  void (*normalize_sums)(const BatchNormParams&, const T* grad, const T* output, const T* x,
                         const T* mean, const T* scale, const T* shift, T* grad_residual,
                         bool first, double* sums, const Parallel&);
  // grad_x = g * a + (x - mean) * b + c, with a, b and c one per channel.
  void (*normalize_backward)(const BatchNormParams&, const T* grad, const T* output, const T* x,
                             const T* mean, const T* scale, const T* shift, const T* a, const T* b,
                             const T* c, T* grad_x, const Parallel&);
  // Adds up the parts of `count` sums.
  void (*finish)(int64_t count, int64_t channels, double* sums, int32_t threads);
};

// What the machine can do at most, each thread for itself. sums[thread] gets what it summed up, as
// the compiler drops work that nobody sees.
template <typename T>
struct PeakKernels {
  int64_t flops;  // of a step of a thread
  // In a step each lane of flops / 2 goes halfway to 1. They start at 0, 1, 2, ... by vectors.
  void (*fma)(int64_t steps, T* sums, const Parallel&);
  // Sums the thread's part of data, `passes` times over.
  void (*read)(const T* data, int64_t count, int64_t passes, T* sums, const Parallel&);
};

template <typename T>
struct Kernels {
  Conv2dKernel<T> gemm;       // any shape
  Conv2dKernel<T> depthwise;  // groups == in_channels == out_channels; any window
  Conv2dKernel<T> direct;     // made for little depth
  // 3x3, stride 1, dilation 1, one group; the pool, if any, 2x2 with stride 2 and no padding. The
  // numbers are those of a tile's outputs in a row. Null for double.
  Conv2dKernel<T> winograd4, winograd2;
  // From the weights of a 1x1 convolution of one group, packed for the GEMM, those of a map whose
  // channel c is first multiplied by scale[c * step].
  void (*scale_panels)(int64_t panels, int64_t channels, const T* packed, const T* scale,
                       int64_t step, T* scaled, const Parallel&);
  Pool2dKernels<T> pool;
  PointwiseKernels<T> pointwise;
  NormKernels<T> norm;
  PeakKernels<T> peak;
  // One group or several; and one filter per channel.
  Conv2dWeightGradKernel<T> weight_grad, depthwise_weight_grad;
  TrainingKernels<T> training;
};

struct KernelTable {
  const char* isa;  // "scalar", "avx2", "avx512"
  Kernels<float> f32;
  Kernels<double> f64;  // null where the scalar table's serves
};

}  // namespace zoo
