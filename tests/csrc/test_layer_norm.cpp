// layer_norm of every table against its definition in double, over random rows.
#include "support.h"

namespace zoo::test {
namespace {

template <typename T>
void run_case(Random& random, const KernelTable& table) {
  LayerNormParams p;
  p.rows = random.chance(0.05) ? 0 : random.whole(1, 20);
  p.channels = random.whole(1, random.chance(0.2) ? 700 : 70);
  p.eps = random.pick({1e-6, 1e-5, 0.1});
  const bool weighted = random.chance(0.7), biased = random.chance(0.7);
  // Far from zero the difference of two sums of squares would be noise.
  const double mean = random.chance(0.3) ? 300 : 0;
  const Shape shape{1, 1, p.rows, p.channels}, row{1, 1, 1, p.channels};
  const Strides dense{0, 0, p.channels, 1};
  Tensor<T> input(shape, dense, 0), output(shape, dense, T(-12345));
  Tensor<T> weight(row, dense, 0), bias(row, dense, 0);
  fill(random, input);
  fill(random, weight);
  fill(random, bias);
  input.each([&](auto... i) { input.at(i...) += static_cast<T>(mean); });
  if (random.chance(0.2)) spoil(random, input);
  const bool in_place = random.chance(0.3);
  if (in_place) std::copy(input.data.get(), input.data.get() + input.size, output.data.get());
  Threads pool(random.pick({1, 2, 5}));
  kernels_of<T>(table).norm.layer_norm(
      p, in_place ? output.data.get() : input.data.get(), weighted ? weight.data.get() : nullptr,
      biased ? bias.data.get() : nullptr, output.data.get(), pool.parallel);
  int wrong = 0;
  for (int64_t r = 0; r < p.rows; ++r) {
    double average = 0, variance = 0;
    for (int64_t c = 0; c < p.channels; ++c) average += static_cast<double>(input.at(0, 0, r, c));
    average /= static_cast<double>(p.channels);
    for (int64_t c = 0; c < p.channels; ++c) {
      variance += std::pow(static_cast<double>(input.at(0, 0, r, c)) - average, 2) /
                  static_cast<double>(p.channels);
    }
    const double factor = 1 / std::sqrt(variance + p.eps);
    for (int64_t c = 0; c < p.channels; ++c) {
      double value = (static_cast<double>(input.at(0, 0, r, c)) - average) * factor;
      if (weighted) value *= static_cast<double>(weight.at(0, 0, 0, c));
      if (biased) value += static_cast<double>(bias.at(0, 0, 0, c));
      // The mean is that of sums which are rounded at each of at most channels / 8 steps.
      const double unit = std::numeric_limits<T>::epsilon();
      const double rounded = mean * factor * (4 + static_cast<double>(p.channels) / 8);
      const double bound = unit * (16 + rounded + 4 * std::abs(value));
      if (!close(static_cast<double>(output.at(0, 0, r, c)), value,
                 std::isfinite(bound) ? bound : unit)) {
        ++wrong;
      }
    }
  }
  if (wrong > 0) {
    std::fprintf(stderr, "%s layer_norm: %d wrong: %ldx%ld mean %g%s%s\n", table.isa, wrong, p.rows,
                 p.channels, mean, weighted ? " weight" : "", biased ? " bias" : "");
  }
  CHECK(wrong == 0);
}

}  // namespace

void test_layer_norm() {
  for (const KernelTable* table : tables()) {
    Random random(31);
    for (int i = 0; i < random_cases(400); ++i) {
      run_case<float>(random, *table);
      if (table->f64.norm.layer_norm != nullptr) run_case<double>(random, *table);
    }
  }
}

}  // namespace zoo::test
