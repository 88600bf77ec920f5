#include "ops/cuda/device.h"

#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAMacros.h>

#include <array>
#include <mutex>

#include "kernels/cuda/launch.h"
#include "ops/fallback.h"

namespace zoo::ops::cuda {
namespace {

zoo::cuda::Device ask(int index) {
  const auto attribute = [&](cudaDeviceAttr which) {
    int value = 0;
    C10_CUDA_CHECK(cudaDeviceGetAttribute(&value, which, index));
    return value;
  };
  zoo::cuda::Device device;
  device.processors = attribute(cudaDevAttrMultiProcessorCount);
  device.capability = 10 * attribute(cudaDevAttrComputeCapabilityMajor) +
                      attribute(cudaDevAttrComputeCapabilityMinor);
  const cudaError_t error = zoo::cuda::find_kernels();
  device.compiled = error == cudaSuccess;
  if (error == cudaErrorNoKernelImageForDevice || error == cudaErrorInvalidDeviceFunction ||
      error == cudaErrorUnsupportedPtxVersion) {
    (void)cudaGetLastError();  // forgotten, or the next launch would report it
  } else {
    C10_CUDA_CHECK(error);
  }
  return device;
}

// Asked once for each device, which is the current one.
const zoo::cuda::Device& device_of(const at::Tensor& tensor) {
  static std::array<std::once_flag, C10_COMPILE_TIME_MAX_GPUS> asked;
  static std::array<zoo::cuda::Device, C10_COMPILE_TIME_MAX_GPUS> devices;
  const auto index = static_cast<std::size_t>(tensor.device().index());
  std::call_once(asked.at(index), [&] { devices[index] = ask(tensor.device().index()); });
  return devices[index];
}

zoo::cuda::Element element_of(const at::Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case at::kFloat:
      return zoo::cuda::Element::float32;
    case at::kHalf:
      return zoo::cuda::Element::float16;
    case at::kBFloat16:
      return zoo::cuda::Element::bfloat16;
    default:
      return zoo::cuda::Element::other;
  }
}

}  // namespace

zoo::cuda::Wish wish_for(const at::Tensor& input) {
  zoo::cuda::Wish wish;
  wish.element = element_of(input);
  wish.own = !may_prefer_aten();
  wish.device = device_of(input);
  return wish;
}

Strides useful_strides(const at::Tensor& tensor) {
  const auto stride = [&](int64_t i) { return tensor.size(i) == 1 ? 0 : tensor.stride(i); };
  return {stride(0), tensor.stride(1), stride(2), stride(3)};
}

void launch_failed(cudaError_t error, const char* op, const char* kernel, const at::Tensor& input,
                   const std::string& how) {
  TORCH_CHECK(false, "zoo::", op, ": the kernel ", kernel,
              " could not be launched: ", cudaGetErrorString(error), "; input ", input.sizes(),
              " with strides ", input.strides(), ", ", input.scalar_type(), " on ", input.device(),
              ", ", how);
}

}  // namespace zoo::ops::cuda
