// Half: by the matrix units, and without them.
#include "conv2d_case.h"

namespace zoo::simt {

void test_conv2d_half() {
  random_cases<cuda::Half, true>(40, 6);
  random_cases<cuda::Half, false>(25, 7);
  removals<cuda::Half, true>("conv2d, half matrices");
}

}  // namespace zoo::simt
