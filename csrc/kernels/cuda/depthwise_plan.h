// How a depthwise convolution is cut into blocks, and what the kernel is told of it.
#pragma once

#include "plan.h"

namespace zoo::cuda {

// A block's share: kRows x kColumns outputs of 32 channels, by 128 threads, each of which sums 4
// channels of neighbouring outputs in a row. What it sees of the input fits in 48 KB with kernels
// of up to 7.
template <int32_t kStride>
struct DepthwiseTile {
  static constexpr int32_t kThreads = 128, kChannels = 32, kQuads = kChannels / 4;
  static constexpr int32_t kRows = kStride == 1 ? 8 : 4, kColumns = 8;
  static constexpr int32_t kAtOnce = kRows * kColumns * kQuads / kThreads;  // outputs of a thread
};

struct DepthwiseProblem {
  int32_t channels, in_h, in_w, out_h, out_w, pad_h, pad_w;
  int32_t across, down;  // tiles of a map
  Activation activation;
  bool loads_chunks;              // 16 bytes of the input
  bool stores_quads;              // 4 channels of the output
  Strides input, weight, output;  // weight: n is the channel's
};

struct DepthwisePlan {
  const char* declines = nullptr;  // or why the kernel does not take the case
  DepthwiseProblem problem{};
  int32_t kernel = 0, stride = 0;
  Grid grid;
};

inline DepthwisePlan plan_depthwise(const Conv2dParams& from, const Strides& weight_strides,
                                    int32_t element, const void* input, bool has_residual,
                                    const void* output) {
  DepthwisePlan plan;
  const auto declined = [&](const char* reason) {
    plan.declines = reason;
    return plan;
  };
  const auto n = [](int64_t x) { return static_cast<int32_t>(x); };
  const Window& w = from.window;
  if (from.groups != from.in_channels || from.groups != from.out_channels) {
    return declined("not depthwise (groups == in_channels == out_channels)");
  }
  if (w.kernel_h != w.kernel_w || (w.kernel_h != 3 && w.kernel_h != 5 && w.kernel_h != 7)) {
    return declined("a window that is not 3x3, 5x5 or 7x7");
  }
  if (w.stride_h != w.stride_w || w.stride_h > 2) return declined("a stride that is not 1 or 2");
  if (w.dilation_h != 1 || w.dilation_w != 1) return declined("a dilated window");
  if (has_residual || from.pool != Pool::none) return declined("a residual or a pool");
  if (!fit(from.batch, from.in_channels, from.in_h, from.in_w, from.out_h, from.out_w) ||
      !fits(w)) {
    return declined("a size of 2^28 or more");
  }
  DepthwiseProblem& p = plan.problem;
  p.channels = n(from.in_channels), p.in_h = n(from.in_h), p.in_w = n(from.in_w);
  p.out_h = n(from.out_h), p.out_w = n(from.out_w);
  p.pad_h = n(w.pad_h), p.pad_w = n(w.pad_w);
  p.activation = from.activation;
  p.input = from.input, p.weight = weight_strides, p.output = from.output;
  p.loads_chunks = loads_chunks(input, p.input, 16 / element);
  const Strides& s = p.output;
  p.stores_quads =
      reinterpret_cast<std::uintptr_t>(output) % static_cast<unsigned>(4 * element) == 0 &&
      s.c == 1 && s.n % 4 == 0 && s.h % 4 == 0 && s.w % 4 == 0;
  plan.kernel = n(w.kernel_h), plan.stride = n(w.stride_h);
  const int64_t rows = plan.stride == 1 ? DepthwiseTile<1>::kRows : DepthwiseTile<2>::kRows;
  p.across = n(ceil_div(from.out_w, DepthwiseTile<1>::kColumns));
  p.down = n(ceil_div(from.out_h, rows));
  plan.grid = {from.batch * p.across * p.down, ceil_div(from.in_channels, 32), 1,
               DepthwiseTile<1>::kThreads};
  if (plan.grid.x > kMostX) return declined("2^31 tiles or more");
  if (plan.grid.y > kMostYZ) return declined("more than 2097120 channels");
  return plan;
}

}  // namespace zoo::cuda
