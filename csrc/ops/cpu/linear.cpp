#include <torch/library.h>

#include "ops/arguments.h"
#include "ops/handles.h"

namespace zoo::ops::cpu {
namespace {

using at::Tensor;

// A linear layer is the convolution of maps of one pixel.
Tensor linear(const Tensor& input, const Tensor& weight, const OptionalTensor& bias,
              std::string_view activation, const OptionalTensor& residual) {
  static const auto op = handle<Conv2d>("zoo::conv2d");
  check_dense("linear", "input", input);
  TORCH_CHECK(weight.dim() == 2 && input.dim() >= 1 && input.size(-1) == weight.size(1),
              "zoo::linear: a weight of shape ", weight.sizes(), " does not fit input's ",
              input.sizes(), "; it must be (O, C) for an input of (..., C)");
  at::DimVector sizes(input.sizes());
  sizes.back() = weight.size(0);
  TORCH_CHECK(!residual || residual->sizes() == at::IntArrayRef(sizes),
              "zoo::linear: residual must have the output's shape ", at::IntArrayRef(sizes),
              ", not ", residual->sizes());
  if (residual) check_dense("linear", "residual", *residual);
  const auto pixels = [](const Tensor& tensor) {
    const int64_t channels = tensor.size(-1);
    return tensor.reshape(
        {c10::multiply_integers(tensor.sizes().slice(0, tensor.dim() - 1)), channels, 1, 1});
  };
  const OptionalTensor added = residual ? OptionalTensor(pixels(*residual)) : std::nullopt;
  const c10::SymInt one = 1, zero = 0;
  const Tensor output = op.call(pixels(input), weight.unsqueeze(2).unsqueeze(3), bias,
                                c10::SymIntArrayRef(&one, 1), c10::SymIntArrayRef(&zero, 1),
                                c10::SymIntArrayRef(&one, 1), one, activation, added, "default");
  return output.view(sizes);
}

}  // namespace

TORCH_LIBRARY_IMPL(zoo, CompositeExplicitAutograd, m) { m.impl("linear", linear); }

}  // namespace zoo::ops::cpu
