#include <torch/library.h>

#include <array>

#include "kernels/conv2d_list.h"
#include "ops/arguments.h"
#include "ops/cpu/convolution.h"
#include "ops/handles.h"
#include "ops/reference.h"

namespace zoo::ops::cpu {
namespace {

using at::IntArrayRef;
using at::Tensor;
using OptionalTensor = std::optional<Tensor>;

Tensor conv2d_pool(const Tensor& input, const Tensor& weight, const OptionalTensor& bias,
                   IntArrayRef stride, IntArrayRef padding, IntArrayRef dilation, int64_t groups,
                   std::string_view activation, std::string_view pool, IntArrayRef pool_kernel,
                   IntArrayRef pool_stride, IntArrayRef pool_padding, std::string_view precision) {
  const char* op = "conv2d_pool";
  const Conv2dArgs args{stride, padding, dilation, groups, activation, precision};
  const PoolArgs pool_args{pool, pool_kernel, pool_stride, pool_padding};
  Conv2dParams params = conv2d_params(op, input, weight.sizes(), bias, args);
  add_pool(params, op, pool_args);
  check_weight(op, input, weight);
  const bool exact = parse_exact(precision);
  if (auto output = convolve(op, params, exact, input, {weight}, bias, std::nullopt)) {
    return *output;
  }
  return reference::with_format(
      reference::conv2d_pool(input, reference::regular(weight), bias, args, pool_args),
      output_format(input, weight));
}

Tensor pool_of(const Tensor& map, const PoolArgs& pool) {
  static const auto max_pool = handle<MaxPool2d>("zoo::max_pool2d");
  static const auto avg_pool = handle<AvgPool2d>("zoo::avg_pool2d");
  const auto symbolic = [](IntArrayRef values) { return c10::fromIntArrayRefSlow(values); };
  const std::array<c10::SymInt, 2> no_dilation{1, 1};
  return parse_pool(pool.pool) == Pool::max
             ? max_pool.call(map, symbolic(pool.kernel), symbolic(pool.stride),
                             symbolic(pool.padding), no_dilation, /*ceil_mode=*/false)
             : avg_pool.call(map, symbolic(pool.kernel), symbolic(pool.stride),
                             symbolic(pool.padding), /*ceil_mode=*/false,
                             /*count_include_pad=*/true, /*divisor_override=*/std::nullopt);
}

Tensor conv2d_pool_packed(const Tensor& input, const Tensor& packed_weight, IntArrayRef weight_size,
                          const OptionalTensor& bias, IntArrayRef stride, IntArrayRef padding,
                          IntArrayRef dilation, int64_t groups, std::string_view activation,
                          std::string_view pool, IntArrayRef pool_kernel, IntArrayRef pool_stride,
                          IntArrayRef pool_padding, std::string_view precision) {
  const char* op = "conv2d_pool_packed";
  const Conv2dArgs args{stride, padding, dilation, groups, activation, precision};
  const PoolArgs pool_args{pool, pool_kernel, pool_stride, pool_padding};
  const Packing packing = packing_of(op, packed_weight, weight_size, groups);
  Conv2dParams params = conv2d_params(op, input, weight_size, bias, args);
  const Conv2dParams unpooled = params;
  add_pool(params, op, pool_args);
  check_weight(op, input, packed_weight);
  const bool exact = parse_exact(precision);
  check_packing(op, packing, params, exact);
  // Winograd's kernels fuse one pool only, and its map is worth more than the fusion.
  const bool fused = !is_winograd(packing) || pool_of_two(params);
  if (auto output = convolve(op, fused ? params : unpooled, exact, input, {packed_weight, packing},
                             bias, std::nullopt)) {
    return fused ? *output : pool_of(*output, pool_args);
  }
  const Tensor weight = reference::unpack(packed_weight, packing, weight_size, groups);
  return reference::with_format(reference::conv2d_pool(input, weight, bias, args, pool_args),
                                output_format(input));
}

}  // namespace

// For every device: what the CPU's kernels do not take, the aten reference computes.
TORCH_LIBRARY_IMPL(zoo, CompositeExplicitAutograd, m) {
  m.impl("conv2d_pool", conv2d_pool);
  m.impl("conv2d_pool_packed", conv2d_pool_packed);
}

}  // namespace zoo::ops::cpu
