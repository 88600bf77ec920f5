// What Python is told of the CUDA kernels.
#pragma once

#include <pybind11/pybind11.h>

namespace zoo::cuda {

// Adds "cuda", the release they were compiled by or None, and "cuda_archs".
void describe_build(pybind11::dict& info);

void bind(pybind11::module_& m);

}  // namespace zoo::cuda
