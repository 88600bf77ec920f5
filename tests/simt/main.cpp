// The CUDA kernels' bodies on the host: no CUDA, no torch. Exit code 1 if any check failed. Under
// the thread sanitizer, whose own exit code tells of races, only what it can judge.
#include "support.h"

int main() {
  using namespace zoo::simt;
  const std::pair<const char*, void (*)()> tests[] = {
#ifdef ZOO_TSAN
      {"races", test_races},
#else
      {"harness", test_harness},
      {"elements", test_elements},
      {"plans", test_plans},
      {"choices", test_choices},
      {"far images", test_far},
#endif
      {"conv2d float32", test_conv2d},
      {"conv2d float16", test_conv2d_half},
      {"conv2d bfloat16", test_conv2d_bfloat16},
      {"depthwise", test_depthwise},
      {"pool2d", test_pool2d},
  };
  int& failures = zoo::test::failures;
  for (const auto& [name, run] : tests) {
    const int before = failures;
    try {
      run();
    } catch (const std::exception& error) {
      std::fprintf(stderr, "%s: %s\n", name, error.what());
      ++failures;
    }
    std::printf("%s %s\n", failures == before ? "ok  " : "FAIL", name);
    std::fflush(stdout);
  }
  std::printf("%d failed\n", failures);
  return failures == 0 ? 0 : 1;
}
