// The Python module zoo._C. Importing it registers the ops (schema.cpp); what it offers itself is
// introspection, and plans (plan/bindings.cpp).
#include <ATen/ops/empty.h>
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <torch/version.h>

#include <algorithm>
#include <array>
#include <limits>
#include <numeric>
#include <optional>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "calls.h"
#include "cuda_bindings.h"
#include "kernels/conv2d_list.h"
#include "kernels/dispatch.h"
#include "ops/arguments.h"
#include "ops/parallel.h"
#include "plan/bindings.h"

namespace py = pybind11;

namespace zoo {
namespace {

constexpr std::array kIsas{Isa::scalar, Isa::avx2, Isa::avx512};

std::string cpu_capability() {
  if (const char* error = isa_error()) throw py::value_error(error);
  return isa_name(active_isa());
}

void set_cpu_capability(const std::string& name) {
  if (const char* error = set_isa(name.c_str())) throw py::value_error(error);
}

// The levels that were built and that this machine has.
std::vector<std::string> cpu_capabilities() {
  std::vector<std::string> names;
  for (const Isa isa : kIsas) {
    if (table_of(isa) != nullptr) names.emplace_back(isa_name(isa));
  }
  return names;
}

py::dict build_info() {
  py::dict info;
#if defined(__clang__)
  info["compiler"] = __VERSION__;
#else
  info["compiler"] = "gcc " __VERSION__;
#endif
  info["flags"] = ZOO_BUILD_FLAGS;
  info["cxx_standard"] = __cplusplus / 100 % 100;
  info["isas"] = ZOO_BUILD_ISAS;
  info["torch"] = TORCH_VERSION;
  cuda::describe_build(info);
  return info;
}

template <typename T>
void append(py::list& rows, const char* isa, const char* dtype, const Kernels<T>& kernels) {
  const auto add = [&](const char* op, const std::string& name) {
    py::dict row;
    row["op"] = op;
    row["kernel"] = name;
    row["isa"] = isa;
    row["dtype"] = dtype;
    rows.append(row);
  };
  if (kernels.depthwise.run) add("conv2d", kernels.depthwise.name);
  if (kernels.winograd4.run) add("conv2d", kernels.winograd4.name);
  if (kernels.winograd2.run) add("conv2d", kernels.winograd2.name);
  if (kernels.direct.run) add("conv2d", kernels.direct.name);
  if (kernels.gemm.run) add("conv2d", kernels.gemm.name);
  if (kernels.weight_grad.add) add("conv2d_backward", kernels.weight_grad.name);
  if (kernels.weight_grad.add) add("conv2d_backward", kernels.depthwise_weight_grad.name);
  if (kernels.training.moments) add("conv2d_batch_norm", std::string("batch_norm_") + isa);
  if (kernels.training.max_pool2) add("conv2d_max_pool2", std::string("max_pool2_") + isa);
  if (kernels.pool.max_pool2d) add("max_pool2d", std::string("max_pool2d_") + isa);
  if (kernels.pool.avg_pool2d) add("avg_pool2d", std::string("avg_pool2d_") + isa);
  // The same function, with windows that follow from the output's size.
  if (kernels.pool.avg_pool2d) add("adaptive_avg_pool2d", std::string("avg_pool2d_") + isa);
  // A linear layer is the convolution of maps of one pixel.
  if (kernels.direct.run) add("linear", kernels.direct.name);
  if (kernels.gemm.run) add("linear", kernels.gemm.name);
  if (kernels.pointwise.scale_shift) add("scale_shift", std::string("scale_shift_") + isa);
  // Plans alone run these (plan/steps.cpp), and they are in float32.
  if constexpr (std::is_same_v<T, float>) {
    if (kernels.norm.layer_norm) add("layer_norm", std::string("layer_norm_") + isa);
    if (kernels.training.moments) add("group_norm", std::string("group_norm_") + isa);
  }
}

// One row per kernel that was built and that this machine can run.
py::list kernels() {
  py::list rows;
  for (const Isa isa : kIsas) {
    const KernelTable* table = table_of(isa);
    if (table == nullptr) continue;
    append(rows, table->isa, "float32", table->f32);
    append(rows, table->isa, "float64", table->f64);
  }
  return rows;
}

DType dtype_named(const std::string& name) {
  return name == "float32" ? DType::float32 : name == "float64" ? DType::float64 : DType::other;
}

using Shape = std::array<int64_t, 4>;
using Pair = std::array<int64_t, 2>;
using Reasons = std::vector<std::tuple<std::string, std::optional<std::string>, double>>;

// For each implementation of conv2d, in order of preference: its name, why it declines the case
// (None: it accepts; the first that does is the one that runs), and its expected work.
Reasons explain_conv2d(const Shape& input, const Shape& weight, const Pair& stride,
                       const Pair& padding, const Pair& dilation, int64_t groups,
                       const std::string& dtype, const std::string& activation,
                       const std::string& precision, bool packed, bool channels_last) {
  // A meta tensor has a shape and no memory: the arguments get the checks of a real call.
  const auto format = channels_last ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous;
  const at::Tensor shape = at::empty(input, at::TensorOptions(at::kMeta).memory_format(format));
  const Conv2dParams params =
      ops::conv2d_params("conv2d", shape, weight, std::nullopt,
                         {stride, padding, dilation, groups, activation, precision});
  const Conv2dWish wish{dtype_named(dtype), ops::parse_exact(precision), packed};
  Reasons reasons;
  for (int32_t i = 0; i < kConv2dListSize; ++i) {
    const char* reason = kConv2dList[i].declines(params, wish);
    const double work = expected_work(kConv2dList[i].impl, params, wish);
    reasons.emplace_back(kConv2dList[i].name,
                         reason ? std::optional<std::string>(reason) : std::nullopt, work);
  }
  return reasons;
}

// The layout that conv2d_prepack chooses.
std::string conv2d_layout(const Shape& input, const Shape& weight, const Pair& stride,
                          const Pair& padding, const Pair& dilation, int64_t groups,
                          const std::string& dtype, const std::string& precision) {
  return packing_name(ops::choose_packing(
      "conv2d_prepack", input, weight,
      {stride, padding, dilation, groups, /*activation=*/"none", precision}, dtype_named(dtype)));
}

// So many of PyTorch's threads, or as many as there are.
Parallel some_threads(int32_t threads) {
  Parallel parallel = ops::parallel(std::numeric_limits<double>::infinity());
  parallel.threads = std::clamp(threads, 1, parallel.threads);
  return parallel;
}

// Floating-point operations of `steps` steps of each thread, when they are done.
int64_t peak_fma(int64_t steps, int32_t threads) {
  const Parallel parallel = some_threads(threads);
  const PeakKernels<float>& peak = active_kernels<float>().peak;
  std::vector<float> sums(parallel.threads);
  peak.fma(steps, sums.data(), parallel);
  return peak.flops * steps * parallel.threads;
}

// The sum of `passes` times the data, each thread's part of it read by that thread.
double peak_read(const py::array_t<float, py::array::c_style>& data, int64_t passes,
                 int32_t threads) {
  const Parallel parallel = some_threads(threads);
  std::vector<float> sums(parallel.threads);
  active_kernels<float>().peak.read(data.data(), data.size(), passes, sums.data(), parallel);
  return std::accumulate(sums.begin(), sums.end(), 0.0);
}

}  // namespace
}  // namespace zoo

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
  m.doc() = "zoo's compiled ops and what is known about them.";
  zoo::calls::bind(m);
  zoo::plan::bind(m);
  zoo::cuda::bind(m);
  m.def("build_info", &zoo::build_info);
  m.def("cpu_capability", &zoo::cpu_capability);
  m.def("cpu_capabilities", &zoo::cpu_capabilities);
  m.def("set_cpu_capability", &zoo::set_cpu_capability, py::arg("name"));
  m.def("kernels", &zoo::kernels);
  m.def("explain_conv2d", &zoo::explain_conv2d, py::arg("input"), py::arg("weight"),
        py::arg("stride"), py::arg("padding"), py::arg("dilation"), py::arg("groups"),
        py::arg("dtype"), py::arg("activation"), py::arg("precision"), py::arg("packed"),
        py::arg("channels_last"));
  m.def("conv2d_layout", &zoo::conv2d_layout, py::arg("input"), py::arg("weight"),
        py::arg("stride"), py::arg("padding"), py::arg("dilation"), py::arg("groups"),
        py::arg("dtype"), py::arg("precision"));
  m.def("peak_fma", &zoo::peak_fma, py::arg("steps"), py::arg("threads"));
  m.def("peak_read", &zoo::peak_read, py::arg("data").noconvert(), py::arg("passes"),
        py::arg("threads"));
}
