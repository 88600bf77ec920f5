// BFloat16: by the matrix units, and without them.
#include "conv2d_case.h"

namespace zoo::simt {

void test_conv2d_bfloat16() {
  random_cases<cuda::BFloat16, true>(40, 6);
  random_cases<cuda::BFloat16, false>(25, 7);
  removals<cuda::BFloat16, true>("conv2d, bfloat16 matrices");
}

}  // namespace zoo::simt
