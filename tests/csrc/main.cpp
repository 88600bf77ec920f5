// The kernels' tests: no torch, no framework. Exit code 1 if any check failed.
#include "support.h"

int main() {
  using namespace zoo::test;
  const std::pair<const char*, void (*)()> tests[] = {
      {"dispatch", test_dispatch},         {"pack", test_pack},
      {"activations", test_activations},   {"conv2d", test_conv2d},
      {"depthwise", test_depthwise},       {"direct", test_direct},
      {"winograd", test_winograd},         {"pool2d", test_pool2d},
      {"scale_shift", test_scale_shift},   {"layer_norm", test_layer_norm},
      {"scale_panels", test_scale_panels}, {"peak", test_peak},
      {"weight_grad", test_weight_grad},   {"training", test_training},
  };
  for (const auto& [name, run] : tests) {
    const int before = failures;
    run();
    std::printf("%s %s\n", failures == before ? "ok  " : "FAIL", name);
    std::fflush(stdout);
  }
  std::string levels;
  for (const zoo::KernelTable* table : tables()) levels += std::string(" ") + table->isa;
  std::printf("tested:%s; %d failed\n", levels.c_str(), failures);
  return failures == 0 ? 0 : 1;
}
