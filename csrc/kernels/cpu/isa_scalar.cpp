// The kernels that every processor can run.
#include "vec_scalar.h"
// The vector comes first: everything below is written in terms of it.
#include "kernels.inc.h"
#include "tables.h"

namespace zoo {

extern const KernelTable kScalarTable = {
    "scalar",
    kernels<float>("gemm_scalar_6x8", "depthwise_scalar", "direct_scalar_6x8",
                   "weight_grad_scalar_6x8", "depthwise_weight_grad_scalar", "winograd4_scalar_6x8",
                   "winograd2_scalar_6x8"),
    kernels<double>("gemm_scalar_6x4", "depthwise_scalar", "direct_scalar_6x4",
                    "weight_grad_scalar_6x4", "depthwise_weight_grad_scalar"),
};

}  // namespace zoo
