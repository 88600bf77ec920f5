#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <array>
#include <tuple>

#include "ops/cpu/training.h"
#include "ops/handles.h"

namespace zoo::ops::cpu {
namespace {

using at::IntArrayRef;
using at::Tensor;

MaxPool2Params pool_params(const Conv2dParams& p, int64_t images) {
  return {images, p.out_channels, p.out_h, p.out_w, p.activation};
}

// Bytes of the places of maxima of one pooled pixel's channels (kernels/table.h).
int64_t where_bytes(const Conv2dParams& p) { return (p.out_channels + 7) / 8 * 2; }

template <typename T>
void forward(Conv2dParams p, bool exact, const Tensor& input, const Tensor& weight,
             const OptionalTensor& bias, Tensor& output, Tensor& where) {
  const Parallel threads = training_threads(p);
  const int64_t at_once = images_at_once(p, input), batch = p.batch;
  p.batch = std::min(at_once, batch);
  p.output = row_strides(p.out_channels, p.out_h, p.out_w);
  const Convolution<T> convolution(p, exact, weight);
  const Tensor map = empty_rows(p.batch, p.out_channels, p.out_h, p.out_w, input);
  Tensor plain_bias;
  if (bias) plain_bias = bias->contiguous();
  const int64_t pooled = output.stride(0), places = where.stride(0);
  for_images(batch, at_once, [&](int64_t first, int64_t count) {
    convolution.run(count, input.const_data_ptr<T>() + first * p.input.n,
                    bias ? plain_bias.const_data_ptr<T>() : nullptr, map.mutable_data_ptr<T>());
    active_kernels<T>().training.max_pool2(pool_params(p, count), map.const_data_ptr<T>(),
                                           output.mutable_data_ptr<T>() + first * pooled,
                                           where.mutable_data_ptr<uint8_t>() + first * places,
                                           threads);
  });
}

std::tuple<Tensor, Tensor> conv2d_max_pool2(const Tensor& input, const Tensor& weight,
                                            const OptionalTensor& bias, IntArrayRef stride,
                                            IntArrayRef padding, IntArrayRef dilation,
                                            int64_t groups, std::string_view activation,
                                            std::string_view precision) {
  const char* op = "conv2d_pool";  // which is the one that people call
  const Conv2dArgs args{stride, padding, dilation, groups, activation, precision};
  const Conv2dParams p = conv2d_params(op, input, weight.sizes(), bias, args);
  check_weight(op, input, weight);
  check_training(op, input, weight, args);
  const int64_t two = 2, none = 0;
  Conv2dParams pooled = p;
  add_pool(pooled, op, {"max", two, {}, none});
  Tensor output = empty_rows(p.batch, p.out_channels, p.out_h / 2, p.out_w / 2, input);
  Tensor where = at::empty({p.batch, p.out_h / 2, p.out_w / 2, where_bytes(p)},
                           input.options().dtype(at::kByte));
  const bool exact = parse_exact(precision);
  if (dtype_of(input) == DType::float32) {
    forward<float>(p, exact, input, weight, bias, output, where);
  } else {
    forward<double>(p, exact, input, weight, bias, output, where);
  }
  return {output, where};
}

// The gradients of the input, weight and bias, as far as wanted.
template <typename T>
std::array<Tensor, 3> backward(const Conv2dParams& p, bool exact, const Tensor& grad,
                               const OptionalTensor& output, const Tensor& where,
                               const Tensor& input, const Tensor& weight,
                               std::array<bool, 3> wanted) {
  const Parallel threads = training_threads(p);
  const int64_t at_once = images_at_once(p, input, wanted[0]);
  const bool activated = p.activation != Activation::none;
  const Tensor grad_rows = rows(grad), output_rows = activated ? rows(*output) : grad_rows,
               places = where.contiguous();
  const Tensor map =
      empty_rows(std::min(at_once, p.batch), p.out_channels, p.out_h, p.out_w, input);
  ChannelSums sums(1, p.out_channels, threads);
  const int64_t windows = (p.out_h / 2) * (p.out_w / 2);
  const auto make = [&](int64_t first, int64_t count) -> const T* {
    const int64_t pooled = first * windows * p.out_channels;
    active_kernels<T>().training.max_pool2_backward(
        pool_params(p, count), grad_rows.const_data_ptr<T>() + pooled,
        output_rows.const_data_ptr<T>() + pooled,
        places.const_data_ptr<uint8_t>() + first * windows * where_bytes(p),
        map.mutable_data_ptr<T>(), sums.first(), sums.data(), threads);
    return map.const_data_ptr<T>();
  };
  const auto [to_input, to_weight] =
      convolution_gradients<T>(p, exact, input, weight, {wanted[0], wanted[1]}, at_once, make);
  return {to_input, to_weight, wanted[2] ? sums.finish()[0].to(input.scalar_type()) : Tensor()};
}

std::tuple<Tensor, Tensor, Tensor> conv2d_max_pool2_backward(
    const Tensor& grad, const OptionalTensor& output, const Tensor& where, const Tensor& input,
    const Tensor& weight, IntArrayRef stride, IntArrayRef padding, IntArrayRef dilation,
    int64_t groups, std::string_view activation, std::string_view precision,
    std::array<bool, 3> output_mask) {
  const char* op = "conv2d_max_pool2_backward";
  const Conv2dArgs args{stride, padding, dilation, groups, activation, precision};
  const Conv2dParams p = conv2d_params(op, input, weight.sizes(), std::nullopt, args);
  check_weight(op, input, weight);
  check_training(op, input, weight, args);
  const std::array<int64_t, 4> size{p.batch, p.out_channels, p.out_h / 2, p.out_w / 2};
  check_map(op, "grad", grad, size, input);
  if (p.activation != Activation::none) {
    TORCH_CHECK(output, "zoo::", op, ": the activation's derivative needs output");
    check_map(op, "output", *output, size, input);
  }
  const std::array<int64_t, 4> places{p.batch, p.out_h / 2, p.out_w / 2, where_bytes(p)};
  TORCH_CHECK(where.scalar_type() == at::kByte && where.sizes() == IntArrayRef(places), "zoo::", op,
              ": where must be that of conv2d_max_pool2: ", IntArrayRef(places), " bytes, not ",
              where.sizes(), " of ", where.scalar_type());
  const bool exact = parse_exact(precision);
  auto [to_input, to_weight, to_bias] =
      dtype_of(input) == DType::float32
          ? backward<float>(p, exact, grad, output, where, input, weight, output_mask)
          : backward<double>(p, exact, grad, output, where, input, weight, output_mask);
  return {to_input, to_weight, to_bias};
}

}  // namespace

TORCH_LIBRARY_IMPL(zoo, CPU, m) {
  m.impl("conv2d_max_pool2", conv2d_max_pool2);
  m.impl("conv2d_max_pool2_backward", conv2d_max_pool2_backward);
}

}  // namespace zoo::ops::cpu
