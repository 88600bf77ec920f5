#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/rsqrt.h>
#include <torch/library.h>

#include <array>
#include <tuple>

#include "kernels/sample.h"
#include "ops/cpu/convolution.h"
#include "ops/cpu/training.h"
#include "ops/fallback.h"
#include "ops/handles.h"
#include "ops/reference.h"

namespace zoo::ops::cpu {
namespace {

using at::IntArrayRef;
using at::Tensor;

// One number per channel, of a BatchNorm: of its own tensors and of this batch's statistics. What
// the kernels multiply by and add is computed in double.
struct Affine {
  Tensor scale, shift, inverse;  // weight / deviation, bias - mean * scale, 1 / deviation

  Affine(const Tensor& mean, const Tensor& variance, const OptionalTensor& weight,
         const OptionalTensor& bias, double eps) {
    inverse = at::rsqrt(variance + eps);
    scale = weight ? weight->to(at::kDouble) * inverse : inverse;
    shift = bias ? bias->to(at::kDouble) - mean * scale : -(mean * scale);
  }
};

int64_t pixels(const Conv2dParams& p, int64_t images) { return images * p.out_h * p.out_w; }

template <typename T>
std::tuple<Tensor, Tensor, Tensor, Tensor> forward(Conv2dParams p, bool exact,
                                                   Activation activation, const Tensor& input,
                                                   const Tensor& weight, const OptionalTensor& bias,
                                                   const OptionalTensor& bn_weight,
                                                   const OptionalTensor& bn_bias, double eps,
                                                   const OptionalTensor& residual) {
  const auto& kernels = active_kernels<T>().training;
  const Parallel threads = training_threads(p);
  const int64_t at_once = images_at_once(p, input), batch = p.batch, channels = p.out_channels;
  Tensor map = empty_rows(batch, channels, p.out_h, p.out_w, input);
  p.batch = std::min(at_once, batch);
  p.output = row_strides(channels, p.out_h, p.out_w);
  const Convolution<T> convolution(p, exact, weight);
  Tensor plain_bias;
  if (bias) plain_bias = bias->contiguous();
  ChannelSums sums(2, channels, threads);
  Tensor near = at::empty({channels}, input.options());
  for_images(batch, at_once, [&](int64_t first, int64_t count) {
    T* const to = map.mutable_data_ptr<T>() + first * p.output.n;
    convolution.run(count, input.const_data_ptr<T>() + first * p.input.n,
                    bias ? plain_bias.const_data_ptr<T>() : nullptr, to);
    if (first == 0) mean_of_some(to, pixels(p, count), channels, near.mutable_data_ptr<T>());
    kernels.moments({pixels(p, count), channels, Activation::none}, to, near.const_data_ptr<T>(),
                    sums.first(), sums.data(), threads);
  });
  const Tensor means = sums.finish() / static_cast<double>(pixels(p, batch));
  const Tensor mean = means[0] + near.to(at::kDouble);
  const Tensor variance = (means[1] - means[0].square()).clamp_min(0);
  const Affine affine(mean, variance, bn_weight, bn_bias, eps);
  const Tensor scale = affine.scale.to(input.scalar_type()),
               shift = affine.shift.to(input.scalar_type());
  Tensor output = empty_rows(batch, channels, p.out_h, p.out_w, input);
  const Tensor more = residual ? rows(*residual) : Tensor();
  kernels.normalize({pixels(p, batch), channels, activation}, map.const_data_ptr<T>(),
                    scale.const_data_ptr<T>(), shift.const_data_ptr<T>(),
                    residual ? more.const_data_ptr<T>() : nullptr, output.mutable_data_ptr<T>(),
                    threads);
  return {output, map, mean.to(input.scalar_type()), variance.to(input.scalar_type())};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> conv2d_batch_norm(
    const Tensor& input, const Tensor& weight, const OptionalTensor& bias, IntArrayRef stride,
    IntArrayRef padding, IntArrayRef dilation, int64_t groups, const OptionalTensor& bn_weight,
    const OptionalTensor& bn_bias, double eps, std::string_view activation,
    const OptionalTensor& residual, std::string_view precision) {
  const char* op = "conv2d_batch_norm";
  const Conv2dArgs args{stride, padding, dilation, groups, /*activation=*/"none", precision};
  const Conv2dParams p = conv2d_params(op, input, weight.sizes(), bias, args, residual);
  check_weight(op, input, weight);
  if (dtype_of(input) != DType::other) {  // in half precision they may be float32, as PyTorch knows
    check_channels(op, "bn_weight", bn_weight, p.out_channels, input);
    check_channels(op, "bn_bias", bn_bias, p.out_channels, input);
  }
  TORCH_CHECK(pixels(p, p.batch) > 1, "zoo::", op,
              ": statistics need more than one value per channel, but the map is ", p.batch, "x",
              p.out_channels, "x", p.out_h, "x", p.out_w);
  const bool exact = parse_exact(precision);
  const Activation kind = parse_activation(activation);
  if (const char* reason = training_declines(input, weight, args)) {
    declined(op, reason);
    return reference::conv2d_batch_norm(input, weight, bias, args, bn_weight, bn_bias, eps, kind,
                                        residual);
  }
  check_capability();
  return dtype_of(input) == DType::float32 ? forward<float>(p, exact, kind, input, weight, bias,
                                                            bn_weight, bn_bias, eps, residual)
                                           : forward<double>(p, exact, kind, input, weight, bias,
                                                             bn_weight, bn_bias, eps, residual);
}

// What the backward is given beside the convolution's own tensors.
struct Saved {
  const Tensor &map, &mean, &variance;
  const OptionalTensor &output, &bn_weight, &bn_bias;
  double eps;
};

// The gradients of the input, weight, bn_weight, bn_bias and residual, as far as wanted.
template <typename T>
std::array<Tensor, 5> backward(const Conv2dParams& p, bool exact, Activation activation,
                               const Tensor& grad, const Saved& saved, const Tensor& input,
                               const Tensor& weight, std::array<bool, 5> wanted) {
  const auto& kernels = active_kernels<T>().training;
  const Parallel threads = training_threads(p);
  const int64_t channels = p.out_channels;
  const auto dtype = input.scalar_type();
  const Affine affine(saved.mean.to(at::kDouble), saved.variance.to(at::kDouble), saved.bn_weight,
                      saved.bn_bias, saved.eps);
  const Tensor mean = saved.mean.contiguous(), scale = affine.scale.to(dtype),
               shift = affine.shift.to(dtype);
  const Tensor map = rows(saved.map), output_rows = saved.output ? rows(*saved.output) : Tensor();
  Tensor grad_rows = rows(grad), to_residual;
  const T* output = saved.output ? output_rows.const_data_ptr<T>() : nullptr;
  if (wanted[4]) to_residual = empty_rows(p.batch, channels, p.out_h, p.out_w, input);
  ChannelSums sums(2, channels, threads);
  kernels.normalize_sums({pixels(p, p.batch), channels, activation}, grad_rows.const_data_ptr<T>(),
                         output, map.const_data_ptr<T>(), mean.const_data_ptr<T>(),
                         scale.const_data_ptr<T>(), shift.const_data_ptr<T>(),
                         wanted[4] ? to_residual.mutable_data_ptr<T>() : nullptr, sums.first(),
                         sums.data(), threads);
  const Tensor totals = sums.finish();
  if (wanted[4]) {  // which is the gradient behind the activation
    grad_rows = to_residual;
    activation = Activation::none;
    output = nullptr;
  }

  // Ioffe and Szegedy, "Batch Normalization", 2015, section 3: with n values per channel the
  // gradient of x is scale * (g - mean of g - (x - mean) / variance * mean of g (x - mean)).
  const Tensor means = totals / static_cast<double>(pixels(p, p.batch));
  const Tensor a = affine.scale.to(dtype), c = (-affine.scale * means[0]).to(dtype),
               b = (-affine.scale * affine.inverse.square() * means[1]).to(dtype);
  const int64_t at_once = images_at_once(p, input, wanted[0]), image = channels * p.out_h * p.out_w;
  std::array<Tensor, 2> grads;
  if (wanted[0] || wanted[1]) {
    const Tensor part = empty_rows(std::min(at_once, p.batch), channels, p.out_h, p.out_w, input);
    const auto make = [&](int64_t first, int64_t count) -> const T* {
      kernels.normalize_backward(
          {pixels(p, count), channels, activation}, grad_rows.const_data_ptr<T>() + first * image,
          output == nullptr ? nullptr : output + first * image,
          map.const_data_ptr<T>() + first * image, mean.const_data_ptr<T>(),
          scale.const_data_ptr<T>(), shift.const_data_ptr<T>(), a.const_data_ptr<T>(),
          b.const_data_ptr<T>(), c.const_data_ptr<T>(), part.mutable_data_ptr<T>(), threads);
      return part.const_data_ptr<T>();
    };
    grads =
        convolution_gradients<T>(p, exact, input, weight, {wanted[0], wanted[1]}, at_once, make);
  }
  Tensor to_weight, to_bias;
  if (wanted[2]) to_weight = (totals[1] * affine.inverse).to(dtype);
  if (wanted[3]) to_bias = totals[0].to(dtype);
  return {grads[0], grads[1], to_weight, to_bias, to_residual};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> conv2d_batch_norm_backward(
    const Tensor& grad, const OptionalTensor& output, const Tensor& map, const Tensor& mean,
    const Tensor& variance, const Tensor& input, const Tensor& weight, IntArrayRef stride,
    IntArrayRef padding, IntArrayRef dilation, int64_t groups, const OptionalTensor& bn_weight,
    const OptionalTensor& bn_bias, double eps, std::string_view activation,
    std::string_view precision, std::array<bool, 5> output_mask) {
  const char* op = "conv2d_batch_norm_backward";
  const Conv2dArgs args{stride, padding, dilation, groups, /*activation=*/"none", precision};
  const Conv2dParams p = conv2d_params(op, input, weight.sizes(), std::nullopt, args);
  check_weight(op, input, weight);
  check_training(op, input, weight, args);
  const std::array<int64_t, 4> size{p.batch, p.out_channels, p.out_h, p.out_w};
  check_map(op, "grad", grad, size, input);
  check_map(op, "map", map, size, input);
  if (output) check_map(op, "output", *output, size, input);
  check_channels(op, "mean", mean, p.out_channels, input);
  check_channels(op, "variance", variance, p.out_channels, input);
  check_channels(op, "bn_weight", bn_weight, p.out_channels, input);
  check_channels(op, "bn_bias", bn_bias, p.out_channels, input);
  const Saved saved{map, mean, variance, output, bn_weight, bn_bias, eps};
  const bool exact = parse_exact(precision);
  const Activation kind = parse_activation(activation);
  auto [to_input, to_weight, to_bn_weight, to_bn_bias, to_residual] =
      dtype_of(input) == DType::float32
          ? backward<float>(p, exact, kind, grad, saved, input, weight, output_mask)
          : backward<double>(p, exact, kind, grad, saved, input, weight, output_mask);
  return {to_input, to_weight, to_bn_weight, to_bn_bias, to_residual};
}

}  // namespace

// For every device: what the CPU's kernels do not take, the aten reference computes.
TORCH_LIBRARY_IMPL(zoo, CompositeExplicitAutograd, m) {
  m.impl("conv2d_batch_norm", conv2d_batch_norm);
}
TORCH_LIBRARY_IMPL(zoo, CPU, m) {
  m.impl("conv2d_batch_norm_backward", conv2d_batch_norm_backward);
}

}  // namespace zoo::ops::cpu
