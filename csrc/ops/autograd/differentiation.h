// Which way a call is to be differentiated, for the files of this folder.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/grad_mode.h>

#include <optional>

namespace zoo::ops::autograd {

inline bool wants_grad(const at::Tensor& tensor) {
  return tensor.defined() && tensor.requires_grad();
}
inline bool wants_grad(const std::optional<at::Tensor>& tensor) {
  return tensor && wants_grad(*tensor);
}
inline bool has_tangent(const at::Tensor& tensor) {
  return tensor.defined() && tensor._fw_grad(/*level=*/0).defined();
}
inline bool has_tangent(const std::optional<at::Tensor>& tensor) {
  return tensor && has_tangent(*tensor);
}

template <typename... Tensors>
bool needs_backward(const Tensors&... tensors) {
  return at::GradMode::is_enabled() && (wants_grad(tensors) || ...);
}

// Forward-mode differentiation goes through the aten reference, whose every step supports it.
template <typename... Tensors>
bool needs_forward_mode(const Tensors&... tensors) {
  return (has_tangent(tensors) || ...);
}

}  // namespace zoo::ops::autograd
