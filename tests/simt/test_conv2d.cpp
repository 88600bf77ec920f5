#include "conv2d_case.h"

namespace zoo::simt {

void test_conv2d() {
  random_cases<float, false>(60, 5);
  removals<float, false>("conv2d");
}

}  // namespace zoo::simt
