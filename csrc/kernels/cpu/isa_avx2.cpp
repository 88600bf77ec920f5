#include "tables.h"

#if defined(__x86_64__)
namespace zoo {

extern const KernelTable kAvx2Table = {"avx2", {}, {}};

}  // namespace zoo
#endif
