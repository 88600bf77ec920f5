#include <torch/library.h>

#include <vector>

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

Tensor linear_packed(const Tensor& input, const Tensor& packed_weight,
                     c10::SymIntArrayRef weight_size, const OptionalTensor& bias,
                     std::string_view activation) {
  static const auto op = handle<Conv2dPacked>("zoo::conv2d_packed");
  TORCH_CHECK(weight_size.size() == 2,
              "zoo::linear_packed: weight_size must be two numbers (O, C), not ", weight_size);
  const c10::SymInt &out = weight_size[0], &channels = weight_size[1];
  const c10::SymIntArrayRef shape = input.sym_sizes();
  TORCH_CHECK(!shape.empty() && shape.back() == channels, "zoo::linear_packed: a weight of shape ",
              weight_size, " takes (..., ", channels, "), but input's shape is ", shape);
  std::vector<c10::SymInt> sizes = shape.vec();
  sizes.back() = out;
  const c10::SymInt one = 1, zero = 0,
                    rows = c10::multiply_integers(shape.slice(0, shape.size() - 1));
  const c10::SymInt size[] = {out, channels, one, one};
  const Tensor output =
      op.call(input.reshape_symint({rows, channels, one, one}), packed_weight, size, bias,
              c10::SymIntArrayRef(&one, 1), c10::SymIntArrayRef(&zero, 1),
              c10::SymIntArrayRef(&one, 1), one, activation, std::nullopt, "default");
  return output.reshape_symint(sizes);
}

}  // namespace

TORCH_LIBRARY_IMPL(zoo, CompositeExplicitAutograd, m) { m.impl("linear", linear); }
// Of ops that have their own derivatives, or refuse to.
TORCH_LIBRARY_IMPL(zoo, CompositeImplicitAutograd, m) { m.impl("linear_packed", linear_packed); }

}  // namespace zoo::ops::cpu
