#include <ATen/ops/avg_pool2d.h>
#include <ATen/ops/avg_pool2d_backward.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "ops/autograd/differentiation.h"
#include "ops/handles.h"

namespace zoo::ops::autograd {
namespace {

using at::Tensor;
using c10::SymIntArrayRef;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct AvgPool2dFunction : torch::autograd::Function<AvgPool2dFunction> {
  static Tensor forward(AutogradContext* ctx, const Tensor& input, SymIntArrayRef kernel_size,
                        SymIntArrayRef stride, SymIntArrayRef padding, bool ceil_mode,
                        bool count_include_pad, std::optional<int64_t> divisor_override) {
    static const auto op = handle<AvgPool2d>("zoo::avg_pool2d");
    ctx->saved_data["kernel_size"] = kernel_size;
    ctx->saved_data["stride"] = stride;
    ctx->saved_data["padding"] = padding;
    ctx->saved_data["ceil_mode"] = ceil_mode;
    ctx->saved_data["count_include_pad"] = count_include_pad;
    ctx->saved_data["divisor_override"] = divisor_override;
    ctx->save_for_backward({input});  // the backward asks only for its shape and layout
    at::AutoDispatchBelowADInplaceOrView below;
    return op.call(input, kernel_size, stride, padding, ceil_mode, count_include_pad,
                   divisor_override);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto ints = [&](const char* name) {
      return C10_AS_INTARRAYREF_SLOW_ALLOC(ctx->saved_data[name].toSymIntVector());
    };
    return {at::avg_pool2d_backward(grads[0], ctx->get_saved_variables()[0], ints("kernel_size"),
                                    ints("stride"), ints("padding"),
                                    ctx->saved_data["ceil_mode"].toBool(),
                                    ctx->saved_data["count_include_pad"].toBool(),
                                    ctx->saved_data["divisor_override"].toOptional<int64_t>()),
            {},
            {},
            {},
            {},
            {},
            {}};
  }
};

Tensor avg_pool2d(const Tensor& input, SymIntArrayRef kernel_size, SymIntArrayRef stride,
                  SymIntArrayRef padding, bool ceil_mode, bool count_include_pad,
                  std::optional<int64_t> divisor_override) {
  static const auto op = handle<AvgPool2d>("zoo::avg_pool2d");
  if (needs_composition(input)) {
    return at::avg_pool2d(
        input, C10_AS_INTARRAYREF_SLOW_ALLOC(kernel_size), C10_AS_INTARRAYREF_SLOW_ALLOC(stride),
        C10_AS_INTARRAYREF_SLOW_ALLOC(padding), ceil_mode, count_include_pad, divisor_override);
  }
  if (needs_backward(input)) {
    return AvgPool2dFunction::apply(input, kernel_size, stride, padding, ceil_mode,
                                    count_include_pad, divisor_override);
  }
  at::AutoDispatchBelowADInplaceOrView below;
  return op.call(input, kernel_size, stride, padding, ceil_mode, count_include_pad,
                 divisor_override);
}

}  // namespace

TORCH_LIBRARY_IMPL(zoo, Autograd, m) { m.impl("avg_pool2d", avg_pool2d); }

}  // namespace zoo::ops::autograd
