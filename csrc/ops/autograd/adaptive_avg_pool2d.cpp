#include <ATen/ops/_adaptive_avg_pool2d_backward.h>
#include <ATen/ops/adaptive_avg_pool2d.h>
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

struct AdaptiveAvgPool2dFunction : torch::autograd::Function<AdaptiveAvgPool2dFunction> {
  static Tensor forward(AutogradContext* ctx, const Tensor& input, SymIntArrayRef output_size) {
    static const auto op = handle<AdaptiveAvgPool2d>("zoo::adaptive_avg_pool2d");
    ctx->save_for_backward({input});  // the backward asks only for its shape and layout
    at::AutoDispatchBelowADInplaceOrView below;
    return op.call(input, output_size);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    return {at::_adaptive_avg_pool2d_backward(grads[0], ctx->get_saved_variables()[0]), {}};
  }
};

Tensor adaptive_avg_pool2d(const Tensor& input, SymIntArrayRef output_size) {
  static const auto op = handle<AdaptiveAvgPool2d>("zoo::adaptive_avg_pool2d");
  if (needs_composition(input)) return at::adaptive_avg_pool2d_symint(input, output_size);
  if (needs_backward(input)) return AdaptiveAvgPool2dFunction::apply(input, output_size);
  at::AutoDispatchBelowADInplaceOrView below;
  return op.call(input, output_size);
}

}  // namespace

TORCH_LIBRARY_IMPL(zoo, Autograd, m) { m.impl("adaptive_avg_pool2d", adaptive_avg_pool2d); }

}  // namespace zoo::ops::autograd
