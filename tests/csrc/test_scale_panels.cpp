// Packed weights that are scaled are those that are packed from scaled ones, to the last bit.
#include "support.h"

namespace zoo::test {
namespace {

template <typename T>
void run_case(Random& random, const KernelTable& table) {
  const Packing packing = Packing::gemm;
  const int64_t filters = random.whole(2, 100), channels = random.whole(1, 70);
  const int64_t step = random.pick({0, 1, 3});
  const WeightSize size{filters, channels, 1, 1};
  const Strides strides{channels, 1, 1, 1};
  const int64_t count = packed_size(packing, size, 1);
  std::vector<T> weight(static_cast<size_t>(filters * channels)), scaled_weight = weight;
  std::vector<T> scale(static_cast<size_t>((channels - 1) * step + 1));
  for (T& x : scale) x = static_cast<T>(random.real() * 2 - 1);
  for (size_t i = 0; i < weight.size(); ++i) {
    weight[i] = static_cast<T>(random.real() * 2 - 1);
    scaled_weight[i] =
        weight[i] * scale[i % static_cast<size_t>(channels) * static_cast<size_t>(step)];
  }
  std::vector<T> packed(static_cast<size_t>(count)), expected = packed, got = packed;
  pack_weight(packing, weight.data(), strides, size, 1, packed.data());
  pack_weight(packing, scaled_weight.data(), strides, size, 1, expected.data());
  Threads pool(random.pick({1, 2, 5}));
  kernels_of<T>(table).scale_panels(count / (channels * kPanel), channels, packed.data(),
                                    scale.data(), step, got.data(), pool.parallel);
  CHECK(got == expected);
}

}  // namespace

void test_scale_panels() {
  for (const KernelTable* table : tables()) {
    Random random(29);
    for (int i = 0; i < random_cases(100); ++i) {
      run_case<float>(random, *table);
      if (table->f64.scale_panels != nullptr) run_case<double>(random, *table);
    }
  }
}

}  // namespace zoo::test
