#include <torch/library.h>

#include "kernels/conv2d_list.h"
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
              std::string_view activation, const OptionalTensor& residual,
              std::string_view precision) {
  const Conv2dArgs args{stride, padding, dilation, groups, activation, precision};
  const Conv2dParams params = conv2d_params("conv2d", input, weight.sizes(), bias, args, residual);
  check_weight("conv2d", input, weight);
  const bool exact = parse_exact(precision);
  if (auto output = convolve("conv2d", params, exact, input, {weight}, bias, residual)) {
    return *output;
  }
  return reference::with_format(
      reference::conv2d(input, reference::regular(weight), bias, args, residual),
      output_format(input, weight));
}

Tensor conv2d_prepack(const Tensor& weight, int64_t groups, IntArrayRef stride, IntArrayRef padding,
                      IntArrayRef dilation, at::OptionalIntArrayRef input_size,
                      std::string_view precision) {
  const IntArrayRef size = weight.sizes();
  check_dense("conv2d_prepack", "weight", weight);
  check_weight_size("conv2d_prepack", size, groups);
  const Conv2dArgs args{stride, padding, dilation, groups, /*activation=*/"none", precision};
  conv2d_window("conv2d_prepack", size, args);
  parse_exact(precision);
  if (!weight.device().is_cpu() || dtype_of(weight) == DType::other) {
    declined("conv2d_prepack",
             "kernels read packed weights in float32 and float64 on the CPU only");
    return reference::pack(weight, groups);
  }
  Packing packing = direct_packing({size[0], size[1], size[2], size[3]}, groups);
  if (input_size) {
    packing = choose_packing("conv2d_prepack", *input_size, size, args, dtype_of(weight));
  }
  return pack(weight, packing, groups);
}

Tensor conv2d_packed(const Tensor& input, const Tensor& packed_weight, IntArrayRef weight_size,
                     const OptionalTensor& bias, IntArrayRef stride, IntArrayRef padding,
                     IntArrayRef dilation, int64_t groups, std::string_view activation,
                     const OptionalTensor& residual, std::string_view precision) {
  const char* op = "conv2d_packed";
  const Conv2dArgs args{stride, padding, dilation, groups, activation, precision};
  const Packing packing = packing_of(op, packed_weight, weight_size, groups);
  const Conv2dParams params = conv2d_params(op, input, weight_size, bias, args, residual);
  check_weight(op, input, packed_weight);
  const bool exact = parse_exact(precision);
  check_packing(op, packing, params, exact);
  if (auto output = convolve(op, params, exact, input, {packed_weight, packing}, bias, residual)) {
    return *output;
  }
  const Tensor weight = reference::unpack(packed_weight, packing, weight_size, groups);
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
