// Typed handles of the ops, for calls through the dispatcher: the signatures are schema.cpp's.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>

#include <array>
#include <optional>
#include <string_view>
#include <tuple>

namespace zoo::ops {

using OptionalTensor = std::optional<at::Tensor>;

using Conv2d = at::Tensor(const at::Tensor& input, const at::Tensor& weight,
                          const OptionalTensor& bias, c10::SymIntArrayRef stride,
                          c10::SymIntArrayRef padding, c10::SymIntArrayRef dilation,
                          c10::SymInt groups, std::string_view activation,
                          const OptionalTensor& residual, std::string_view precision);

using Conv2dPool = at::Tensor(const at::Tensor& input, const at::Tensor& weight,
                              const OptionalTensor& bias, c10::SymIntArrayRef stride,
                              c10::SymIntArrayRef padding, c10::SymIntArrayRef dilation,
                              c10::SymInt groups, std::string_view activation,
                              std::string_view pool, c10::SymIntArrayRef pool_kernel,
                              c10::SymIntArrayRef pool_stride, c10::SymIntArrayRef pool_padding,
                              std::string_view precision);

using Conv2dBatchNorm = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor>(
    const at::Tensor& input, const at::Tensor& weight, const OptionalTensor& bias,
    c10::SymIntArrayRef stride, c10::SymIntArrayRef padding, c10::SymIntArrayRef dilation,
    c10::SymInt groups, const OptionalTensor& bn_weight, const OptionalTensor& bn_bias, double eps,
    std::string_view activation, const OptionalTensor& residual, std::string_view precision);

using Conv2dMaxPool2 = std::tuple<at::Tensor, at::Tensor>(
    const at::Tensor& input, const at::Tensor& weight, const OptionalTensor& bias,
    c10::SymIntArrayRef stride, c10::SymIntArrayRef padding, c10::SymIntArrayRef dilation,
    c10::SymInt groups, std::string_view activation, std::string_view precision);

using Conv2dBackward = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor>(
    const at::Tensor& grad, const OptionalTensor& output, const at::Tensor& input,
    const at::Tensor& weight, c10::SymIntArrayRef stride, c10::SymIntArrayRef padding,
    c10::SymIntArrayRef dilation, c10::SymInt groups, std::string_view activation,
    std::string_view precision, std::array<bool, 4> output_mask);

using Conv2dMaxPool2Backward = std::tuple<at::Tensor, at::Tensor, at::Tensor>(
    const at::Tensor& grad, const OptionalTensor& output, const at::Tensor& where,
    const at::Tensor& input, const at::Tensor& weight, c10::SymIntArrayRef stride,
    c10::SymIntArrayRef padding, c10::SymIntArrayRef dilation, c10::SymInt groups,
    std::string_view activation, std::string_view precision, std::array<bool, 3> output_mask);

using Conv2dBatchNormBackward =
    std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor>(
        const at::Tensor& grad, const OptionalTensor& output, const at::Tensor& map,
        const at::Tensor& mean, const at::Tensor& variance, const at::Tensor& input,
        const at::Tensor& weight, c10::SymIntArrayRef stride, c10::SymIntArrayRef padding,
        c10::SymIntArrayRef dilation, c10::SymInt groups, const OptionalTensor& bn_weight,
        const OptionalTensor& bn_bias, double eps, std::string_view activation,
        std::string_view precision, std::array<bool, 5> output_mask);

using Conv2dPrepack = at::Tensor(const at::Tensor& weight, c10::SymInt groups,
                                 c10::SymIntArrayRef stride, c10::SymIntArrayRef padding,
                                 c10::SymIntArrayRef dilation,
                                 c10::OptionalArrayRef<c10::SymInt> input_size,
                                 std::string_view precision);

using Conv2dPacked = at::Tensor(const at::Tensor& input, const at::Tensor& packed_weight,
                                c10::SymIntArrayRef weight_size, const OptionalTensor& bias,
                                c10::SymIntArrayRef stride, c10::SymIntArrayRef padding,
                                c10::SymIntArrayRef dilation, c10::SymInt groups,
                                std::string_view activation, const OptionalTensor& residual,
                                std::string_view precision);

using Conv2dPoolPacked = at::Tensor(const at::Tensor& input, const at::Tensor& packed_weight,
                                    c10::SymIntArrayRef weight_size, const OptionalTensor& bias,
                                    c10::SymIntArrayRef stride, c10::SymIntArrayRef padding,
                                    c10::SymIntArrayRef dilation, c10::SymInt groups,
                                    std::string_view activation, std::string_view pool,
                                    c10::SymIntArrayRef pool_kernel,
                                    c10::SymIntArrayRef pool_stride,
                                    c10::SymIntArrayRef pool_padding, std::string_view precision);

using MaxPool2d = at::Tensor(const at::Tensor& input, c10::SymIntArrayRef kernel_size,
                             c10::SymIntArrayRef stride, c10::SymIntArrayRef padding,
                             c10::SymIntArrayRef dilation, bool ceil_mode);

using MaxPool2dWithIndices = std::tuple<at::Tensor, at::Tensor>(
    const at::Tensor& input, c10::SymIntArrayRef kernel_size, c10::SymIntArrayRef stride,
    c10::SymIntArrayRef padding, c10::SymIntArrayRef dilation, bool ceil_mode);

using AvgPool2d = at::Tensor(const at::Tensor& input, c10::SymIntArrayRef kernel_size,
                             c10::SymIntArrayRef stride, c10::SymIntArrayRef padding,
                             bool ceil_mode, bool count_include_pad,
                             std::optional<int64_t> divisor_override);

using AdaptiveAvgPool2d = at::Tensor(const at::Tensor& input, c10::SymIntArrayRef output_size);

using ScaleShift = at::Tensor(const at::Tensor& input, const OptionalTensor& scale,
                              const OptionalTensor& shift, std::string_view activation);

using Linear = at::Tensor(const at::Tensor& input, const at::Tensor& weight,
                          const OptionalTensor& bias, std::string_view activation,
                          const OptionalTensor& residual);

using LinearPacked = at::Tensor(const at::Tensor& input, const at::Tensor& packed_weight,
                                c10::SymIntArrayRef weight_size, const OptionalTensor& bias,
                                std::string_view activation);

template <typename Signature>
c10::TypedOperatorHandle<Signature> handle(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Signature>();
}

}  // namespace zoo::ops
