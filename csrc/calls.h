// The ops as Python calls them: zoo._C.conv2d and so on, with all arguments in the
// schema's order.
#pragma once

#include <pybind11/pybind11.h>

namespace zoo::calls {

void bind(pybind11::module_& module);

}  // namespace zoo::calls
