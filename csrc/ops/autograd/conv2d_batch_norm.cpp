#include <torch/library.h>

#include "ops/autograd/window_options.h"
#include "ops/fallback.h"
#include "ops/handles.h"
#include "ops/reference.h"

namespace zoo::ops::autograd {
namespace {

using at::Tensor;
using c10::SymInt;
using c10::SymIntArrayRef;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using Outputs = std::tuple<Tensor, Tensor, Tensor, Tensor>;

struct Conv2dBatchNormFunction : torch::autograd::Function<Conv2dBatchNormFunction> {
  static variable_list forward(AutogradContext* ctx, const Tensor& input, const Tensor& weight,
                               const OptionalTensor& bias, const OptionalTensor& bn_weight,
                               const OptionalTensor& bn_bias, const OptionalTensor& residual,
                               SymIntArrayRef stride, SymIntArrayRef padding,
                               SymIntArrayRef dilation, const SymInt& groups, double eps,
                               std::string_view activation, std::string_view precision) {
    static const auto op = handle<Conv2dBatchNorm>("zoo::conv2d_batch_norm");
    at::AutoDispatchBelowADInplaceOrView below;
    auto [output, map, mean, variance] =
        op.call(input, weight, bias, stride, padding, dilation, groups, bn_weight, bn_bias, eps,
                activation, residual, precision);
    const WindowOptions options(stride, padding, dilation, groups, activation, precision);
    options.save(ctx);
    ctx->saved_data["eps"] = eps;
    int64_t present = 0;  // which of the optional tensors there are: autograd counts no others
    for (const OptionalTensor* each : {&bias, &bn_weight, &bn_bias, &residual}) {
      present = 2 * present + each->has_value();
    }
    ctx->saved_data["present"] = present;
    // The derivative of the others is computed from the map.
    const bool kept =
        options.kind() != Activation::none && has_gradient_from_output(options.kind());
    ctx->save_for_backward({input, weight, bias.value_or(Tensor()), bn_weight.value_or(Tensor()),
                            bn_bias.value_or(Tensor()), residual.value_or(Tensor()),
                            kept ? output : Tensor(), map, mean, variance});
    ctx->mark_non_differentiable({map, mean, variance});
    ctx->set_materialize_grads(false);  // zeros as large as the map, for what has no gradient
    return {output, map, mean, variance};
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    static const auto op = handle<Conv2dBatchNormBackward>("zoo::conv2d_batch_norm_backward");
    if (!grads[0].defined()) return variable_list(13);
    const auto saved = ctx->get_saved_variables();
    const Tensor &input = saved[0], &weight = saved[1], &bias = saved[2], &bn_weight = saved[3],
                 &bn_bias = saved[4], &residual = saved[5];
    const auto options = WindowOptions::of(ctx);
    const double eps = ctx->saved_data["eps"].toDouble();
    const int64_t present = ctx->saved_data["present"].toInt();
    std::array<bool, 6> wanted{ctx->needs_input_grad(0), ctx->needs_input_grad(1)};
    for (std::size_t i = 2, next = 2; i < 6; ++i) {
      if ((present >> (5 - i) & 1) != 0) wanted[i] = ctx->needs_input_grad(next++);
    }
    std::array<Tensor, 6> found;
    if (at::GradMode::is_enabled()) {  // to be differentiated again
      found = composed_gradients<6>(grads[0], {input, weight, bias, bn_weight, bn_bias, residual},
                                    wanted, [&](const std::array<Tensor, 6>& of) {
                                      return options.with_args([&](const Conv2dArgs& args) {
                                        return std::get<0>(reference::conv2d_batch_norm(
                                            of[0], of[1], optional(of[2]), args, optional(of[3]),
                                            optional(of[4]), eps, options.kind(), optional(of[5])));
                                      });
                                    });
    } else {
      // Subtracting the mean leaves nothing of the convolution's own bias.
      if (wanted[2]) found[2] = at::zeros_like(bias);
      std::tie(found[0], found[1], found[3], found[4], found[5]) =
          op.call(grads[0], optional(saved[6]), saved[7], saved[8], saved[9], input, weight,
                  options.stride, options.padding, options.dilation, options.groups,
                  optional(bn_weight), optional(bn_bias), eps, options.activation,
                  options.precision, {wanted[0], wanted[1], wanted[3], wanted[4], wanted[5]});
    }
    return {found[0], found[1], found[2], found[3], found[4], found[5], {}, {}, {}, {}, {}, {}, {}};
  }
};

Outputs conv2d_batch_norm(const Tensor& input, const Tensor& weight, const OptionalTensor& bias,
                          SymIntArrayRef stride, SymIntArrayRef padding, SymIntArrayRef dilation,
                          SymInt groups, const OptionalTensor& bn_weight,
                          const OptionalTensor& bn_bias, double eps, std::string_view activation,
                          const OptionalTensor& residual, std::string_view precision) {
  static const auto op = handle<Conv2dBatchNorm>("zoo::conv2d_batch_norm");
  const bool composed = needs_composition(input, weight, bias, bn_weight, bn_bias, residual);
  if (!composed && !needs_backward(input, weight, bias, bn_weight, bn_bias, residual)) {
    at::AutoDispatchBelowADInplaceOrView below;
    return op.call(input, weight, bias, stride, padding, dilation, groups, bn_weight, bn_bias, eps,
                   activation, residual, precision);
  }
  const WindowOptions options(stride, padding, dilation, groups, activation, precision);
  // With a residual, what goes into the activation cannot be computed from the map.
  const bool derivable = has_gradient_from_output(options.kind()) || !residual;
  if (!composed) {
    const char* reason = options.declines(input, weight);
    if (reason != nullptr) declined("conv2d_batch_norm", reason);
    if (reason == nullptr && derivable) {
      const auto all =
          Conv2dBatchNormFunction::apply(input, weight, bias, bn_weight, bn_bias, residual, stride,
                                         padding, dilation, groups, eps, activation, precision);
      return {all[0], all[1], all[2], all[3]};
    }
  }
  return options.with_args([&](const Conv2dArgs& args) {
    return reference::conv2d_batch_norm(input, weight, bias, args, bn_weight, bn_bias, eps,
                                        options.kind(), residual);
  });
}

}  // namespace

TORCH_LIBRARY_IMPL(zoo, Autograd, m) { m.impl("conv2d_batch_norm", conv2d_batch_norm); }

}  // namespace zoo::ops::autograd
