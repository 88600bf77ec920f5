#include <ATen/ExpandUtils.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include "kernels/dispatch.h"
#include "ops/arguments.h"
#include "ops/cpu/convolution.h"
#include "ops/fallback.h"
#include "ops/parallel.h"
#include "ops/reference.h"

namespace zoo::ops::cpu {
namespace {

using at::Tensor;
using OptionalTensor = std::optional<Tensor>;

void check_operand(const char* name, const Tensor& input, const OptionalTensor& operand) {
  if (!operand) return;
  check_same("scale_shift", name, *operand, input);
  TORCH_CHECK(at::is_expandable_to(operand->sizes(), input.sizes()), "zoo::scale_shift: ", name,
              " of shape ", operand->sizes(), " does not broadcast to input's ", input.sizes());
}

// With dimensions of one before those that it has.
Tensor four_dimensions(Tensor tensor) {
  while (tensor.dim() < 4) tensor = tensor.unsqueeze(0);
  return tensor;
}

template <typename T>
void run(const Tensor& input, const OptionalTensor& scale, const OptionalTensor& shift,
         Activation activation, const Tensor& output) {
  const auto data = [&](const OptionalTensor& operand, Strides& strides) -> const T* {
    if (!operand) return nullptr;
    const Tensor spread = four_dimensions(operand->expand(input.sizes()));
    strides = strides_of(spread);
    return spread.const_data_ptr<T>();
  };
  const Tensor whole = four_dimensions(input);
  ScaleShiftParams params{whole.size(0), whole.size(1), whole.size(2), whole.size(3), activation};
  params.input = strides_of(whole);
  params.output = strides_of(four_dimensions(output));
  const T* by = data(scale, params.scale);
  const T* plus = data(shift, params.shift);
  active_kernels<T>().pointwise.scale_shift(params, whole.const_data_ptr<T>(), by, plus,
                                            output.mutable_data_ptr<T>(),
                                            parallel(static_cast<double>(input.numel())));
}

Tensor scale_shift(const Tensor& input, const OptionalTensor& scale, const OptionalTensor& shift,
                   std::string_view activation) {
  check_dense("scale_shift", "input", input);
  check_operand("scale", input, scale);
  check_operand("shift", input, shift);
  const Activation function = parse_activation(activation);
  const DType dtype = dtype_of(input);
  const char* reason = nullptr;
  if (!input.device().is_cpu()) {
    reason = "no kernel for this device";
  } else if (dtype == DType::other) {
    reason = "kernels take float32 and float64 only";
  } else if (input.dim() > 4) {
    reason = "more than four dimensions";
  }
  if (reason != nullptr) {
    declined("scale_shift", reason);
    const Tensor output = reference::scale_shift(input, scale, shift, function);
    return output.is_same(input) ? output.clone() : output;
  }
  check_capability();
  Tensor output = at::empty_like(input);
  if (output.numel() == 0) return output;
  if (dtype == DType::float32) {
    run<float>(input, scale, shift, function, output);
  } else {
    run<double>(input, scale, shift, function, output);
  }
  return output;
}

}  // namespace

// For every device: what the CPU's kernels do not take, aten computes.
TORCH_LIBRARY_IMPL(zoo, CompositeExplicitAutograd, m) { m.impl("scale_shift", scale_shift); }

}  // namespace zoo::ops::cpu
