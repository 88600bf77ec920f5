// The training kernels of every table against their definitions in double, over random sizes.
#include <array>

#include "reference.h"

namespace zoo::test {
namespace {

// grad * activation'(x), x being what went in and y what came out; as PyTorch at the kinks.
double gradient(Activation a, double grad, double x, double y) {
  const double s = 1 / (1 + std::exp(-x));
  switch (a) {
    case Activation::none:
      return grad;
    case Activation::relu:
      return y <= 0 ? 0 : grad;
    case Activation::relu6:
      return y > 0 && y < 6 ? grad : 0;
    case Activation::sigmoid:
      return grad * (1 - y) * y;
    case Activation::tanh:
      return grad * (1 - y * y);
    case Activation::silu:
      return grad * s * (1 + x * (1 - s));
    case Activation::gelu:
      return grad * (0.5 * (1 + std::erf(x / std::sqrt(2.0))) +
                     x * std::exp(-x * x / 2) / std::sqrt(8 * std::atan(1.0)));
    case Activation::hardswish:
      return x <= -3 ? 0 : x < 3 ? grad * (x / 3 + 0.5) : x >= 3 ? grad : x;
    case Activation::hardsigmoid:
      return y > 0 && y < 1 ? grad / 6 : 0;
    case Activation::leaky_relu:
      return y > 0 ? grad : grad * 0.01;
  }
  return grad;
}

// A heap block of the exact size.
template <typename X>
struct Block {
  int64_t size;
  std::unique_ptr<X[]> data;

  Block(int64_t count, X value) : size(count), data(new X[static_cast<size_t>(count)]) {
    std::fill(data.get(), data.get() + count, value);
  }
  X& operator[](int64_t i) const { return data[i]; }
  operator X*() const { return data.get(); }
};

// Multiples of 1/8 in [-limit, limit]: few enough for ties and kinks, and sums without rounding.
template <typename T>
Block<T> some(Random& random, int64_t count, int64_t limit) {
  Block<T> all(count, 0);
  for (int64_t i = 0; i < count; ++i) {
    all[i] = static_cast<T>(random.whole(-8 * limit, 8 * limit)) / 8;
  }
  return all;
}
template <typename T>
void spoil(Random& random, const Block<T>& block) {
  const T inf = std::numeric_limits<T>::infinity();
  for (int i = 0; i < 4 && block.size > 0; ++i) {
    block[random.whole(0, block.size - 1)] =
        random.pick<T>({inf, -inf, std::numeric_limits<T>::quiet_NaN()});
  }
}

// How far results are from their definitions: eps at all, and relative to what was added.
template <typename T>
struct Judge {
  const double eps = sizeof(T) == 4 ? 2e-6 : 1e-13;
  int wrong = 0;

  void value(double got, double expected, double magnitude = 0) {
    const double bound = eps * (1 + std::abs(expected) + magnitude);
    if (!close(got, expected, std::isfinite(bound) ? bound : eps)) ++wrong;
  }
  void done(const KernelTable& table, const char* what, int64_t pixels, int64_t channels,
            Activation activation) const {
    if (wrong > 0) {
      std::fprintf(stderr, "%s %s: %d wrong: %ld pixels, %ld channels, activation %d\n", table.isa,
                   what, wrong, pixels, channels, static_cast<int>(activation));
    }
    CHECK(wrong == 0);
  }
};

// Sums of `which` kinds over channels, from the kernel and from the definition. Those of the kernel
// are not set before: NaN would stay.
template <typename T>
struct Sums {
  int64_t which, channels;
  int32_t threads;
  Block<double> got, value, magnitude;

