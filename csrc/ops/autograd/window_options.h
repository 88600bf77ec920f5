// What the nodes of the convolutions' graph keep beside tensors, and share.
#pragma once

#include <ATen/core/Tensor.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ops/arguments.h"
#include "ops/autograd/differentiation.h"

namespace zoo::ops::autograd {

// A convolution's options.
struct WindowOptions {
  std::vector<c10::SymInt> stride, padding, dilation;
  c10::SymInt groups;
  std::string activation, precision;

  WindowOptions(c10::SymIntArrayRef stride, c10::SymIntArrayRef padding,
                c10::SymIntArrayRef dilation, c10::SymInt groups, std::string_view activation,
                std::string_view precision)
      : stride(stride.vec()),
        padding(padding.vec()),
        dilation(dilation.vec()),
        groups(std::move(groups)),
        activation(activation),
        precision(precision) {}

  void save(torch::autograd::AutogradContext* ctx) const {
    ctx->saved_data["stride"] = stride;
    ctx->saved_data["padding"] = padding;
    ctx->saved_data["dilation"] = dilation;
    ctx->saved_data["groups"] = groups;
    ctx->saved_data["activation"] = activation;
    ctx->saved_data["precision"] = precision;
  }

  static WindowOptions of(torch::autograd::AutogradContext* ctx) {
    auto& data = ctx->saved_data;
    return {data["stride"].toSymIntVector(),   data["padding"].toSymIntVector(),
            data["dilation"].toSymIntVector(), data["groups"].toSymInt(),
            data["activation"].toStringRef(),  data["precision"].toStringRef()};
  }

  Activation kind() const { return parse_activation(activation); }

  // body(the options as plain numbers)
  template <typename Body>
  auto with_args(Body body) const {
    return body(Conv2dArgs{C10_AS_INTARRAYREF_SLOW_ALLOC(stride),
                           C10_AS_INTARRAYREF_SLOW_ALLOC(padding),
                           C10_AS_INTARRAYREF_SLOW_ALLOC(dilation),
                           groups.guard_int(__FILE__, __LINE__), activation, precision});
  }

  // Null, or why kernels of ours do not differentiate the convolution.
  const char* declines(const at::Tensor& input, const at::Tensor& weight) const {
    return with_args(
        [&](const Conv2dArgs& args) { return training_declines(input, weight, args); });
  }
  bool trains(const at::Tensor& input, const at::Tensor& weight) const {
    return declines(input, weight) == nullptr;
  }
};

// What was saved, if it was.
inline std::optional<at::Tensor> optional(const at::Tensor& tensor) {
  return tensor.defined() ? std::optional<at::Tensor>(tensor) : std::nullopt;
}

// The gradients that are wanted of `inputs`, given that of output(inputs), which is made of
// PyTorch's own ops; they can be differentiated again.
//
// They are taken of aliases: inputs may have been computed from one another, or be the same (a
// block's input and its residual), and what flows between them is not this node's.
template <std::size_t N, typename Output>
std::array<at::Tensor, N> composed_gradients(const at::Tensor& grad,
                                             const std::array<at::Tensor, N>& inputs,
                                             const std::array<bool, N>& wanted, Output output) {
  std::array<at::Tensor, N> aliases;
  torch::autograd::variable_list of;
  for (std::size_t i = 0; i < N; ++i) {
    if (inputs[i].defined()) aliases[i] = inputs[i].view_as(inputs[i]);
    if (wanted[i]) of.push_back(aliases[i]);
  }
  const auto found = torch::autograd::grad({output(aliases)}, of, {grad}, /*retain_graph=*/true,
                                           /*create_graph=*/true, /*allow_unused=*/true);
  std::array<at::Tensor, N> grads;
  for (std::size_t i = 0, next = 0; i < N; ++i) {
    if (wanted[i]) grads[i] = found[next++];
  }
  return grads;
}

}  // namespace zoo::ops::autograd
