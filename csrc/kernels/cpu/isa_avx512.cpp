#include "tables.h"

#if defined(__x86_64__)
namespace zoo {

extern const KernelTable kAvx512Table = {"avx512", {}, {}};

}  // namespace zoo
#endif
