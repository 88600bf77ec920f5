#include "conv2d_gradient_list.h"

namespace zoo {
namespace {

// The limits are fitted to the layers of ResNet-18, -20 and -50, ResNeXt and MobileNet at batch 1,
// 8 and 32 on one thread of a Xeon with AVX-512.

// A product takes 0.4 to 1 times the time of our kernels: nothing is packed, turned or shifted.
const char* product_declines(const Conv2dParams& p, DType dtype) {
  const Window& w = p.window;
  if (dtype != DType::float32) return "for float32 only";
  if (p.groups != 1) return "several groups";
  const bool pointwise = w.kernel_h == 1 && w.kernel_w == 1 && w.pad_h == 0 && w.pad_w == 0;
  if (!pointwise || w.stride_h != 1 || w.stride_w != 1) {
    return "more than a pixel of the input for each output, or less";
  }
  return nullptr;
}

const char* input_kernels_decline(const Conv2dParams& p, DType dtype) {
  constexpr int64_t kFewChannels = 16, kFewPixels = 300, kFewPixelsOfGroups = 1600;
  const Window& w = p.window;
  const WeightSize size = weight_size(p);
  if (dtype != DType::float32) return nullptr;  // oneDNN has none for float64
  // Each phase of the input is a convolution to so few channels: 0.4 to 0.8 times as fast.
  if ((w.stride_h > 1 || w.stride_w > 1) && size.in_channels < kFewChannels) {
    return "a stride, and fewer than 16 input channels in a group";
  }
  // Turning and packing the weight takes as long as the multiplications.
  const int64_t pixels = p.batch * p.out_h * p.out_w;
  const bool depthwise = p.groups == p.in_channels && p.groups == p.out_channels;
  if (p.groups > 1 && !depthwise && pixels < kFewPixelsOfGroups) {
    return "several groups, and fewer than 1600 pixels to pay for turning the weight";
  }
  if (p.groups == 1 && size.kernel_h * size.kernel_w > 1 && pixels < kFewPixels) {
    return "fewer than 300 pixels to pay for turning the weight";
  }
  return nullptr;
}

const char* never_declines(const Conv2dParams&, DType) { return nullptr; }

GradientImpl first_of(const GradientCandidate* list, const Conv2dParams& params, DType dtype) {
  while (list->declines(params, dtype) != nullptr) ++list;
  return list->impl;
}

}  // namespace

const GradientCandidate kInputGradientList[3] = {
    {GradientImpl::product, "product", product_declines},
    {GradientImpl::kernels, "kernels", input_kernels_decline},
    {GradientImpl::aten, "aten", never_declines},
};

// Ours are as fast as oneDNN's or faster but for plain products.
const GradientCandidate kWeightGradientList[2] = {
    {GradientImpl::product, "product", product_declines},
    {GradientImpl::kernels, "kernels", never_declines},
};

GradientImpl select_input_gradient(const Conv2dParams& params, DType dtype) {
  return first_of(kInputGradientList, params, dtype);
}

GradientImpl select_weight_gradient(const Conv2dParams& params, DType dtype) {
  return first_of(kWeightGradientList, params, dtype);
}

}  // namespace zoo
