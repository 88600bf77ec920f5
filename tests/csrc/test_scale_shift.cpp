// scale_shift of every table against the reference, over random shapes, layouts and broadcasts.
#include "reference.h"

namespace zoo::test {
namespace {

// Where a dimension is broadcast the operand has one step for all.
template <typename T>
Strides broadcast(Random& random, const ScaleShiftParams& p, Shape& shape) {
  shape = {p.batch, p.channels, p.height, p.width};
  for (int64_t* size : {&shape.n, &shape.c, &shape.h, &shape.w}) {
    if (random.chance(0.4)) *size = 1;
  }
  if (random.chance(0.3)) shape = {1, p.channels, 1, 1};
  Strides strides = random_strides(random, shape, true);
  if (shape.n == 1) strides.n = 0;
  if (shape.c == 1) strides.c = 0;
  if (shape.h == 1) strides.h = 0;
  if (shape.w == 1) strides.w = 0;
  return strides;
}

template <typename T>
void run_case(Random& random, const KernelTable& table) {
  ScaleShiftParams p;
  p.batch = random.chance(0.05) ? 0 : random.whole(1, 3);
  p.channels = random.whole(1, random.chance(0.2) ? 150 : 33);
  p.height = random.whole(1, 20), p.width = random.whole(1, random.chance(0.2) ? 150 : 20);
  p.activation = static_cast<Activation>(random.whole(0, 9));
  const Shape shape{p.batch, p.channels, p.height, p.width};
  p.output = random_strides(random, shape, false);
  const bool in_place = random.chance(0.3);
  p.input = in_place ? p.output : random_strides(random, shape, true);
  Tensor<T> input(shape, p.input, std::numeric_limits<T>::quiet_NaN());
  Tensor<T> output(shape, p.output, T(-12345));
  Shape scale_shape, shift_shape;
  p.scale = broadcast<T>(random, p, scale_shape);
  p.shift = broadcast<T>(random, p, shift_shape);
  Tensor<T> scale(scale_shape, p.scale, std::numeric_limits<T>::quiet_NaN());
  Tensor<T> shift(shift_shape, p.shift, std::numeric_limits<T>::quiet_NaN());
  fill(random, input);
  fill(random, scale);
  fill(random, shift);
  if (random.chance(0.2)) spoil(random, input);
  const bool scaled = random.chance(0.7), shifted = random.chance(0.7);
  if (in_place) {
    output.each([&](auto... i) { output.at(i...) = input.at(i...); });
  }
  Threads pool(random.pick({1, 2, 5}));
  kernels_of<T>(table).pointwise.scale_shift(
      p, in_place ? output.data.get() : input.data.get(), scaled ? scale.data.get() : nullptr,
      shifted ? shift.data.get() : nullptr, output.data.get(), pool.parallel);
  int wrong = 0;
  output.each([&](int64_t n, int64_t c, int64_t y, int64_t x) {
    const auto part = [&](const Tensor<T>& from, const Strides& strides) {
      return static_cast<double>(
          from.data.get()[n * strides.n + c * strides.c + y * strides.h + x * strides.w]);
    };
    double value = input.at(n, c, y, x);
    if (scaled) value *= part(scale, p.scale);
    double magnitude = std::abs(value);
    if (shifted) value += part(shift, p.shift), magnitude += std::abs(part(shift, p.shift));
    const double eps = sizeof(T) == 4 ? 1e-6 : 1e-14;
    const double bound = std::isfinite(magnitude) ? eps * (1 + magnitude) : eps;
    if (!close(output.at(n, c, y, x), activation(p.activation, value), bound)) ++wrong;
  });
  if (wrong > 0) {
    std::fprintf(stderr, "%s scale_shift: %d wrong: %ldx%ldx%ldx%ld activation %d%s%s\n", table.isa,
                 wrong, p.batch, p.channels, p.height, p.width, static_cast<int>(p.activation),
                 scaled ? " scaled" : "", shifted ? " shifted" : "");
  }
  CHECK(wrong == 0);
}

}  // namespace

void test_scale_shift() {
  for (const KernelTable* table : tables()) {
    Random random(23);
    for (int i = 0; i < random_cases(600); ++i) {
      run_case<float>(random, *table);
      if (table->f64.pointwise.scale_shift != nullptr) run_case<double>(random, *table);
    }
  }
}

}  // namespace zoo::test
