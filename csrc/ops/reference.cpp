#include "ops/reference.h"

#include <ATen/Context.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/add.h>
#include <ATen/ops/avg_pool2d.h>
#include <ATen/ops/batch_norm.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/div.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/hardsigmoid.h>
#include <ATen/ops/hardswish.h>
#include <ATen/ops/leaky_relu.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/max_pool2d.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/relu6.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/tanh.h>
#include <ATen/ops/var_mean.h>
#include <ATen/ops/zeros.h>
#include <c10/core/MemoryFormat.h>
#include <c10/util/strides.h>

#include "kernels/pack.h"
#include "kernels/table.h"
#include "ops/parallel.h"

namespace zoo::ops::reference {

at::Tensor activate(const at::Tensor& input, Activation activation) {
  const OneThreadInChild alone;
  switch (activation) {
    case Activation::none:
      return input;
    case Activation::relu:
      return at::relu(input);
    case Activation::relu6:
      return at::relu6(input);
    case Activation::sigmoid:
      return at::sigmoid(input);
    case Activation::tanh:
      return at::tanh(input);
    case Activation::silu:
      return at::silu(input);
    case Activation::gelu:
      return at::gelu(input);
    case Activation::hardswish:
      return at::hardswish(input);
    case Activation::hardsigmoid: {
      if (!at::GradMode::is_enabled()) return at::hardsigmoid(input);
      // The same of parts that can be differentiated twice: aten::hardsigmoid_backward cannot.
      const auto wide = c10::promoteTypes(input.scalar_type(), at::kFloat);
      const at::Tensor sixths = at::relu6(at::add(input.to(wide), 3));
      return at::div(sixths, 6).to(input.scalar_type());
    }
    case Activation::leaky_relu:
      return at::leaky_relu(input, 0.01);
  }
  TORCH_INTERNAL_ASSERT(false, "activation without a reference");
}

at::Tensor scale_shift(const at::Tensor& input, const std::optional<at::Tensor>& scale,
                       const std::optional<at::Tensor>& shift, Activation activation) {
  const OneThreadInChild alone;
  at::Tensor output = input;
  if (scale) output = at::mul(output, *scale);
  if (shift) output = at::add(output, *shift);
  return activate(output, activation);
}

at::Tensor linear(const at::Tensor& input, const at::Tensor& weight,
                  const std::optional<at::Tensor>& bias, Activation activation,
                  const std::optional<at::Tensor>& residual) {
  const OneThreadInChild alone;
  at::Tensor output = at::linear(input, weight, bias);
  if (residual) output = at::add(output, *residual);
  return activate(output, activation);
}

at::Tensor conv2d(const at::Tensor& input, const at::Tensor& weight,
                  const std::optional<at::Tensor>& bias, const Conv2dArgs& args,
                  const std::optional<at::Tensor>& residual) {
  const OneThreadInChild alone;
  at::Tensor output =
      at::conv2d(input, weight, bias, args.stride, args.padding, args.dilation, args.groups);
  if (residual) output = at::add(output, *residual);
  const Activation activation = parse_activation(args.activation);
  // In place where no derivative asks for what went in: a new map costs as much as passing over it.
  if (activation == Activation::relu && !output.requires_grad()) return at::relu_(output);
  return activate(output, activation);
}

at::Tensor conv2d_pool(const at::Tensor& input, const at::Tensor& weight,
                       const std::optional<at::Tensor>& bias, const Conv2dArgs& args,
                       const PoolArgs& pool) {
  const OneThreadInChild alone;
  const at::Tensor map = conv2d(input, weight, bias, args, std::nullopt);
  return parse_pool(pool.pool) == Pool::max
             ? at::max_pool2d(map, pool.kernel, pool.stride, pool.padding)
             : at::avg_pool2d(map, pool.kernel, pool.stride, pool.padding);
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> conv2d_batch_norm(
    const at::Tensor& input, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
    const Conv2dArgs& args, const std::optional<at::Tensor>& bn_weight,
    const std::optional<at::Tensor>& bn_bias, double eps, Activation activation,
    const std::optional<at::Tensor>& residual) {
  const OneThreadInChild alone;
  const at::Tensor map =
      at::conv2d(input, weight, bias, args.stride, args.padding, args.dilation, args.groups);
  const bool cudnn = at::globalContext().userEnabledCuDNN();
  at::Tensor output =
      at::batch_norm(map, bn_weight, bn_bias, /*running_mean=*/{},
                     /*running_var=*/{}, /*training=*/true, /*momentum=*/0, eps, cudnn);
  if (residual) output = at::add(output, *residual);
  const auto wide = c10::promoteTypes(map.scalar_type(), at::kFloat);
  const auto [variance, mean] =
      at::var_mean(map.detach().to(wide), at::OptionalIntArrayRef({0, 2, 3}), /*correction=*/0);
  const auto dtype = bn_weight ? bn_weight->scalar_type() : wide;
  return {activate(output, activation), map, mean.to(dtype), variance.to(dtype)};
}

at::Tensor pack(const at::Tensor& weight, int64_t groups) {
  const OneThreadInChild alone;
  const int64_t out = weight.size(0), in = weight.size(1), area = weight.size(2) * weight.size(3);
  if (direct_packing({out, in, weight.size(2), weight.size(3)}, groups) == Packing::depthwise) {
    const at::Tensor taps = weight.reshape({out, area}).t();
    return at::constant_pad_nd(taps, {0, depthwise_width(out) - out}).contiguous().reshape({-1});
  }
  const int64_t per_group = out / groups, panels = (per_group + kPanel - 1) / kPanel;
  // (group, channel out, channel in, tap) -> (group, panel, strip, tap, channel in, lane)
  const at::Tensor rows = weight.reshape({groups, per_group, in, area});
  return at::constant_pad_nd(rows, {0, 0, 0, 0, 0, panels * kPanel - per_group})
      .reshape({groups, panels, kPanel / kStrip, kStrip, in, area})
      .permute({0, 1, 2, 5, 4, 3})
      .contiguous()
      .reshape({-1});
}

namespace {

// G g G' has g at its corners, and g's middle row and column in the difference of the points p and
// -p: L (G g G') L' = g.
at::Tensor unpack_winograd(const at::Tensor& packed, Packing packing, at::IntArrayRef size) {
  const bool four = packing == Packing::winograd4;
  const int64_t points = four ? 6 : 4;
  const double middle = four ? -0.75 * 1.41421356237309504880 : 1;
  at::Tensor left = at::zeros({3, points}, packed.options().dtype(at::kDouble).device(at::kCPU));
  left[0][0] = 1;
  left[1][1] = middle;
  left[1][2] = -middle;
  left[2][points - 1] = 1;
  left = left.to(packed.options());
  const at::Tensor transformed =
      packed.reshape({-1, points, points, kPanel / kStrip, size[1], kStrip})
          .permute({0, 3, 5, 4, 1, 2})
          .reshape({-1, size[1], points, points})
          .narrow(0, 0, size[0]);
  return at::matmul(at::matmul(left, transformed), left.t());
}

}  // namespace

at::Tensor unpack(const at::Tensor& packed, Packing packing, at::IntArrayRef size, int64_t groups) {
  const OneThreadInChild alone;
  const int64_t area = size[2] * size[3];
  if (is_winograd(packing)) return unpack_winograd(packed, packing, size);
  if (packing == Packing::depthwise) {
    return packed.reshape({area, -1}).narrow(1, 0, size[0]).t().reshape(size);
  }
  const int64_t per_group = size[0] / groups, panels = (per_group + kPanel - 1) / kPanel;
  return packed.reshape({groups, panels, kPanel / kStrip, area, size[1], kStrip})
      .permute({0, 1, 2, 5, 4, 3})
      .reshape({groups, panels * kPanel, size[1], area})
      .narrow(1, 0, per_group)
      .reshape(size);
}

at::Tensor with_format(const at::Tensor& output, at::MemoryFormat format) {
  const OneThreadInChild alone;
  // The strides of at::empty, without its allocation: here every declined call comes by.
  const at::IntArrayRef sizes = output.sizes(), strides = output.strides();
  const bool fits = format == at::MemoryFormat::ChannelsLast
                        ? strides == at::IntArrayRef(c10::get_channels_last_strides_2d(sizes))
                        : strides == at::IntArrayRef(c10::contiguous_strides(sizes));
  return fits ? output : at::empty(sizes, output.options(), format).copy_(output);
}

at::Tensor regular(const at::Tensor& tensor) {
  const OneThreadInChild alone;
  const at::IntArrayRef sizes = tensor.sizes();
  if (tensor.is_contiguous()) return tensor.as_strided(sizes, c10::contiguous_strides(sizes));
  if (tensor.is_contiguous(at::MemoryFormat::ChannelsLast)) {
    return tensor.as_strided(sizes, c10::get_channels_last_strides_2d(sizes));
  }
  return tensor.contiguous();
}

}  // namespace zoo::ops::reference
