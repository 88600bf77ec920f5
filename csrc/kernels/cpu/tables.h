// The one symbol that each cpu/isa_*.cpp exports.
#pragma once

#include "../table.h"

namespace zoo {

extern const KernelTable kScalarTable;
#if defined(__x86_64__)
extern const KernelTable kAvx2Table;
extern const KernelTable kAvx512Table;
#endif

}  // namespace zoo
