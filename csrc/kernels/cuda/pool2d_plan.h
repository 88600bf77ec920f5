// How a pool is cut into blocks, and what the kernels are told of it.
#pragma once

#include "plan.h"

namespace zoo::cuda {

struct Pool2dProblem {
  int32_t channels, in_h, in_w, out_h, out_w;
  Window32 window;
  bool max, adaptive, count_include_pad;
  float divisor;      // of a mean, in place of the count, if it is not 0
  int32_t per_image;  // blocks
  Strides input, output;
};

enum class PoolKernel {
  window,  // a thread makes an output: 16 bytes of channels, or a single number
  global,  // one window is all of the map: many threads share it
};

struct Pool2dPlan {
  const char* declines = nullptr;  // or why the kernels do not take the case
  Pool2dProblem problem{};
  PoolKernel kernel = PoolKernel::window;
  bool chunks = false;  // threads take 16 bytes of channels; otherwise single numbers
  Grid grid;
};

constexpr int32_t kPoolThreads = 256;
// Of a global pool by chunks: 8 threads side by side take chunks of channels, 32 take pixels.
// Without chunks each of the 8 warps takes a channel.
constexpr int32_t kPoolAcross = 8, kPoolWarps = kPoolThreads / 32;

inline Pool2dPlan plan_pool2d(const Pool2dParams& from, Pool kind, int32_t element,
                              const void* input, const void* output) {
  Pool2dPlan plan;
  const auto declined = [&](const char* reason) {
    plan.declines = reason;
    return plan;
  };
  const auto n = [](int64_t x) { return static_cast<int32_t>(x); };
  const Window& w = from.window;
  if (!fit(from.batch, from.channels, from.in_h, from.in_w, from.out_h, from.out_w) || !fits(w)) {
    return declined("a size of 2^28 or more");
  }
  const int64_t count = 16 / element, pixels = from.out_h * from.out_w;
  if (from.channels * pixels > kMostX || from.in_h * from.in_w > kMostX) {
    return declined("2^31 outputs of an image or more");
  }
  Pool2dProblem& p = plan.problem;
  p.channels = n(from.channels), p.in_h = n(from.in_h), p.in_w = n(from.in_w);
  p.out_h = n(from.out_h), p.out_w = n(from.out_w);
  p.window = narrow(w);
  p.max = kind == Pool::max;
  p.adaptive = from.adaptive;
  p.count_include_pad = from.count_include_pad;
  p.divisor = static_cast<float>(from.divisor_override);
  p.input = from.input, p.output = from.output;
  plan.chunks = from.channels % count == 0 && loads_chunks(input, p.input, count) &&
                loads_chunks(output, p.output, count);
  const bool whole =
      from.adaptive || (w.kernel_h == from.in_h && w.kernel_w == from.in_w && w.pad_h == 0 &&
                        w.pad_w == 0 && w.dilation_h == 1 && w.dilation_w == 1);
  if (pixels == 1 && whole && from.in_h * from.in_w >= 32) plan.kernel = PoolKernel::global;
  const int64_t channels = plan.chunks ? from.channels / count : from.channels;
  const int64_t per_image = plan.kernel == PoolKernel::window
                                ? ceil_div(channels * pixels, kPoolThreads)
                                : ceil_div(channels, kPoolAcross);
  static_assert(kPoolAcross == kPoolWarps);
  p.per_image = n(per_image);
  plan.grid = {from.batch * per_image, 1, 1, kPoolThreads};
  if (plan.grid.x > kMostX) return declined("2^31 blocks or more");
  return plan;
}

}  // namespace zoo::cuda
