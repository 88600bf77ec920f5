// Which instruction sets were built, which the machine has, and which one is in use.
#pragma once

#include "conv2d_list.h"
#include "table.h"

namespace zoo {

enum class Isa : int32_t { scalar = 0, avx2 = 1, avx512 = 2 };

const char* isa_name(Isa isa);

// The best level that was built and that this machine (processor and operating system) has.
Isa best_isa();

// The level in use: what ZOO_CPU_CAPABILITY says at first use, otherwise best_isa().
// Fails (see isa_error) when the variable names no level, or one that the machine lacks.
Isa active_isa();

// Makes `name` the level in use. Returns null, or a message that says why it cannot be.
const char* set_isa(const char* name);

// Null, or what is wrong with ZOO_CPU_CAPABILITY; checked by the caller before the first run.
const char* isa_error();

// The kernels of the level in use for float or double; entries that a level leaves null are
// taken from the level below.
template <typename T>
const Kernels<T>& active_kernels();

// The kernel of an implementation; that of gemm for aten, which has none.
template <typename T>
const Conv2dKernel<T>& kernel_of(const Kernels<T>& kernels, Conv2dImpl impl) {
  switch (impl) {
    case Conv2dImpl::depthwise:
      return kernels.depthwise;
    case Conv2dImpl::winograd4:
      return kernels.winograd4;
    case Conv2dImpl::winograd2:
      return kernels.winograd2;
    case Conv2dImpl::direct:
      return kernels.direct;
    default:
      return kernels.gemm;
  }
}

// The table of one level; null if it was not built (other processors) or the machine lacks it.
const KernelTable* table_of(Isa isa);

}  // namespace zoo
