#include "conv2d_list.h"

#include "dispatch.h"

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
  if (const char* reason = packing_declines(Packing::depthwise, weight_size(p), p.groups)) {
    return reason;
  }
  return builtin_wins(p, wish);
}

// The time that a convolution takes by products at `points` points (taps, for a matrix product)
// over tiles of side x side outputs: in products of one tile with all filters at one point. Reading
// the weights costs as much as a few tiles, or where they do not fit in cache many; packing them
// costs more still, transforming them most. Fitted to measurements of 8 to 512 channels on maps of
// 4 to 56 (Zen 3 with AVX2, and a Xeon with AVX-512, where transforming costs more: it counts).
double cost(const Conv2dParams& p, const Conv2dWish& wish, int64_t points, int64_t side) {
  const auto tiles = [&](int64_t out) { return static_cast<double>((out + side - 1) / side); };
  const double weights = static_cast<double>(p.out_channels) * static_cast<double>(p.in_channels);
  constexpr double kCache = 4 << 20;
  const double packed = weights * static_cast<double>(points);
  const double reading = packed <= kCache ? 3 : 16;
  const bool fits = packed < kCache;  // beside the weights that are packed
  const double packing = wish.prepacked ? 0 : side > 1 ? (fits ? 72 : 100) : fits ? 8 : 36;
  return static_cast<double>(points) *
         (static_cast<double>(p.batch) * tiles(p.out_h) * tiles(p.out_w) + reading + packing);
}
double cost4(const Conv2dParams& p, const Conv2dWish& wish) { return cost(p, wish, 36, 4); }
double cost2(const Conv2dParams& p, const Conv2dWish& wish) { return cost(p, wish, 16, 2); }
double cost_of_taps(const Conv2dParams& p, const Conv2dWish& wish) {
  return cost(p, wish, p.window.kernel_h * p.window.kernel_w, 1);
}

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
  if (mine >= cost_of_taps(p, wish)) {
    return wish.prepacked ? "too few 4x4 tiles for so many weights"
                          : "too few 4x4 tiles to pay for transforming the weights";
  }
  return mine < cost2(p, wish) ? nullptr : "2x2 tiles waste less of the map, or read fewer weights";
}

const char* winograd2_declines(const Conv2dParams& p, const Conv2dWish& wish) {
  if (const char* reason = winograd_declines(Packing::winograd2, p, wish)) return reason;
  if (cost2(p, wish) < cost_of_taps(p, wish)) return nullptr;
  return wish.prepacked ? "too few 2x2 tiles for so many weights"
                        : "too few 2x2 tiles to pay for transforming the weights";
}

double inputs(const Conv2dParams& p) {
  return static_cast<double>(p.batch * p.in_channels) * static_cast<double>(p.in_h * p.in_w);
}
double outputs(const Conv2dParams& p) {
  return static_cast<double>(p.batch * p.out_channels) * static_cast<double>(p.out_h * p.out_w);
}

// Whether a depthwise convolution of NCHW goes through channels_last copies, and these take longer
// than PyTorch's call does before it multiplies (on a Xeon with AVX-512; Zen 3 minds it less).
bool transposing_loses(const Conv2dParams& p) {
  constexpr int64_t kPlanes = 40;  // columns, from which on the kernel reads NCHW as it is
  constexpr double kMost = 300000;
  return p.input.c != 1 && p.out_w < kPlanes && inputs(p) + outputs(p) > kMost;
}

// Whether our products cost more than PyTorch's own (oneDNN's), in nanoseconds: packing each
// weight, turning over what is not in channels_last (oneDNN does not, for 1x1 windows), and a
// little at each product of a deep sum or of a group, unless it is so narrow that oneDNN's vectors
// are half empty; less what PyTorch's call costs before it multiplies, and passing over its output
// again for an activation and for a pool. Fitted, with ReLU, to the layers of ResNet-50, ResNeXt,
// RegNet, MobileNet, ConvNeXt and VGG at batch 1 and 8 in both memory formats (Zen 3 with AVX2, a
// Xeon with AVX-512).
bool products_lose(const Conv2dParams& p) {
  constexpr double kPacking = 0.3, kTurning = 1.2, kProduct = 0.002, kCall = 25000, kPass = 0.2;
  constexpr double kGroupProduct = 0.003;
  constexpr int64_t kNarrow = 4;
  const WeightSize size = weight_size(p);
  const double each = static_cast<double>(size.in_channels * size.kernel_h * size.kernel_w);
  const bool pointwise = size.kernel_h == 1 && size.kernel_w == 1;
  const bool turned = p.input.c != 1 && p.in_channels > 1;
  double cost = kPacking * each * static_cast<double>(p.out_channels) - kCall;
  if (p.activation != Activation::none) cost -= kPass * outputs(p);
  if (p.pool != Pool::none) cost -= kPass * outputs(p);
  if (p.groups > 1) {
    return size.in_channels > kNarrow && cost + kGroupProduct * each * outputs(p) > 0;
  }
  if (pointwise && turned) cost += kTurning * (inputs(p) + outputs(p));
  if (each > 256) cost += (pointwise ? kProduct : kProduct / 4) * each * outputs(p);
  return cost > 0;
}

