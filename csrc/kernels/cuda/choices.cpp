#include "choices.h"

#include "conv2d_plan.h"
#include "depthwise_plan.h"
#include "pool2d_plan.h"

namespace zoo::cuda {
namespace {

// Nothing here was measured. A kernel is preferred to PyTorch's ops only where a model says that it
// wins even if their arithmetic took no time at all: what they cost is then their passes over
// memory, one for each of bias, residual, activation and pool, which the kernel does not make.

// The operations that a kernel is trusted to do while a byte comes from memory. Of the devices in
// docs/cuda.md's roofline the least have 9.4 in float32 (B200) and 117 on the matrix units (RTX
// 5090); a half of the first are counted on, and a quarter of the second.
constexpr double kPlain = 4.7, kMatrix = 29;

template <typename... Sizes>
double count(Sizes... sizes) {
  return (static_cast<double>(sizes) * ...);
}

int32_t bytes(Element element) { return element == Element::float32 ? 4 : 2; }

// Strides of a weight in channels_last; whether kernels take a case does not depend on them.
Strides weight_strides(const Conv2dParams& p) {
  const int64_t channels = p.in_channels / p.groups, row = p.window.kernel_w * channels;
  return {p.window.kernel_h * row, 1, row, channels};
}

const char* unsupported(const Wish& wish) {
  if (wish.element == Element::other) {
    return "no kernel for this dtype (float32, float16 and bfloat16 have them)";
  }
  return wish.device.compiled ? nullptr
                              : "the kernels were not compiled for this device's architecture";
}

// Why PyTorch's ops are preferred to a kernel that does so many operations, if they are.
const char* aten_preferred(const Conv2dParams& p, const Wish& wish, double operations,
                           double rate) {
  if (wish.own || wish.exact) return nullptr;
  if (p.in_channels > 1 && p.input.c != 1) {
    return "the input is not channels_last: neighbouring threads would load from far apart";
  }
  const bool depthwise = p.groups == p.in_channels && p.groups == p.out_channels;
  const bool pooled = p.pool != Pool::none;
  const int passes = int{wish.bias && !depthwise} + int{wish.residual} +  // aten's adds the bias
                     int{p.activation != Activation::none} + int{pooled};
  if (passes == 0) return "nothing is fused to it: no pass over memory is saved";
  const double map = count(p.batch, p.out_channels, p.out_h, p.out_w);
  const double moved =
      count(p.batch, p.in_channels, p.in_h, p.in_w) +
      count(p.out_channels, p.in_channels / p.groups, p.window.kernel_h, p.window.kernel_w) +
      (pooled ? count(p.batch, p.out_channels, p.pool_h, p.pool_w) : map) +
      (wish.residual ? map : 0);
  const double saved = 2 * map * passes;
  if (4 * saved < moved) return "less than a fifth of the traffic would be saved";
  return operations > rate * bytes(wish.element) * (moved + saved)
             ? "limited by arithmetic, in which cuDNN is trusted more"
             : nullptr;
}

const char* depthwise_declines(const Conv2dParams& p, const Wish& wish) {
  if (const char* reason = unsupported(wish)) return reason;
  const DepthwisePlan plan =
      plan_depthwise(p, weight_strides(p), bytes(wish.element), nullptr, wish.residual, nullptr);
  if (plan.declines != nullptr) return plan.declines;
  using Shape = DepthwiseTile<1>;
  const int32_t rows = plan.stride == 1 ? Shape::kRows : DepthwiseTile<2>::kRows;
  const double outputs = count(plan.grid.blocks(), rows, Shape::kColumns, Shape::kChannels);
  return aten_preferred(p, wish, 2 * outputs * count(plan.kernel, plan.kernel), kPlain);
}

const char* conv2d_declines(const Conv2dParams& p, const Wish& wish) {
  if (const char* reason = unsupported(wish)) return reason;
  const Conv2dPlan plan = plan_conv2d(p, weight_strides(p), bytes(wish.element), nullptr, nullptr,
                                      nullptr, nullptr, wish.device.processors);
  if (plan.declines != nullptr) return plan.declines;
  // Whole tiles are multiplied, by slices of the depth.
  const double products = plan.large ? count(LargeTile::kRows, LargeTile::kColumns)
                                     : count(SmallTile::kRows, SmallTile::kColumns);
  const int64_t depth = p.in_channels / p.groups * p.window.kernel_h * p.window.kernel_w;
  const bool matrices = wish.element == Element::float16 ||
                        (wish.element == Element::bfloat16 && wish.device.capability >= 80);
  const int64_t slice = matrices ? 32 : 16;
  const double operations = 2 * products * count(plan.grid.blocks(), ceil_div(depth, slice), slice);
  return aten_preferred(p, wish, operations, matrices ? kMatrix : kPlain);
}

const char* aten_declines(const Conv2dParams&, const Wish&) { return nullptr; }

}  // namespace

const Conv2dCandidate kConv2dList[] = {
    {Conv2dImpl::depthwise, "depthwise", depthwise_declines},
    {Conv2dImpl::conv2d, "conv2d", conv2d_declines},
    {Conv2dImpl::aten, "aten", aten_declines},
};
const int32_t kConv2dListSize = sizeof(kConv2dList) / sizeof(kConv2dList[0]);

Conv2dImpl select_conv2d(const Conv2dParams& params, const Wish& wish) {
  int32_t i = 0;
  while (kConv2dList[i].declines(params, wish) != nullptr) ++i;
  return kConv2dList[i].impl;
}

const char* pool2d_declines(const Pool2dParams& p, Pool kind, const Wish& wish) {
  if (const char* reason = unsupported(wish)) return reason;
  const Pool2dPlan plan = plan_pool2d(p, kind, bytes(wish.element), nullptr, nullptr);
  if (plan.declines != nullptr) return plan.declines;
  // aten's max-pool writes indices too, 8 bytes for each result.
  return kind == Pool::max || wish.own ? nullptr : "aten's average pool moves no more bytes";
}

}  // namespace zoo::cuda
