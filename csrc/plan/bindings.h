// Plans as Python sees them: zoo._C.Plan and zoo._C.PackedWeights.
#pragma once

#include <pybind11/pybind11.h>

namespace zoo::plan {

void bind(pybind11::module_& module);

}  // namespace zoo::plan