  Sums(int64_t w, int64_t c, int32_t t)
      : which(w),
        channels(c),
        threads(t),
        got(t * w * c, std::numeric_limits<double>::quiet_NaN()),
        value(w * c, 0),
        magnitude(w * c, 0) {}
  // `size` is what the error of x is relative to.
  void add(int64_t i, int64_t channel, double x, double size) {
    value[i * channels + channel] += x;
    magnitude[i * channels + channel] += std::isfinite(size) ? std::abs(size) : 0;
  }
  void judge(const Kernels<T>& kernels, Judge<T>& judge) {
    kernels.training.finish(which, channels, got, threads);
    for (int64_t i = 0; i < which * channels; ++i) judge.value(got[i], value[i], magnitude[i]);
  }
};

int64_t random_channels(Random& random) {
  if (random.chance(0.05)) return random.whole(1000, 2100);
  return random.chance(0.3) ? random.pick<int64_t>({1, 3, 8, 16, 24, 64, 128})
                            : random.whole(1, random.chance(0.2) ? 300 : 40);
}

// Pixels in two calls: the first sets the sums, the second adds to them.
template <typename T>
struct RowsCase {
  BatchNormParams p;
  int64_t begin = 0, cut = 0, end = 0;
  Threads pool;

  explicit RowsCase(Random& random) : pool(random.pick({1, 2, 5})) {
    p.channels = random_channels(random);
    const int64_t most = std::max<int64_t>(4, std::min<int64_t>(2000, 20000 / p.channels));
    end = random.chance(0.05) ? 0 : random.whole(1, random.chance(0.3) ? most : 30);
    cut = random.chance(0.5) ? end : random.whole(0, end);
    p.activation = static_cast<Activation>(random.whole(0, 9));
  }
  int64_t size() const { return end * p.channels; }
  // call(params, the first element, first)
  template <typename Call>
  void calls(Call call) {
    p.pixels = cut;
    call(p, int64_t{0}, true);
    p.pixels = end - cut;
    if (cut < end) call(p, cut * p.channels, false);
  }
};

template <typename T>
void activation_backward_case(Random& random, const KernelTable& table) {
  const auto& kernels = kernels_of<T>(table);
  RowsCase<T> z(random);
  while (!has_gradient_from_output(z.p.activation)) {
    z.p.activation = static_cast<Activation>(random.whole(0, 9));
  }
  const Block<T> x = some<T>(random, z.size(), 7), grad = some<T>(random, z.size(), 2);
  const Block<T> y(z.size(), 0), out(z.size(), T(-12345));
  if (random.chance(0.2)) spoil(random, x), spoil(random, grad);
  for (int64_t i = 0; i < z.size(); ++i) y[i] = static_cast<T>(activation(z.p.activation, x[i]));
  const bool stored = random.chance(0.7);
  Sums<T> sums(1, z.p.channels, z.pool.parallel.threads);
  z.calls([&](const BatchNormParams& p, int64_t at, bool first) {
    kernels.training.activation_backward(p, grad + at, y + at, stored ? out + at : nullptr, first,
                                         sums.got, z.pool.parallel);
  });
  Judge<T> judge;
  for (int64_t i = 0; i < z.size(); ++i) {
    const double g = gradient(z.p.activation, grad[i], x[i], y[i]);
    if (stored) judge.value(out[i], g);
    sums.add(0, i % z.p.channels, g, grad[i]);
  }
  sums.judge(kernels, judge);
  judge.done(table, "activation_backward", z.end, z.p.channels, z.p.activation);
}

template <typename T>
void batch_norm_case(Random& random, const KernelTable& table) {
  const auto& kernels = kernels_of<T>(table);
  RowsCase<T> z(random);
  const int64_t channels = z.p.channels, size = z.size();
  const Activation a = z.p.activation;
  const Block<T> x = some<T>(random, size, 4), grad = some<T>(random, size, 2);
  const Block<T> residual = some<T>(random, size, 2);
  const Block<T> mean = some<T>(random, channels, 2), scale = some<T>(random, channels, 2);
  const Block<T> shift = some<T>(random, channels, 2), ka = some<T>(random, channels, 2);
  const Block<T> kb = some<T>(random, channels, 2), kc = some<T>(random, channels, 2);
  if (random.chance(0.2)) spoil(random, x), spoil(random, grad);
  const bool added = random.chance(0.5), in_place = random.chance(0.3);
  // Behind a residual the activation's input cannot be computed any more.
  const bool from_output = has_gradient_from_output(a) && random.chance(0.5);
  const bool residual_too = random.chance(0.5);
  const auto input = [&](int64_t i, bool with) {  // exact, but for infinities
    const int64_t c = i % channels;
    const double product = static_cast<double>(x[i]) * static_cast<double>(scale[c]);
    return product + static_cast<double>(shift[c]) + (with ? static_cast<double>(residual[i]) : 0);
  };

  const int32_t threads = z.pool.parallel.threads;
  Sums<T> moments(2, channels, threads), sums(2, channels, threads);
  const Block<T> y(size, T(-12345)), g(size, T(-12345)), grad_x(size, T(-12345));
  if (in_place) std::copy(x + 0, x + size, y + 0);
  const Block<T> out(size, 0);
  for (int64_t i = 0; i < size; ++i) out[i] = static_cast<T>(activation(a, input(i, added)));
  const T* const output = from_output ? out + 0 : nullptr;
  z.calls([&](const BatchNormParams& p, int64_t at, bool first) {
    const Parallel& parallel = z.pool.parallel;
    kernels.training.moments(p, x + at, mean, first, moments.got, parallel);
    kernels.training.normalize(p, (in_place ? y : x) + at, scale, shift,
                               added ? residual + at : nullptr, y + at, parallel);
    kernels.training.normalize_sums(p, grad + at, from_output ? output + at : nullptr, x + at, mean,
                                    scale, shift, residual_too ? g + at : nullptr, first, sums.got,
                                    parallel);
    kernels.training.normalize_backward(p, grad + at, from_output ? output + at : nullptr, x + at,
                                        mean, scale, shift, ka, kb, kc, grad_x + at, parallel);
  });

  Judge<T> forward, backward;
  for (int64_t i = 0; i < size; ++i) {
    const int64_t c = i % channels;
    const double rest = static_cast<double>(x[i]) - static_cast<double>(mean[c]);
    moments.add(0, c, rest, rest);
    moments.add(1, c, rest * rest, rest * rest);
    forward.value(y[i], activation(a, input(i, added)));
    const double in = input(i, from_output && added);
    const double expected =
        gradient(a, grad[i], in, from_output ? double(out[i]) : activation(a, in));
    if (residual_too) backward.value(g[i], expected, 1);
    sums.add(0, c, expected, grad[i]);
    sums.add(1, c, expected * rest, grad[i] * rest);
    backward.value(grad_x[i], expected * ka[c] + rest * kb[c] + static_cast<double>(kc[c]), 16);
  }
  moments.judge(kernels, forward);
  forward.done(table, "moments or normalize", z.end, channels, a);
  sums.judge(kernels, backward);
  backward.done(table, "normalize_sums or _backward", z.end, channels, a);
}

template <typename T>
void max_pool2_case(Random& random, const KernelTable& table) {
  const auto& kernels = kernels_of<T>(table);
  MaxPool2Params p;
  p.channels = random_channels(random);
  p.in_h = random.whole(1, p.channels > 500 ? 5 : 14);
  p.in_w = random.whole(1, p.channels > 500 ? 5 : random.chance(0.2) ? 600 : 14);
  const int64_t batch = random.chance(0.05) ? 0 : random.whole(1, 3);
  const int64_t cut = random.chance(0.5) ? batch : random.whole(0, batch);
  do {
    p.activation = static_cast<Activation>(random.whole(0, 9));
  } while (!has_gradient_from_output(p.activation));
  const int64_t out_h = p.in_h / 2, out_w = p.in_w / 2, c = p.channels, bytes = (c + 7) / 8;
  const int64_t image = p.in_h * p.in_w * c, pooled = out_h * out_w * c;
  const int64_t bits = out_h * out_w * 2 * bytes;
  const Block<T> input = some<T>(random, batch * image, 1);
  const Block<T> grad = some<T>(random, batch * pooled, 2);
  if (random.chance(0.3)) spoil(random, input);
  const bool odd = random.chance(0.2);  // sums of NaN are NaN: mostly look at others
  if (odd) spoil(random, grad);
  const Block<T> output(batch * pooled, T(-12345)), grad_input(batch * image, T(-12345));
  const Block<uint8_t> where(batch * bits, 0xff);
  Threads pool(random.pick({1, 2, 5}));
  Sums<T> sums(1, c, pool.parallel.threads);
  const auto call = [&](int64_t begin, int64_t end, bool first) {
    p.batch = end - begin;
    kernels.training.max_pool2(p, input + begin * image, output + begin * pooled,
                               where + begin * bits, pool.parallel);
    kernels.training.max_pool2_backward(p, grad + begin * pooled, output + begin * pooled,
                                        where + begin * bits, grad_input + begin * image, first,
                                        sums.got, pool.parallel);
  };
  call(0, cut, true);
  if (cut < batch) call(cut, batch, false);

  Judge<T> judge;
  const Block<double> expected(batch * image, 0);
  for (int64_t i = 0; i < batch * pooled; ++i) {
    const int64_t channel = i % c, pixel = i / c, x = pixel % out_w, y = pixel / out_w % out_h;
    const int64_t from = pixel / out_w / out_h * image + (2 * y * p.in_w + 2 * x) * c + channel;
    const int64_t taps[] = {from, from + c, from + p.in_w * c, from + p.in_w * c + c};
    int best = 0;
    for (int t = 1; t < 4; ++t) {
      if (input[taps[t]] > input[taps[best]] || std::isnan(input[taps[t]])) best = t;
    }
    judge.value(output[i], input[taps[best]]);
    const uint8_t* const at = where + pixel * 2 * bytes + channel / 8;
    const int column = at[0] >> channel % 8 & 1, row = at[bytes] >> channel % 8 & 1;
    if (2 * row + column != best) ++judge.wrong;
    // Derivatives are defined by the output alone here.
    const double g = gradient(p.activation, grad[i], 0, output[i]);
    expected[taps[best]] = g;
    sums.add(0, channel, g, grad[i]);
  }
  for (int64_t i = 0; i < batch * image; ++i) judge.value(grad_input[i], expected[i]);
  sums.judge(kernels, judge);
  judge.done(table, "max_pool2", batch * p.in_h * p.in_w, c, p.activation);
}

// A mean of a million numbers far from 0 is right to T's precision, and so is their variance; the
// same number of threads gives the same bits.
template <typename T>
void many_pixels(const KernelTable& table) {
  const auto& training = kernels_of<T>(table).training;
  Random random(5);
  BatchNormParams p;
  p.pixels = random_cases(500) * 2000, p.channels = 3;
  const Block<T> x(p.pixels * p.channels, 0);
  const Block<T> shift(p.channels, T(100));
  for (int64_t i = 0; i < x.size; ++i) x[i] = static_cast<T>(100 + random.real());
  std::array<long double, 6> expected{};
  for (int64_t i = 0; i < x.size; ++i) {
    const long double rest = static_cast<long double>(x[i]) - 100;
    expected[i % 3] += rest, expected[3 + i % 3] += rest * rest;
  }
  Threads pool(2);
  const Block<double> sums(2 * 6, 0), again(2 * 6, 0);
  for (double* to : {sums + 0, again + 0}) {
    training.moments(p, x, shift, true, to, pool.parallel);
    training.finish(2, p.channels, to, 2);
  }
  const double eps = sizeof(T) == 4 ? 0x1p-23 : 1e-13;
  for (int64_t i = 0; i < 6; ++i) {
    CHECK(close(sums[i], static_cast<double>(expected[i]), eps * static_cast<double>(expected[i])));
    CHECK(sums[i] == again[i]);
  }
}

template <typename T>
void run(const KernelTable& table) {
  if (kernels_of<T>(table).training.max_pool2 == nullptr) return;
  many_pixels<T>(table);
  Random random(47);
  for (int i = 0; i < random_cases(500); ++i) {
    activation_backward_case<T>(random, table);
    batch_norm_case<T>(random, table);
    max_pool2_case<T>(random, table);
  }
}

}  // namespace

void test_training() {
  for (const KernelTable* table : tables()) {
    run<float>(*table);
    run<double>(*table);
  }
}

}  // namespace zoo::test
