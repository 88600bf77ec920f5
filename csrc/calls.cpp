#include "calls.h"

#include <ATen/PythonTorchFunctionTLS.h>
#include <ATen/core/Tensor.h>
#include <c10/core/SymInt.h>
#include <c10/util/SmallVector.h>
#include <torch/csrc/Exceptions.h>
#include <torch/csrc/autograd/python_variable.h>
#include <torch/csrc/jit/frontend/tracer.h>
#include <torch/csrc/utils/python_symnode.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string_view>
#include <tuple>
#include <utility>

#include "ops/handles.h"

// `torch.ops.zoo.conv2d` finds the overload by the types of its arguments and makes of each an
// IValue: 4 to 11 microseconds a call, as long as a small pool takes. The functions here know the
// types beforehand and give the dispatcher the same call. What they do not know - subclasses of
// Tensor, torch.jit.trace, symbolic sizes, wrong types - they leave to `torch.ops`, by returning
// NotImplemented (zoo/ops/_library.py).
namespace zoo::calls {
namespace {

namespace py = pybind11;

using ops::OptionalTensor;

// Whether the object is a Tensor without a __torch_function__ of its own.
bool is_plain_tensor(PyObject* object) {
  // Never freed: it would be after Python has ended.
  static PyObject* const parameter =
      py::object(py::module_::import("torch.nn").attr("Parameter")).release().ptr();
  const auto* type = reinterpret_cast<PyObject*>(Py_TYPE(object));
  return type == THPVariableClass || type == parameter;
}

// A whole number of any kind, numpy's too; a size that is traced is none.
bool load_whole(PyObject* object, int64_t& value) {
  if (!PyLong_Check(object) && (!PyIndex_Check(object) || THPVariable_Check(object) ||
                                torch::is_symint(py::handle(object)))) {
    return false;
  }
  value = PyNumber_AsSsize_t(object, PyExc_OverflowError);
  if (value != -1 || !PyErr_Occurred()) return true;
  PyErr_Clear();
  return false;
}

// How the object given for a parameter of type T becomes one. `load` says whether it does; what
// `get` returns afterwards lives as long as the object and the Argument.
template <typename T>
struct Argument;

template <>
struct Argument<const at::Tensor&> {
  bool load(PyObject* object) {
    if (!is_plain_tensor(object)) return false;
    tensor = THPVariable_Unpack(object);
    return true;
  }
  const at::Tensor& get() const { return tensor; }
  at::Tensor tensor;
};

template <>
struct Argument<const OptionalTensor&> {
  bool load(PyObject* object) {
    if (object == Py_None) return true;
    if (!is_plain_tensor(object)) return false;
    tensor = THPVariable_Unpack(object);
    return true;
  }
  const OptionalTensor& get() const { return tensor; }
  OptionalTensor tensor;
};

template <>
struct Argument<c10::SymInt> {
  bool load(PyObject* object) { return load_whole(object, value); }
  c10::SymInt get() const { return value; }
  int64_t value;
};

// A sequence, or one number for both of a pair.
template <>
struct Argument<c10::SymIntArrayRef> {
  bool load(PyObject* object) {
    int64_t value;
    if (load_whole(object, value)) {
      values.assign(2, c10::SymInt(value));
      return true;
    }
    if (!PyTuple_Check(object) && !PyList_Check(object)) return false;
    PyObject* const* items = PySequence_Fast_ITEMS(object);
    for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(object); ++i) {
      if (!load_whole(items[i], value)) return false;
      values.emplace_back(value);
    }
    return true;
  }
  c10::SymIntArrayRef get() const { return values; }
  c10::SmallVector<c10::SymInt, 4> values;
};

template <>
struct Argument<c10::OptionalArrayRef<c10::SymInt>> {
  bool load(PyObject* object) {
    none = object == Py_None;
    return none || list.load(object);
  }
  c10::OptionalArrayRef<c10::SymInt> get() const {
    if (none) return std::nullopt;
    return list.get();
  }
  bool none;
  Argument<c10::SymIntArrayRef> list;
};

template <>
struct Argument<std::optional<int64_t>> {
  bool load(PyObject* object) {
    if (object == Py_None) return true;
    return load_whole(object, value.emplace());
  }
  std::optional<int64_t> get() const { return value; }
  std::optional<int64_t> value;
};

template <>
struct Argument<bool> {
  bool load(PyObject* object) {
    value = object == Py_True;
    return PyBool_Check(object);
  }
  bool get() const { return value; }
  bool value;
};

template <>
struct Argument<double> {
  bool load(PyObject* object) {
    if (!PyFloat_Check(object)) return false;
    value = PyFloat_AS_DOUBLE(object);
    return true;
  }
  double get() const { return value; }
  double value;
};

template <>
struct Argument<std::string_view> {
  bool load(PyObject* object) {
    Py_ssize_t size;
    const char* text = PyUnicode_Check(object) ? PyUnicode_AsUTF8AndSize(object, &size) : nullptr;
    if (text == nullptr) {
      PyErr_Clear();  // half of a surrogate pair, say
      return false;
    }
    value = {text, static_cast<size_t>(size)};
    return true;
  }
  std::string_view get() const { return value; }
  std::string_view value;
};

PyObject* to_python(at::Tensor&& tensor) { return THPVariable_Wrap(std::move(tensor)); }

template <typename... Tensors>
PyObject* to_python(std::tuple<Tensors...>&& tensors) {
  py::tuple tuple(sizeof...(Tensors));
  Py_ssize_t i = 0;
  std::apply(
      [&](auto&... each) {
        (PyTuple_SET_ITEM(tuple.ptr(), i++, THPVariable_Wrap(std::move(each))), ...);
      },
      tensors);
  return tuple.release().ptr();
}

template <typename Signature>
struct Call;

template <typename Output, typename... Inputs>
struct Call<Output(Inputs...)> {
  static PyObject* run(const c10::TypedOperatorHandle<Output(Inputs...)>& op,
                       PyObject* const* objects) {
    return run(op, objects, std::index_sequence_for<Inputs...>());
  }
  static constexpr Py_ssize_t size = sizeof...(Inputs);

