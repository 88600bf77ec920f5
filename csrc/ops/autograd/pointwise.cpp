#include <torch/library.h>

#include "ops/autograd/differentiation.h"
#include "ops/handles.h"
#include "ops/reference.h"

// What is differentiated runs as PyTorch's own ops, which know their derivatives: these two are
// fused for inference.
namespace zoo::ops::autograd {
namespace {

using at::Tensor;

Tensor scale_shift(const Tensor& input, const OptionalTensor& scale, const OptionalTensor& shift,
                   std::string_view activation) {
  static const auto op = handle<ScaleShift>("zoo::scale_shift");
  if (needs_composition(input, scale, shift) || needs_backward(input, scale, shift)) {
    return reference::scale_shift(input, scale, shift, parse_activation(activation));
  }
  at::AutoDispatchBelowADInplaceOrView below;
  return op.call(input, scale, shift, activation);
}

Tensor linear(const Tensor& input, const Tensor& weight, const OptionalTensor& bias,
              std::string_view activation, const OptionalTensor& residual) {
  static const auto op = handle<Linear>("zoo::linear");
  if (needs_composition(input, weight, bias, residual) ||
      needs_backward(input, weight, bias, residual)) {
    return reference::linear(input, weight, bias, parse_activation(activation), residual);
  }
  at::AutoDispatchBelowADInplaceOrView below;
  return op.call(input, weight, bias, activation, residual);
}

}  // namespace

TORCH_LIBRARY_IMPL(zoo, Autograd, m) {
  m.impl("scale_shift", scale_shift);
  m.impl("linear", linear);
}

}  // namespace zoo::ops::autograd
