// Which way a call is to be differentiated, for the files of this folder.
#pragma once

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/impl/LocalDispatchKeySet.h>

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

inline bool in_function_transform() {
  return c10::impl::tls_is_dispatch_key_included(c10::DispatchKey::FuncTorchDynamicLayerBackMode);
}

template <typename... Tensors>
bool needs_backward(const Tensors&... tensors) {
  return at::GradMode::is_enabled() && (wants_grad(tensors) || ...);
}

// Forward-mode differentiation and torch.func's transforms, neither of which sees into an
// autograd::Function written in C++, go through the aten reference: its every step supports them.
template <typename... Tensors>
bool needs_composition(const Tensors&... tensors) {
  return (has_tangent(tensors) || ...) || in_function_transform();
}

}  // namespace zoo::ops::autograd