// Beyond these limits the GEMM's blocks pay for copying windows (Zen 3 with AVX2, Zen 4 with
// AVX-512). AVX-512's tiles of 14 pixels read a weight so seldom that it need not be near, if the
// map has many pixels: a tile has those of one image. Pixels 4096 bytes apart share a set of L1.
const char* direct_declines(const Conv2dParams& p, const Conv2dWish& wish) {
  constexpr int64_t kMostWeights = 98304, kManyPixels = 128;
  constexpr int64_t kPage = 4096 / int64_t{sizeof(float)};
  if (const char* reason = unsupported(wish.dtype)) return reason;
  if (const char* reason = packing_declines(Packing::gemm, weight_size(p), p.groups)) return reason;
  const int64_t depth = p.window.kernel_h * p.window.kernel_w * (p.in_channels / p.groups);
  const bool tall = wish.dtype == DType::float32 && active_isa() == Isa::avx512 &&
                    p.out_h * p.out_w >= kManyPixels && p.input.c == 1 &&
                    p.window.stride_w * p.input.w % kPage != 0;
  if (p.groups == 1 && !tall) {
    if (depth > 256) return "more than 256 products an output";
    if (depth * p.out_channels > kMostWeights) return "more than 98304 weights";
  }
  if (depth > 512) return "more than 512 products an output";
  return builtin_wins(p, wish);
}

const char* gemm_declines(const Conv2dParams& p, const Conv2dWish& wish) {
  if (const char* reason = unsupported(wish.dtype)) return reason;
  if (const char* reason = packing_declines(Packing::gemm, weight_size(p), p.groups)) return reason;
  return builtin_wins(p, wish);
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

const char* builtin_wins(const Conv2dParams& p, const Conv2dWish& wish) {
  const char* const kDoubles = "PyTorch's own is quicker in float64";
  const char* const kTransposing =
      "PyTorch's own is quicker than copying so large a map to channels_last and back; give it "
      "in channels_last";
  const char* const kPacking =
      "PyTorch's own is quicker than packing the weight at each call; conv2d_prepack it once";
  if (wish.prepacked || wish.dtype == DType::other) return nullptr;
  const bool depthwise = direct_packing(weight_size(p), p.groups) == Packing::depthwise;
  if (wish.dtype == DType::float64) return depthwise ? nullptr : kDoubles;  // scalar kernels
  if (depthwise) return transposing_loses(p) ? kTransposing : nullptr;
  return products_lose(p) ? kPacking : nullptr;
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

double expected_work(Conv2dImpl impl, const Conv2dParams& p, const Conv2dWish& wish) {
  Packing packing = Packing::gemm;
  if (impl == Conv2dImpl::depthwise) packing = Packing::depthwise;
  if (impl == Conv2dImpl::winograd4) packing = Packing::winograd4;
  if (impl == Conv2dImpl::winograd2) packing = Packing::winograd2;
  const bool winograd = is_winograd(packing);
  if (impl == Conv2dImpl::aten || unsupported(wish.dtype) != nullptr ||
      packing_declines(packing, weight_size(p), p.groups) != nullptr ||
      packing_declines(packing, p.window) != nullptr ||
      (winograd && (wish.exact || wish.dtype != DType::float32))) {
    return 0;
  }
  const double weights = static_cast<double>(p.out_channels) * static_cast<double>(p.in_channels) /
                         static_cast<double>(p.groups);
  if (winograd) {
    return weights * (packing == Packing::winograd4 ? cost4(p, wish) : cost2(p, wish));
  }
  return weights * cost_of_taps(p, wish);
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
