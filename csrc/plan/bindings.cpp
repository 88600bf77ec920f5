#include "plan/bindings.h"

#include <pybind11/stl.h>
#include <torch/csrc/Dtype.h>
#include <torch/csrc/jit/python/pybind_utils.h>
#include <torch/csrc/utils/pybind.h>

#include <array>
#include <tuple>

#include "ops/arguments.h"
#include "plan/steps.h"

namespace py = pybind11;

namespace zoo::plan {
namespace {

using Pair = std::array<int64_t, 2>;
// (buffer, offset in elements, sizes, strides)
using ViewTuple = std::tuple<int64_t, int64_t, std::vector<int64_t>, std::vector<int64_t>>;

View view(const ViewTuple& tuple) {
  const auto& [buffer, offset, sizes, strides] = tuple;
  return {buffer, offset, sizes, strides};
}
std::optional<View> view(const std::optional<ViewTuple>& tuple) {
  return tuple ? std::optional<View>(view(*tuple)) : std::nullopt;
}
std::vector<View> views(const std::vector<ViewTuple>& tuples) {
  std::vector<View> all;
  for (const ViewTuple& tuple : tuples) all.push_back(view(tuple));
  return all;
}

Window window(Pair kernel, Pair stride, Pair padding, Pair dilation) {
  return {kernel[0],  kernel[1],  stride[0],   stride[1],
          padding[0], padding[1], dilation[0], dilation[1]};
}

int64_t add_buffer(Plan& plan, Storage storage, int64_t where, const py::object& dtype) {
  Buffer buffer;
  buffer.storage = storage;
  buffer.where = where;
  buffer.dtype = reinterpret_cast<THPDtype*>(dtype.ptr())->scalar_type;
  return plan.add_buffer(std::move(buffer));
}

int64_t constant(Plan& plan, const at::Tensor& tensor, bool fresh) {
  Buffer buffer;
  buffer.storage = Storage::constant;
  buffer.dtype = tensor.scalar_type();
  buffer.constant = fresh ? tensor : plan.weights().copy(tensor);
  return plan.add_buffer(std::move(buffer));
}

void conv2d(Plan& plan, const ViewTuple& input, const ViewTuple& output, const at::Tensor& weight,
            const std::optional<at::Tensor>& weight_scale, const std::optional<at::Tensor>& bias,
            Pair stride, Pair padding, Pair dilation, int64_t groups, Pair conv_size,
            const std::string& activation, const std::optional<ViewTuple>& residual,
            const std::optional<ViewTuple>& scale, const std::string& pool, Pair pool_kernel,
            Pair pool_stride, Pair pool_padding, const std::string& precision) {
  Conv2dStepArgs args;
  args.input = view(input);
  args.output = view(output);
  args.residual = view(residual);
  args.scale = view(scale);
  args.weight = weight;
  args.weight_scale = weight_scale;
  if (bias) args.bias = plan.weights().copy(*bias);
  args.window = window({weight.size(2), weight.size(3)}, stride, padding, dilation);
  args.groups = groups;
  args.conv_h = conv_size[0];
  args.conv_w = conv_size[1];
  args.activation = ops::parse_activation(activation);
  if (pool != "none") {
    args.pool = ops::parse_pool(pool);
    args.pool_window = window(pool_kernel, pool_stride, pool_padding, {1, 1});
  }
  args.exact = ops::parse_exact(precision);
  plan.add_step(conv2d_step(args, plan.weights(), plan.threads()));
}

void max_pool2d(Plan& plan, const ViewTuple& input, const ViewTuple& output, Pair kernel,
                Pair stride, Pair padding, Pair dilation) {
  Pool2dParams params;
  params.window = window(kernel, stride, padding, dilation);
  plan.add_step(pool2d_step(Pool::max, params, view(input), view(output)));
}

void avg_pool2d(Plan& plan, const ViewTuple& input, const ViewTuple& output, Pair kernel,
                Pair stride, Pair padding, bool count_include_pad, int64_t divisor_override) {
  Pool2dParams params;
  params.window = window(kernel, stride, padding, {1, 1});
  params.count_include_pad = count_include_pad;
  params.divisor_override = divisor_override;
  plan.add_step(pool2d_step(Pool::avg, params, view(input), view(output)));
}

void adaptive_avg_pool2d(Plan& plan, const ViewTuple& input, const ViewTuple& output) {
  const View from = view(input), to = view(output);
  Pool2dParams params;
  const int64_t h = from.sizes[2], w = from.sizes[3], out_h = to.sizes[2], out_w = to.sizes[3];
  params.adaptive = h % out_h != 0 || w % out_w != 0;
  const Pair even{h / out_h, w / out_w};
  if (!params.adaptive) params.window = window(even, even, {0, 0}, {1, 1});
  plan.add_step(pool2d_step(Pool::avg, params, from, to));
}

void scale_shift(Plan& plan, const ViewTuple& input, const ViewTuple& output,
                 const std::optional<ViewTuple>& scale, const std::optional<ViewTuple>& shift,
                 const std::string& activation) {
  plan.add_step(scale_shift_step(ops::parse_activation(activation), view(input), view(scale),
                                 view(shift), view(output)));
}

void layer_norm(Plan& plan, const ViewTuple& input, const ViewTuple& output,
                const std::optional<ViewTuple>& weight, const std::optional<ViewTuple>& bias,
                double eps) {
  plan.add_step(layer_norm_step(view(input), view(weight), view(bias), eps, view(output)));
}

void group_norm(Plan& plan, const ViewTuple& input, const ViewTuple& output,
                const std::optional<ViewTuple>& weight, const std::optional<ViewTuple>& bias,
                int64_t groups, double eps, const std::string& activation) {
  plan.add_step(group_norm_step(groups, ops::parse_activation(activation), view(input),
                                view(weight), view(bias), eps, view(output), plan.threads()));
}

void call(Plan& plan, const std::string& name, const std::string& overload, const py::tuple& args,
          const py::dict& kwargs, const std::vector<ViewTuple>& inputs,
          const std::vector<ViewTuple>& results) {
  c10::OperatorHandle op =
      c10::Dispatcher::singleton().findSchemaOrThrow(name.c_str(), overload.c_str());
  std::vector<c10::IValue> stack =
      torch::jit::createStackForSchema(op.schema(), torch::jit::tuple_slice(args),
                                       py::reinterpret_borrow<py::kwargs>(kwargs), std::nullopt);
  plan.add_step(call_step(std::move(op), std::move(stack), views(inputs), views(results)));
}

std::vector<at::Tensor> run(Plan& plan, const std::vector<at::Tensor>& inputs) {
  const py::gil_scoped_release release;
  return plan.run(inputs);
}

at::Tensor run_parts(Plan& plan, const std::vector<at::Tensor>& inputs, int64_t parts) {
  const py::gil_scoped_release release;
  return plan.run_parts(inputs, parts);
}

// What run() does, and the nanoseconds that each step took.
std::pair<std::vector<at::Tensor>, std::vector<int64_t>> run_timed(
    Plan& plan, const std::vector<at::Tensor>& inputs) {
  const py::gil_scoped_release release;
  std::vector<int64_t> times;
  std::vector<at::Tensor> outputs = plan.run(inputs, &times);
  return {std::move(outputs), std::move(times)};
}

}  // namespace

void bind(py::module_& module) {
  py::class_<PackedWeights, std::shared_ptr<PackedWeights>>(module, "PackedWeights")
      .def(py::init<>())
      .def_property_readonly("bytes", &PackedWeights::bytes);
  py::class_<Plan, std::shared_ptr<Plan>>(module, "Plan")
      .def(py::init<int32_t, std::shared_ptr<PackedWeights>>(), py::arg("threads"),
           py::arg("weights"))
      .def("constant", constant)
      .def("input",
           [](Plan& plan, int64_t index, const py::object& dtype) {
             return add_buffer(plan, Storage::input, index, dtype);
           })
      .def("arena",
           [](Plan& plan, int64_t offset, const py::object& dtype) {
             return add_buffer(plan, Storage::arena, offset, dtype);
           })
      .def("output",
           [](Plan& plan, int64_t elements, const py::object& dtype) {
             return add_buffer(plan, Storage::output, elements, dtype);
           })
      .def("foreign",
           [](Plan& plan, const py::object& dtype) {
             return add_buffer(plan, Storage::foreign, 0, dtype);
           })
      .def("conv2d", conv2d, py::arg("input"), py::arg("output"), py::arg("weight"),
           py::arg("weight_scale"), py::arg("bias"), py::arg("stride"), py::arg("padding"),
           py::arg("dilation"), py::arg("groups"), py::arg("conv_size"), py::arg("activation"),
           py::arg("residual") = std::nullopt, py::arg("scale") = std::nullopt,
           py::arg("pool") = "none", py::arg("pool_kernel") = Pair{1, 1},
           py::arg("pool_stride") = Pair{1, 1}, py::arg("pool_padding") = Pair{0, 0},
           py::arg("precision") = "default")
      .def("max_pool2d", max_pool2d)
      .def("avg_pool2d", avg_pool2d)
      .def("adaptive_avg_pool2d", adaptive_avg_pool2d)
      .def("scale_shift", scale_shift)
      .def("layer_norm", layer_norm)
      .def("group_norm", group_norm)
      .def("call", call)
      .def("finish",
           [](Plan& plan, int64_t arena_bytes, const std::vector<ViewTuple>& outputs) {
             plan.finish(arena_bytes, views(outputs));
           })
      .def("run", run)
      .def("run_parts", run_parts)
      .def("run_timed", run_timed)
      .def_property_readonly("threads", &Plan::threads)
      .def_property_readonly("kernels", &Plan::kernels)
      .def_property_readonly("arena_bytes", &Plan::arena_bytes);
}

}  // namespace zoo::plan
