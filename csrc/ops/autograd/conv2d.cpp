#include <ATen/ops/convolution_backward.h>
#include <ATen/ops/div.h>
#include <ATen/ops/gt.h>
#include <ATen/ops/hardtanh_backward.h>
#include <ATen/ops/leaky_relu_backward.h>
#include <ATen/ops/logical_and.h>
#include <ATen/ops/lt.h>
#include <ATen/ops/sigmoid_backward.h>
#include <ATen/ops/tanh_backward.h>
#include <ATen/ops/threshold_backward.h>
#include <ATen/ops/where.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "ops/autograd/window_options.h"
#include "ops/handles.h"
#include "ops/reference.h"

namespace zoo::ops::autograd {
namespace {

using at::Tensor;
using c10::SymInt;
using c10::SymIntArrayRef;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

Tensor call_conv2d(const Tensor& input, const Tensor& weight, const OptionalTensor& bias,
                   SymIntArrayRef stride, SymIntArrayRef padding, SymIntArrayRef dilation,
                   const SymInt& groups, std::string_view activation,
                   const OptionalTensor& residual, std::string_view precision) {
  static const auto op = handle<Conv2d>("zoo::conv2d");
  at::AutoDispatchBelowADInplaceOrView below;
  return op.call(input, weight, bias, stride, padding, dilation, groups, activation, residual,
                 precision);
}

Tensor activation_backward(const Tensor& grad, const Tensor& output, Activation activation) {
  switch (activation) {
    case Activation::relu:
      return at::threshold_backward(grad, output, 0);
    case Activation::relu6:
      return at::hardtanh_backward(grad, output, 0, 6);
    case Activation::sigmoid:
      return at::sigmoid_backward(grad, output);
    case Activation::tanh:
      return at::tanh_backward(grad, output);
    case Activation::hardsigmoid:
      // aten::hardsigmoid_backward itself has no derivative.
      return at::where(at::logical_and(at::gt(output, 0), at::lt(output, 1)), at::div(grad, 6), 0);
    case Activation::leaky_relu:
      return at::leaky_relu_backward(grad, output, 0.01, /*self_is_result=*/true);
    default:
      return grad;
  }
}

// The backward is one op of ours; where it is to be differentiated again, or no kernel takes it, it
// is made of differentiable aten ops on the inputs and the output.
struct Conv2dFunction : torch::autograd::Function<Conv2dFunction> {
  static Tensor forward(AutogradContext* ctx, const Tensor& input, const Tensor& weight,
                        const OptionalTensor& bias, SymIntArrayRef stride, SymIntArrayRef padding,
                        SymIntArrayRef dilation, const SymInt& groups, std::string_view activation,
                        const OptionalTensor& residual, std::string_view precision) {
    Tensor output = call_conv2d(input, weight, bias, stride, padding, dilation, groups, activation,
                                residual, precision);
    WindowOptions(stride, padding, dilation, groups, activation, precision).save(ctx);
    const Activation kind = parse_activation(activation);
    ctx->saved_data["has_bias"] = bias.has_value();
    ctx->saved_data["has_residual"] = residual.has_value();
    ctx->save_for_backward({input, weight, kind == Activation::none ? Tensor() : output});
    return output;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const Tensor &input = saved[0], &weight = saved[1];
    const bool has_bias = ctx->saved_data["has_bias"].toBool();
    const bool has_residual = ctx->saved_data["has_residual"].toBool();
    const bool input_grad = ctx->needs_input_grad(0), weight_grad = ctx->needs_input_grad(1);
    const bool bias_grad = has_bias && ctx->needs_input_grad(2);
    const bool residual_grad = has_residual && ctx->needs_input_grad(has_bias ? 3 : 2);
    const auto options = WindowOptions::of(ctx);
    if (!at::GradMode::is_enabled() && options.trains(input, weight)) {
      static const auto op = handle<Conv2dBackward>("zoo::conv2d_backward");
      const bool activated = options.kind() != Activation::none;
      auto [to_input, to_weight, to_bias, to_residual] = op.call(
          grads[0], activated ? OptionalTensor(saved[2]) : std::nullopt, input, weight,
          options.stride, options.padding, options.dilation, options.groups, options.activation,
          options.precision, {input_grad, weight_grad, bias_grad, residual_grad && activated});
      if (residual_grad && !activated) to_residual = grads[0];
      return {to_input, to_weight, to_bias, {}, {}, {}, {}, {}, to_residual, {}};
    }

    const Tensor grad = activation_backward(grads[0], saved[2], options.kind());
    Tensor to_input, to_weight, to_bias;
    if (input_grad || weight_grad || bias_grad) {
      const std::array<SymInt, 1> bias_size{weight.sym_size(0)};
      const std::array<SymInt, 2> no_output_padding{0, 0};
      std::tie(to_input, to_weight, to_bias) = at::convolution_backward_symint(
          grad, input, weight, SymIntArrayRef(bias_size), options.stride, options.padding,
          options.dilation, /*transposed=*/false, SymIntArrayRef(no_output_padding), options.groups,
          {input_grad, weight_grad, bias_grad});
    }
    return {to_input, to_weight, to_bias, {}, {}, {}, {}, {}, residual_grad ? grad : Tensor(), {}};
  }
};

Tensor conv2d(const Tensor& input, const Tensor& weight, const OptionalTensor& bias,
              SymIntArrayRef stride, SymIntArrayRef padding, SymIntArrayRef dilation, SymInt groups,
              std::string_view activation, const OptionalTensor& residual,
              std::string_view precision) {
  if (needs_composition(input, weight, bias, residual)) {
    return reference::conv2d(
        input, weight, bias,
        {C10_AS_INTARRAYREF_SLOW_ALLOC(stride), C10_AS_INTARRAYREF_SLOW_ALLOC(padding),
         C10_AS_INTARRAYREF_SLOW_ALLOC(dilation), groups.guard_int(__FILE__, __LINE__), activation,
         precision},
        residual);
  }
  if (!needs_backward(input, weight, bias, residual)) {
    return call_conv2d(input, weight, bias, stride, padding, dilation, groups, activation, residual,
                       precision);
  }
  const Activation kind = parse_activation(activation);
  if (has_gradient_from_output(kind)) {
    return Conv2dFunction::apply(input, weight, bias, stride, padding, dilation, groups, activation,
                                 residual, precision);
  }
  // The others need what goes into them, so they are a node of their own behind the convolution.
  return reference::activate(
      Conv2dFunction::apply(input, weight, bias, stride, padding, dilation, groups,
                            std::string_view("none"), residual, precision),
      kind);
}

}  // namespace

TORCH_LIBRARY_IMPL(zoo, Autograd, m) { m.impl("conv2d", conv2d); }

}  // namespace zoo::ops::autograd
