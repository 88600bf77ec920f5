// What the CUDA ops share: tensors as the kernels take them, the device, and errors of launches.
#pragma once

#include <ATen/core/Tensor.h>
#include <cuda_runtime_api.h>

#include <string>

#include "kernels/cuda/choices.h"
#include "kernels/cuda/element.h"

namespace zoo::ops::cuda {

// The wish of a call on this tensor, on whose device a guard must be set; ZOO_FALLBACK=error wishes
// for kernels of zoo's own.
zoo::cuda::Wish wish_for(const at::Tensor& input);

// A dimension of one element gets a stride of 0: PyTorch leaves anything there, and the kernels
// ask of all strides whether they are multiples of 16 bytes.
Strides useful_strides(const at::Tensor& tensor);

// Raises the error of a launch with the case that caused it; `how` are its options.
[[noreturn]] void launch_failed(cudaError_t error, const char* op, const char* kernel,
                                const at::Tensor& input, const std::string& how);

// body(a number of the kernels' type)
template <typename Body>
void with_element(zoo::cuda::Element element, Body body) {
  switch (element) {
    case zoo::cuda::Element::float32:
      return body(float{});
    case zoo::cuda::Element::float16:
      return body(zoo::cuda::Half{});
    case zoo::cuda::Element::bfloat16:
      return body(zoo::cuda::BFloat16{});
    case zoo::cuda::Element::other:
      break;
  }
  TORCH_INTERNAL_ASSERT(false, "a kernel was chosen for a dtype that has none");
}

// Null where there is no tensor.
template <typename T>
const T* data_of(const at::Tensor& tensor) {
  return tensor.defined() ? static_cast<const T*>(tensor.const_data_ptr()) : nullptr;
}

}  // namespace zoo::ops::cuda
