// The kernels for AVX-512.
#if defined(__x86_64__)
#include "vec_avx512.h"
// The vector comes first: everything below is written in terms of it.
#include "kernels.inc.h"
#include "tables.h"

namespace zoo {

extern const KernelTable kAvx512Table = {
    "avx512",
    kernels<float>("gemm_avx512_14x32", "depthwise_avx512", "direct_avx512_14x32",
                   "weight_grad_avx512_14x32", "depthwise_weight_grad_avx512",
                   "winograd4_avx512_14x32", "winograd2_avx512_14x32"),
    {},
};

}  // namespace zoo
#endif
