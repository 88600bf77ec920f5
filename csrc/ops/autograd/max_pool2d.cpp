#include <ATen/ops/max_pool2d_with_indices.h>
#include <ATen/ops/max_pool2d_with_indices_backward.h>
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

struct MaxPool2dFunction : torch::autograd::Function<MaxPool2dFunction> {
  static variable_list forward(AutogradContext* ctx, const Tensor& input,
                               SymIntArrayRef kernel_size, SymIntArrayRef stride,
                               SymIntArrayRef padding, SymIntArrayRef dilation, bool ceil_mode) {
    static const auto op = handle<MaxPool2dWithIndices>("zoo::max_pool2d_with_indices");
    at::AutoDispatchBelowADInplaceOrView below;
    auto [output, indices] = op.call(input, kernel_size, stride, padding, dilation, ceil_mode);
    ctx->saved_data["kernel_size"] = kernel_size;
    ctx->saved_data["stride"] = stride;
    ctx->saved_data["padding"] = padding;
    ctx->saved_data["dilation"] = dilation;
    ctx->saved_data["ceil_mode"] = ceil_mode;
    ctx->save_for_backward({input, indices});
    ctx->mark_non_differentiable({indices});
    return {output, indices};
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const auto ints = [&](const char* name) {
      return C10_AS_INTARRAYREF_SLOW_ALLOC(ctx->saved_data[name].toSymIntVector());
    };
    return {at::max_pool2d_with_indices_backward(grads[0], saved[0], ints("kernel_size"),
                                                 ints("stride"), ints("padding"), ints("dilation"),
                                                 ctx->saved_data["ceil_mode"].toBool(), saved[1]),
            {},
            {},
            {},
            {},
            {}};
  }
};

// aten's pool takes plain numbers only; so do we where it is called.
std::tuple<Tensor, Tensor> aten_max_pool2d(const Tensor& input, SymIntArrayRef kernel_size,
                                           SymIntArrayRef stride, SymIntArrayRef padding,
                                           SymIntArrayRef dilation, bool ceil_mode) {
  return at::max_pool2d_with_indices(
      input, C10_AS_INTARRAYREF_SLOW_ALLOC(kernel_size), C10_AS_INTARRAYREF_SLOW_ALLOC(stride),
      C10_AS_INTARRAYREF_SLOW_ALLOC(padding), C10_AS_INTARRAYREF_SLOW_ALLOC(dilation), ceil_mode);
}

Tensor max_pool2d(const Tensor& input, SymIntArrayRef kernel_size, SymIntArrayRef stride,
                  SymIntArrayRef padding, SymIntArrayRef dilation, bool ceil_mode) {
  static const auto op = handle<MaxPool2d>("zoo::max_pool2d");
  if (needs_composition(input)) {
    return std::get<0>(aten_max_pool2d(input, kernel_size, stride, padding, dilation, ceil_mode));
  }
  if (needs_backward(input)) {
    return MaxPool2dFunction::apply(input, kernel_size, stride, padding, dilation, ceil_mode)[0];
  }
  at::AutoDispatchBelowADInplaceOrView below;
  return op.call(input, kernel_size, stride, padding, dilation, ceil_mode);
}

std::tuple<Tensor, Tensor> max_pool2d_with_indices(const Tensor& input, SymIntArrayRef kernel_size,
                                                   SymIntArrayRef stride, SymIntArrayRef padding,
                                                   SymIntArrayRef dilation, bool ceil_mode) {
  static const auto op = handle<MaxPool2dWithIndices>("zoo::max_pool2d_with_indices");
  if (needs_composition(input)) {
    return aten_max_pool2d(input, kernel_size, stride, padding, dilation, ceil_mode);
  }
  if (needs_backward(input)) {
    auto both = MaxPool2dFunction::apply(input, kernel_size, stride, padding, dilation, ceil_mode);
    return {both[0], both[1]};
  }
  at::AutoDispatchBelowADInplaceOrView below;
  return op.call(input, kernel_size, stride, padding, dilation, ceil_mode);
}

}  // namespace

TORCH_LIBRARY_IMPL(zoo, Autograd, m) {
  m.impl("max_pool2d", max_pool2d);
  m.impl("max_pool2d_with_indices", max_pool2d_with_indices);
}

}  // namespace zoo::ops::autograd
