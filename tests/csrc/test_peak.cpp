// The measures of the machine do the work that they are timed by.
#include "support.h"

namespace zoo::test {
namespace {

template <typename T>
void test_peak_of(const KernelTable& table) {
  const PeakKernels<T>& peak = kernels_of<T>(table).peak;
  if (peak.fma == nullptr) return;
  Random random(7);
  for (int32_t threads : {1, 2, 5}) {
    const Parallel parallel = Threads(threads).parallel;
    std::vector<T> sums(static_cast<size_t>(threads));
    const double lanes = double(peak.flops) / 2;
    peak.fma(0, sums.data(), parallel);
    const double start = double(sums[0]);  // lanes * (0 + 1 + ... + chains - 1) / chains
    CHECK(start >= lanes * (10 - 1) / 2);  // five cycles and two ports keep ten chains busy
    for (int64_t steps : {1, 4, 1000}) {
      peak.fma(steps, sums.data(), parallel);
      const double expected = lanes + (start - lanes) * std::pow(0.5, double(steps));
      for (T sum : sums) CHECK(close(double(sum), expected, 1e-3));
    }
    for (int64_t count : {0, 1, 7, 64, 129, 4096, 5003}) {
      // Of the exact size, for the address sanitizer; small whole numbers add up exactly.
      std::unique_ptr<T[]> data(new T[static_cast<size_t>(count)]);
      double expected = 0;
      for (int64_t i = 0; i < count; ++i) {
        data[i] = static_cast<T>(random.whole(-9, 9));
        expected += double(data[i]);
      }
      for (int64_t passes : {0, 1, 3}) {
        std::fill(sums.begin(), sums.end(), T{-1});
        peak.read(data.get(), count, passes, sums.data(), parallel);
        double sum = 0;
        for (T part : sums) sum += double(part);
        CHECK(sum == expected * double(passes));
      }
    }
  }
}

}  // namespace

void test_peak() {
  for (const KernelTable* table : tables()) {
    test_peak_of<float>(*table);
    test_peak_of<double>(*table);
  }
}

}  // namespace zoo::test
