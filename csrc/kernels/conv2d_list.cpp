#include "conv2d_list.h"

namespace zoo {
namespace {

// What no kernel of ours takes, whatever its shape.
const char* unsupported(DType dtype) {
#if defined(__x86_64__)
  return dtype == DType::other ? "no kernel for this dtype (float32 and float64 have them)"
                               : nullptr;
#else
  (void)dtype;
  return "no tuned kernel for this processor";
#endif
}

const char* depthwise_declines(const Conv2dParams& p, const Conv2dWish& wish) {
  if (const char* reason = unsupported(wish.dtype)) return reason;
  return packing_declines(Packing::depthwise, weight_size(p), p.groups);
}

// The time that a convolution takes by products at `points` points (taps, for a matrix product)
// over tiles of side x side outputs: in products of one tile with all filters at one point. Reading
// the weights costs as much as a few tiles, or where they do not fit in cache many; packing them
// costs more still. Fitted to measurements of 8 to 512 channels on maps of 4 to 56 (Zen 3, AVX2).
double cost(const Conv2dParams& p, const Conv2dWish& wish, int64_t points, int64_t side) {
  const auto tiles = [&](int64_t out) { return static_cast<double>((out + side - 1) / side); };
  const double weights = static_cast<double>(p.out_channels) * static_cast<double>(p.in_channels);
  const bool fits = weights * static_cast<double>(points) <= (4 << 20);
  const double reading = fits ? 3 : 16;
  const double packing = wish.prepacked ? 0 : fits ? 32 : 100;
  return static_cast<double>(points) *
         (static_cast<double>(p.batch) * tiles(p.out_h) * tiles(p.out_w) + reading + packing);
}
double cost4(const Conv2dParams& p, const Conv2dWish& wish) { return cost(p, wish, 36, 4); }
double cost2(const Conv2dParams& p, const Conv2dWish& wish) { return cost(p, wish, 16, 2); }
double cost_of_gemm(const Conv2dParams& p, const Conv2dWish& wish) { return cost(p, wish, 9, 1); }

// What neither Winograd kernel takes.
const char* winograd_declines(Packing packing, const Conv2dParams& p, const Conv2dWish& wish) {
  if (const char* reason = unsupported(wish.dtype)) return reason;
  if (wish.dtype != DType::float32) return "Winograd is for float32 only";
  if (const char* reason = packing_declines(packing, weight_size(p), p.groups)) return reason;
  if (const char* reason = packing_declines(packing, p.window)) return reason;
  if (wish.exact) return "precision=\"exact\" avoids Winograd";
  if (!pool_of_two(p)) return "Winograd fuses 2x2 pools with stride 2 only";
  if (p.in_channels < 16 || p.out_channels < 16) return "fewer than 16 channels in or out";
  return nullptr;
}

const char* winograd4_declines(const Conv2dParams& p, const Conv2dWish& wish) {
  if (const char* reason = winograd_declines(Packing::winograd4, p, wish)) return reason;
  const double mine = cost4(p, wish);
  if (mine >= cost_of_gemm(p, wish)) {
    return wish.prepacked ? "too few 4x4 tiles for so many weights"
                          : "too few 4x4 tiles to pay for transforming the weights";
  }
  return mine < cost2(p, wish) ? nullptr : "2x2 tiles waste less of the map, or read fewer weights";
}

const char* winograd2_declines(const Conv2dParams& p, const Conv2dWish& wish) {
  if (const char* reason = winograd_declines(Packing::winograd2, p, wish)) return reason;
  if (cost2(p, wish) < cost_of_gemm(p, wish)) return nullptr;
  return wish.prepacked ? "too few 2x2 tiles for so many weights"
                        : "too few 2x2 tiles to pay for transforming the weights";
}

// Beyond these limits the GEMM's blocks pay for copying windows (Zen 3, AVX2).
const char* direct_declines(const Conv2dParams& p, const Conv2dWish& wish) {
  constexpr int64_t kMostDepth = 256, kMostWeights = 98304;
  if (const char* reason = unsupported(wish.dtype)) return reason;
  if (p.groups != 1) return "direct takes one group only";
  const int64_t depth = p.window.kernel_h * p.window.kernel_w * p.in_channels;
  if (depth > kMostDepth) return "more than 256 products an output";
  return depth * p.out_channels > kMostWeights ? "more than 98304 weights" : nullptr;
}

const char* gemm_declines(const Conv2dParams& p, const Conv2dWish& wish) {
  if (const char* reason = unsupported(wish.dtype)) return reason;
  return packing_declines(Packing::gemm, weight_size(p), p.groups);
}

const char* aten_declines(const Conv2dParams&, const Conv2dWish&) { return nullptr; }

}  // namespace

const Conv2dCandidate kConv2dList[] = {
    {Conv2dImpl::depthwise, "depthwise", depthwise_declines},
    {Conv2dImpl::winograd4, "winograd4", winograd4_declines},
    {Conv2dImpl::winograd2, "winograd2", winograd2_declines},
    {Conv2dImpl::direct, "direct", direct_declines},
    {Conv2dImpl::gemm, "gemm", gemm_declines},
    {Conv2dImpl::aten, "aten", aten_declines},
};
const int32_t kConv2dListSize = sizeof(kConv2dList) / sizeof(kConv2dList[0]);

Conv2dImpl select_conv2d(const Conv2dParams& params, const Conv2dWish& wish) {
  int32_t i = 0;
  while (kConv2dList[i].declines(params, wish) != nullptr) ++i;
  return kConv2dList[i].impl;
}

Packing packing_of(Conv2dImpl impl, const Conv2dParams& params) {
  if (impl == Conv2dImpl::winograd4) return Packing::winograd4;
  if (impl == Conv2dImpl::winograd2) return Packing::winograd2;
  return direct_packing(weight_size(params), params.groups);
}

Conv2dImpl impl_of(Packing packing, const Conv2dParams& params, const Conv2dWish& wish) {
  switch (packing) {
    case Packing::depthwise:
      return Conv2dImpl::depthwise;
    case Packing::winograd4:
      return Conv2dImpl::winograd4;
    case Packing::winograd2:
      return Conv2dImpl::winograd2;
    case Packing::gemm:
      break;
  }
  return direct_declines(params, wish) == nullptr ? Conv2dImpl::direct : Conv2dImpl::gemm;
}

const char* packing_name(Packing packing) {
  constexpr const char* kNames[] = {"gemm", "depthwise", "winograd4", "winograd2"};
  return kNames[static_cast<int32_t>(packing)];
}

WeightSize weight_size(const Conv2dParams& p) {
  return {p.out_channels, p.in_channels / p.groups, p.window.kernel_h, p.window.kernel_w};
}

bool pool_of_two(const Conv2dParams& p) {
  const Window& w = p.pool_window;
  return p.pool == Pool::none ||
         (w.kernel_h == 2 && w.kernel_w == 2 && w.stride_h == 2 && w.stride_w == 2 &&
          w.pad_h == 0 && w.pad_w == 0 && w.dilation_h == 1 && w.dilation_w == 1);
}

}  // namespace zoo
