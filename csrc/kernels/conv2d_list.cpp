#include "conv2d_list.h"

#include "pack.h"

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

bool is_depthwise(const Conv2dParams& p) {
  return p.groups == p.in_channels &&
         packing_of(p.out_channels, p.in_channels / p.groups, p.groups) == Packing::depthwise;
}

const char* depthwise_declines(const Conv2dParams& p, DType dtype) {
  if (const char* reason = unsupported(dtype)) return reason;
  return is_depthwise(p) ? nullptr : "not depthwise (groups == in_channels == out_channels)";
}

const char* gemm_declines(const Conv2dParams& p, DType dtype) {
  if (const char* reason = unsupported(dtype)) return reason;
  return is_depthwise(p) ? "depthwise weights have a layout of their own" : nullptr;
}

const char* aten_declines(const Conv2dParams&, DType) { return nullptr; }

}  // namespace

const Conv2dCandidate kConv2dList[] = {
    {Conv2dImpl::depthwise, "depthwise", depthwise_declines},
    {Conv2dImpl::gemm, "gemm", gemm_declines},
    {Conv2dImpl::aten, "aten", aten_declines},
};
const int32_t kConv2dListSize = sizeof(kConv2dList) / sizeof(kConv2dList[0]);

Conv2dImpl select_conv2d(const Conv2dParams& params, DType dtype) {
  int32_t i = 0;
  while (kConv2dList[i].declines(params, dtype) != nullptr) ++i;
  return kConv2dList[i].impl;
}

}  // namespace zoo
