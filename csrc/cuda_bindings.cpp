#include "cuda_bindings.h"

#include <ATen/ops/empty.h>
#include <pybind11/stl.h>

#include <array>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kernels/cuda/choices.h"
#include "ops/arguments.h"

namespace py = pybind11;

namespace zoo::cuda {
namespace {

#ifdef ZOO_CUDA
constexpr bool kBuilt = true;
#else
constexpr bool kBuilt = false;
#endif

// One row per op, kernel and dtype, if they were built.
py::list kernels() {
  constexpr std::pair<const char*, const char*> kKernels[] = {
      {"conv2d", "depthwise"},
      {"conv2d", "conv2d"},
      {"conv2d_pool", "conv2d"},
      {"max_pool2d", "pool2d_window"},
      {"max_pool2d", "pool2d_global"},
      {"avg_pool2d", "pool2d_window"},
      {"avg_pool2d", "pool2d_global"},
      {"adaptive_avg_pool2d", "pool2d_window"},
      {"adaptive_avg_pool2d", "pool2d_global"},
  };
  py::list rows;
  if (!kBuilt) return rows;
  for (const char* dtype : {"float32", "float16", "bfloat16"}) {
    for (const auto& [op, kernel] : kKernels) {
      py::dict row;
      row["op"] = op;
      row["kernel"] = kernel;
      row["isa"] = "cuda";
      row["dtype"] = dtype;
      rows.append(row);
    }
  }
  return rows;
}

Element element_named(const std::string& name) {
  return name == "float32"    ? Element::float32
         : name == "float16"  ? Element::float16
         : name == "bfloat16" ? Element::bfloat16
                              : Element::other;
}

using Shape = std::array<int64_t, 4>;
using Pair = std::array<int64_t, 2>;
using Reasons = std::vector<std::pair<std::string, std::optional<std::string>>>;

// For each implementation of conv2d, in order of preference: its name, and why it declines the case
// (None: it accepts; the first that does is the one that runs).
Reasons explain_conv2d(const Shape& input, const Shape& weight, const Pair& stride,
                       const Pair& padding, const Pair& dilation, int64_t groups,
                       const std::string& dtype, const std::string& activation, bool bias,
                       bool residual, const std::string& precision, bool channels_last,
                       int32_t processors, int32_t capability) {
  // A meta tensor has a shape and no memory: the arguments get the checks of a real call.
  const auto format = channels_last ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous;
  const at::Tensor shape = at::empty(input, at::TensorOptions(at::kMeta).memory_format(format));
  const Conv2dParams params =
      ops::conv2d_params("conv2d", shape, weight, std::nullopt,
                         {stride, padding, dilation, groups, activation, precision});
  Wish wish;
  wish.element = element_named(dtype);
  wish.bias = bias;
  wish.residual = residual;
  wish.exact = ops::parse_exact(precision);
  wish.device.processors = processors;
  wish.device.capability = capability;
  Reasons reasons;
  for (int32_t i = 0; i < kConv2dListSize; ++i) {
    const char* reason = kConv2dList[i].declines(params, wish);
    reasons.emplace_back(kConv2dList[i].name,
                         reason ? std::optional<std::string>(reason) : std::nullopt);
  }
  return reasons;
}

}  // namespace

void describe_build(py::dict& info) {
#ifdef ZOO_CUDA
  info["cuda"] = ZOO_CUDA;
  info["cuda_archs"] = ZOO_CUDA_ARCHS;
#else
  info["cuda"] = py::none();
  info["cuda_archs"] = "";
#endif
}

void bind(py::module_& m) {
  m.def("cuda_kernels", &kernels);
  m.def("explain_cuda_conv2d", &explain_conv2d, py::arg("input"), py::arg("weight"),
        py::arg("stride"), py::arg("padding"), py::arg("dilation"), py::arg("groups"),
        py::arg("dtype"), py::arg("activation"), py::arg("bias"), py::arg("residual"),
        py::arg("precision"), py::arg("channels_last"), py::arg("processors"),
        py::arg("capability"));
}

}  // namespace zoo::cuda