 private:
  // Null where an argument is none of these.
  template <size_t... I>
  static PyObject* run(const c10::TypedOperatorHandle<Output(Inputs...)>& op,
                       PyObject* const* objects, std::index_sequence<I...>) {
    std::tuple<Argument<Inputs>...> arguments;
    if (!(std::get<I>(arguments).load(objects[I]) && ...)) return nullptr;
    return to_python([&] {
      py::gil_scoped_release no_gil;
      return op.call(std::get<I>(arguments).get()...);
    }());
  }
};

// A string as a template's argument.
template <size_t N>
struct Name {
  constexpr Name(const char (&from)[N]) { std::copy_n(from, N, text); }
  char text[N];
};

template <Name name, typename Signature>
PyObject* call(PyObject* /*module*/, PyObject* const* objects, Py_ssize_t size) {
  HANDLE_TH_ERRORS
  static const auto op = ops::handle<Signature>(name.text);
  constexpr const char* own_name = name.text + std::string_view("zoo::").size();
  TORCH_CHECK_TYPE(size == Call<Signature>::size, own_name, " takes ", Call<Signature>::size,
                   " arguments, not ", size);
  if (!at::impl::torch_function_mode_enabled() && !torch::jit::tracer::isTracing()) {
    if (PyObject* output = Call<Signature>::run(op, objects)) return output;
  }
  Py_RETURN_NOTIMPLEMENTED;
  END_HANDLE_TH_ERRORS
}

template <Name name, typename Signature>
PyMethodDef method() {
  // The cast that CPython's documentation asks for.
  const auto function =
      reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(&call<name, Signature>));
  return {name.text + std::string_view("zoo::").size(), function, METH_FASTCALL, nullptr};
}

}  // namespace

void bind(py::module_& module) {
  static PyMethodDef methods[] = {
      method<"zoo::conv2d", ops::Conv2d>(),
      method<"zoo::conv2d_pool", ops::Conv2dPool>(),
      method<"zoo::conv2d_batch_norm", ops::Conv2dBatchNorm>(),
      method<"zoo::conv2d_prepack", ops::Conv2dPrepack>(),
      method<"zoo::conv2d_packed", ops::Conv2dPacked>(),
      method<"zoo::conv2d_pool_packed", ops::Conv2dPoolPacked>(),
      method<"zoo::max_pool2d", ops::MaxPool2d>(),
      method<"zoo::max_pool2d_with_indices", ops::MaxPool2dWithIndices>(),
      method<"zoo::avg_pool2d", ops::AvgPool2d>(),
      method<"zoo::adaptive_avg_pool2d", ops::AdaptiveAvgPool2d>(),
      method<"zoo::scale_shift", ops::ScaleShift>(),
      method<"zoo::linear", ops::Linear>(),
      method<"zoo::linear_packed", ops::LinearPacked>(),
      {nullptr, nullptr, 0, nullptr},
  };
  if (PyModule_AddFunctions(module.ptr(), methods) != 0) throw py::error_already_set();
}

}  // namespace zoo::calls
