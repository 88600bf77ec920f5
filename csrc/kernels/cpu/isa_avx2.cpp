// The kernels for AVX2.
#if defined(__x86_64__)
#include "vec_avx2.h"
// The vector comes first: everything below is written in terms of it.
#include "kernels.inc.h"
#include "tables.h"

namespace zoo {

extern const KernelTable kAvx2Table = {
    "avx2",
    kernels<float>("gemm_avx2_6x16", "depthwise_avx2", "direct_avx2_6x16", "weight_grad_avx2_6x16",
                   "depthwise_weight_grad_avx2", "winograd4_avx2_6x16", "winograd2_avx2_6x16"),
    {},
};

}  // namespace zoo
#endif
