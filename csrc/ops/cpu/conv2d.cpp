#include <torch/library.h>

#include "kernels/pack.h"
#include "ops/arguments.h"
#include "ops/cpu/convolution.h"
#include "ops/fallback.h"
#include "ops/reference.h"

namespace zoo::ops::cpu {
namespace {

using at::IntArrayRef;
using at::Tensor;
using OptionalTensor = std::optional<Tensor>;

Tensor conv2d(const Tensor& input, const Tensor& weight, const OptionalTensor& bias,
              IntArrayRef stride, IntArrayRef padding, IntArrayRef dilation, int64_t groups,
              std::string_view activation, const OptionalTensor& residual) {
  const Conv2dArgs args{stride, padding, dilation, groups, activation};
  const Conv2dParams params = conv2d_params("conv2d", input, weight.sizes(), bias, args, residual);
  check_weight("conv2d", input, weight);
  if (auto output = convolve("conv2d", params, input, &weight, nullptr, bias, residual)) {
    return *output;
  }
  return reference::with_format(reference::conv2d(input, weight, bias, args, residual),
                                output_format(input, weight));
}

Tensor conv2d_prepack(const Tensor& weight, int64_t groups) {
  check_weight_size("conv2d_prepack", weight.sizes(), groups);
  if (weight.device().is_cpu() && dtype_of(weight) != DType::other) return pack(weight, groups);
  declined("conv2d_prepack", "kernels take float32 and float64 on the CPU only");
  return reference::pack(weight, groups);
}

Tensor conv2d_packed(const Tensor& input, const Tensor& packed_weight, IntArrayRef weight_size,
                     const OptionalTensor& bias, IntArrayRef stride, IntArrayRef padding,
                     IntArrayRef dilation, int64_t groups, std::string_view activation,
                     const OptionalTensor& residual) {
  const Conv2dArgs args{stride, padding, dilation, groups, activation};
  check_packed_size("conv2d_packed", packed_weight, weight_size, groups);
  const Conv2dParams params =
      conv2d_params("conv2d_packed", input, weight_size, bias, args, residual);
  check_weight("conv2d_packed", input, packed_weight);
  if (auto output =
          convolve("conv2d_packed", params, input, nullptr, &packed_weight, bias, residual)) {
    return *output;
  }
  const Tensor weight = reference::unpack(packed_weight, weight_size, groups);
  return reference::with_format(reference::conv2d(input, weight, bias, args, residual),
                                output_format(input));
}

}  // namespace

// For every device: what the CPU's kernels do not take, the aten reference computes.
TORCH_LIBRARY_IMPL(zoo, CompositeExplicitAutograd, m) {
  m.impl("conv2d", conv2d);
  m.impl("conv2d_prepack", conv2d_prepack);
  m.impl("conv2d_packed", conv2d_packed);
}

}  // namespace zoo::ops::cpu
