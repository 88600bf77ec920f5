#include <ATen/ops/max_pool2d.h>
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

// Keeps the pooled map and where each maximum was, in two bits, instead of the map before the pool.
struct Conv2dMaxPool2Function : torch::autograd::Function<Conv2dMaxPool2Function> {
  static Tensor forward(AutogradContext* ctx, const Tensor& input, const Tensor& weight,
                        const OptionalTensor& bias, SymIntArrayRef stride, SymIntArrayRef padding,
                        SymIntArrayRef dilation, const SymInt& groups, std::string_view activation,
                        std::string_view precision) {
    static const auto op = handle<Conv2dMaxPool2>("zoo::conv2d_max_pool2");
    at::AutoDispatchBelowADInplaceOrView below;
    auto [output, where] =
        op.call(input, weight, bias, stride, padding, dilation, groups, activation, precision);
    const WindowOptions options(stride, padding, dilation, groups, activation, precision);
    options.save(ctx);
    ctx->saved_data["has_bias"] = bias.has_value();
    // Without an activation the output may be changed in place, as behind a pool of PyTorch's.
    const bool kept = options.kind() != Activation::none;
    ctx->save_for_backward(
        {input, weight, bias.value_or(Tensor()), kept ? output : Tensor(), where});
    return output;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    static const auto op = handle<Conv2dMaxPool2Backward>("zoo::conv2d_max_pool2_backward");
    const auto saved = ctx->get_saved_variables();
    const Tensor &input = saved[0], &weight = saved[1], &bias = saved[2];
    const bool has_bias = ctx->saved_data["has_bias"].toBool();
    const std::array<bool, 3> wanted{ctx->needs_input_grad(0), ctx->needs_input_grad(1),
                                     has_bias && ctx->needs_input_grad(2)};
    const auto options = WindowOptions::of(ctx);
    if (at::GradMode::is_enabled()) {  // to be differentiated again
      const auto found = composed_gradients<3>(
          grads[0], {input, weight, bias}, wanted, [&](const std::array<Tensor, 3>& of) {
            const Tensor map = options.with_args([&](const Conv2dArgs& args) {
              return reference::conv2d(of[0], of[1], optional(of[2]), args, std::nullopt);
            });
            return at::max_pool2d(map, {2, 2}, {2, 2});
          });
      return {found[0], found[1], found[2], {}, {}, {}, {}, {}, {}};
    }
    auto [to_input, to_weight, to_bias] = op.call(
        grads[0], optional(saved[3]), saved[4], input, weight, options.stride, options.padding,
        options.dilation, options.groups, options.activation, options.precision, wanted);
    return {to_input, to_weight, to_bias, {}, {}, {}, {}, {}, {}};
  }
};

bool is(SymIntArrayRef pair, int64_t value) {
  return !pair.empty() && pair.front() == value && pair.back() == value;
}

// A 2x2 max-pool is differentiated with the convolution. The backward of others needs the map that
// the fused kernel never writes: with gradients they are a convolution followed by a pool.
Tensor conv2d_pool(const Tensor& input, const Tensor& weight, const OptionalTensor& bias,
                   SymIntArrayRef stride, SymIntArrayRef padding, SymIntArrayRef dilation,
                   SymInt groups, std::string_view activation, std::string_view pool,
                   SymIntArrayRef pool_kernel, SymIntArrayRef pool_stride,
                   SymIntArrayRef pool_padding, std::string_view precision) {
  static const auto fused = handle<Conv2dPool>("zoo::conv2d_pool");
  static const auto conv = handle<Conv2d>("zoo::conv2d");
  static const auto max_pool = handle<MaxPool2d>("zoo::max_pool2d");
  static const auto avg_pool = handle<AvgPool2d>("zoo::avg_pool2d");
  if (!needs_backward(input, weight, bias) && !needs_composition(input, weight, bias)) {
    at::AutoDispatchBelowADInplaceOrView below;
    return fused.call(input, weight, bias, stride, padding, dilation, groups, activation, pool,
                      pool_kernel, pool_stride, pool_padding, precision);
  }
  if (parse_pool(pool) == Pool::max && is(pool_kernel, 2) &&
      (pool_stride.empty() || is(pool_stride, 2)) && is(pool_padding, 0) &&
      !needs_composition(input, weight, bias) &&
      has_gradient_from_output(parse_activation(activation)) &&
      WindowOptions(stride, padding, dilation, groups, activation, precision)
          .trains(input, weight)) {
    return Conv2dMaxPool2Function::apply(input, weight, bias, stride, padding, dilation, groups,
                                         activation, precision);
  }
  const Tensor map = conv.call(input, weight, bias, stride, padding, dilation, groups, activation,
                               /*residual=*/std::nullopt, precision);
  if (parse_pool(pool) == Pool::avg) {
    return avg_pool.call(map, pool_kernel, pool_stride, pool_padding, /*ceil_mode=*/false,
                         /*count_include_pad=*/true, /*divisor_override=*/std::nullopt);
  }
  const std::array<SymInt, 2> no_dilation{1, 1};
  return max_pool.call(map, pool_kernel, pool_stride, pool_padding, no_dilation,
                       /*ceil_mode=*/false);
}

}  // namespace

TORCH_LIBRARY_IMPL(zoo, Autograd, m) { m.impl("conv2d_pool", conv2d_pool); }

}  // namespace zoo::ops::autograd
