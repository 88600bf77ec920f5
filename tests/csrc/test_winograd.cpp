// Winograd's kernels: every edge of their blocking, their accuracy, and which cases they get.
#include <cstring>

#include "conv2d_case.h"

namespace zoo::test {
namespace {

constexpr Conv2dImpl kWinograd[] = {Conv2dImpl::winograd4, Conv2dImpl::winograd2};

Conv2dParams make(int64_t n, int64_t c, int64_t h, int64_t w, int64_t o, int64_t pad,
                  Pool pool = Pool::none) {
  Conv2dParams p;
  p.batch = n, p.in_channels = c, p.in_h = h, p.in_w = w, p.out_channels = o;
  p.window.kernel_h = p.window.kernel_w = 3;
  p.window.pad_h = p.window.pad_w = pad;
  p.out_h = out_size(h, 3, 1, pad, 1), p.out_w = out_size(w, 3, 1, pad, 1);
  if (pool != Pool::none && p.out_h > 1 && p.out_w > 1) {
    p.pool = pool;
    p.pool_window.kernel_h = p.pool_window.kernel_w = 2;
    p.pool_window.stride_h = p.pool_window.stride_w = 2;
    p.pool_h = p.out_h / 2, p.pool_w = p.out_w / 2;
  }
  return p;
}

void test_edges(const KernelTable& table, int cases) {
  Random random(23);
  const auto run = [&](Conv2dParams p, bool special) {
    for (Conv2dImpl impl : kWinograd) run_case<float>(random, table, p, impl, special);
  };
  for (int64_t side = 1; side <= 33; ++side) run(make(1, 3, side, 34 - side, 5, 1), false);
  for (int64_t channels = 1; channels <= 33; ++channels) {
    run(make(1, channels, 6, 9, 34 - channels, 1, random.pick({Pool::none, Pool::max})), false);
  }
  for (int64_t tiles = 1; tiles <= 29; ++tiles) {  // every remainder of a block of them
    run(make(1, 4, 4, 4 * tiles, 9, 1), false);    // so many of 4x4
    run(make(1, 4, 2, 2 * tiles, 9, 1), false);    // so many of 2x2
  }
  for (int64_t c : {63, 64, 65, 127, 128, 129}) {
    for (int64_t o : {31, 64, 65, 129}) run(make(2, c, 7, 5, o, 1), false);
  }
  for (int64_t batch : {0, 1, 3, 8}) run(make(batch, 17, 5, 13, 33, 1), false);
  run(make(1, 300, 5, 5, 34, 1), false);  // two blocks of the depth
  run(make(1, 2, 1, 1, 3, 1), false);
  run(make(1, 2, 2, 3, 3, 40), false);  // tiles that are all padding
  for (int i = 0; i < cases; ++i) {
    const int64_t pad = random.chance(0.1) ? random.whole(2, 9) : random.whole(0, 1);
    const int64_t least = pad == 0 ? 3 : 1;
    const bool wide = random.chance(0.5);
    Conv2dParams p =
        make(random.whole(1, 3), random.whole(1, wide ? 20 : 70), random.whole(least, 33),
             random.whole(least, wide ? 33 : 12), random.whole(1, wide ? 20 : 70), pad,
             random.pick({Pool::none, Pool::none, Pool::max, Pool::avg}));
    p.activation = random.chance(0.4) ? Activation::relu : kActivations[random.whole(0, 9)];
    if (random.chance(0.2)) {
      p.window.pad_w += 1;
      p.out_w += 2;
      if (p.pool != Pool::none) p.pool_w = p.out_w / 2;
    }
    run(p, i % 5 == 0);
  }
}

// All that is contiguous, as networks have it, for the fast paths.
struct Dense {
  Tensor<float> input, weight, output;
  std::vector<float> bias;

  explicit Dense(Conv2dParams& p)
      : input({p.batch, p.in_channels, p.in_h, p.in_w}, last(p.in_channels, p.in_h, p.in_w), 0),
        weight({p.out_channels, p.in_channels, 3, 3}, {p.in_channels * 9, 9, 3, 1}, 0),
        output({p.batch, p.out_channels, p.out_h, p.out_w}, last(p.out_channels, p.out_h, p.out_w),
               0),
        bias(static_cast<size_t>(p.out_channels)) {
    p.input = input.strides, p.output = output.strides;
  }
  static Strides last(int64_t c, int64_t h, int64_t w) { return {h * w * c, 1, w * c, c}; }

  void run(const KernelTable& table, const Conv2dParams& p, Conv2dImpl impl, int32_t threads) {
    const Packing packing = packing_of(impl, p);
    std::vector<float> packed(static_cast<size_t>(packed_size(packing, weight_size(p), 1)));
    pack_weight(packing, weight.data.get(), weight.strides, weight_size(p), 1, packed.data());
    const Conv2dKernel<float>& kernel = kernel_of(table.f32, impl);
    const int64_t bytes = kernel.workspace_bytes(p, threads);
    void* workspace = std::aligned_alloc(64, static_cast<size_t>(bytes + 63) / 64 * 64);
    kernel.run(p, input.data.get(), packed.data(), bias.data(), nullptr, output.data.get(),
               workspace, Threads(threads).parallel);
    std::free(workspace);
  }
};

// Weights that are read once for as many tiles as there are, against sums of products. The scalar
// kernels, which cut their work the same way, would take a minute for it under the sanitizers.
void test_large_weights(const KernelTable& table) {
  if (std::strcmp(table.isa, "scalar") == 0) return;
  Random random(12);
  for (const Conv2dImpl impl : kWinograd) {
    const bool four = impl == Conv2dImpl::winograd4;
    Conv2dParams p = four ? make(1, 512, 34, 34, 256, 1) : make(1, 512, 17, 17, 520, 1);
    Dense z(p);
    for (Tensor<float>* tensor : {&z.input, &z.weight}) {
      tensor->each([&](auto... i) { tensor->at(i...) = static_cast<float>(random.real() - 0.5); });
    }
    z.run(table, p, Conv2dImpl::gemm, 1);
    std::vector<double> expected;
    double most = 0;
    z.output.each([&](auto... i) {
      expected.push_back(z.output.at(i...));
      most = std::max(most, std::abs(expected.back()));
    });
    for (const int32_t threads : {1, 2}) {
      z.run(table, p, impl, threads);
      size_t at = 0;
      double worst = 0;
      z.output.each([&](auto... i) {
        worst = std::max(worst, std::abs(z.output.at(i...) - expected[at++]));
      });
      CHECK(worst <= 5e-6 * most);
    }
  }
}

double normal(Random& random) {  // Box and Muller's
  return std::sqrt(-2 * std::log(1 - random.real())) * std::cos(6.283185307179586 * random.real());
}

// At most 4e-6 of the output's maximum for F(4x4), on inputs behind a ReLU or not, and on weights
// into which a BatchNorm with very unequal scales was folded.
void test_accuracy(const KernelTable& table) {
  Random random(5);
  for (const bool unequal : {false, true}) {
    for (const bool rectified : {false, true}) {
      for (const int64_t c : {16, 64, 512}) {
        const int64_t side = c > 256 ? 6 : 12;
        Conv2dParams p = make(1, c, side, side, 40, 1);
        Dense z(p);
        z.input.each([&](auto... i) {
          const double x = normal(random);
          z.input.at(i...) = static_cast<float>(rectified ? std::max(x, 0.0) : x);
        });
        std::vector<double> scale(40);
        for (size_t o = 0; o < 40; ++o) {
          scale[o] = unequal ? std::exp(2 * normal(random)) : 1;
          z.bias[o] = static_cast<float>(normal(random) * scale[o]);
        }
        z.weight.each([&](int64_t o, int64_t i, int64_t r, int64_t s) {
          z.weight.at(o, i, r, s) = static_cast<float>(normal(random) * scale[size_t(o)]);
        });
        std::vector<double> expected;
        double most = 0;
        z.output.each([&](auto... i) {
          expected.push_back(
              convolution<float>(p, z.input, z.weight, z.bias.data(), nullptr, i...).value);
          most = std::max(most, std::abs(expected.back()));
        });
        for (const Conv2dImpl impl : kWinograd) {
          z.run(table, p, impl, 2);
          double worst = 0;
          size_t at = 0;
          z.output.each([&](auto... i) {
            worst = std::max(worst, std::abs(z.output.at(i...) - expected[at++]));
          });
          const double bound = impl == Conv2dImpl::winograd4 ? 4e-6 : 1.5e-6;
          if (!(worst <= bound * most)) {
            std::fprintf(stderr, "%s c%ld: %.2g of the maximum\n", kernel_of(table.f32, impl).name,
                         c, worst / most);
          }
          CHECK(worst <= bound * most);
          if (std::getenv("ZOO_TEST_VERBOSE") != nullptr) {
            std::printf("%s c%ld %s%s: error %.2g of the output's maximum\n",
                        kernel_of(table.f32, impl).name, c, unequal ? "unequal " : "",
                        rectified ? "rectified" : "", worst / most);
          }
        }
      }
    }
  }
}

// The same bits, whatever the threads: sums do not depend on how the work is cut.
void test_threads(const KernelTable& table) {
  Random random(9);
  for (const int64_t side : {6, 30}) {
    Conv2dParams p = make(2, 40, side, side, 70, 1);
    p.activation = Activation::relu;
    Dense z(p);
    fill(random, z.input);
    fill(random, z.weight);
    for (const Conv2dImpl impl : kWinograd) {
      z.run(table, p, impl, 1);
      const std::vector<float> one(z.output.data.get(), z.output.data.get() + z.output.size);
      for (const int32_t threads : {2, 5}) {
        z.run(table, p, impl, threads);
        CHECK(std::memcmp(one.data(), z.output.data.get(), one.size() * sizeof(float)) == 0);
      }
    }
  }
}

// Which implementation some well-known layers get, packed beforehand or not.
void test_selection() {
#if defined(__x86_64__)
  const auto chosen = [](const Conv2dParams& p, bool prepacked) {
    return select_conv2d(p, {DType::float32, /*exact=*/false, prepacked});
  };
  CHECK(chosen(make(1, 64, 56, 56, 64, 1), true) == Conv2dImpl::winograd4);
  CHECK(chosen(make(1, 64, 56, 56, 64, 1), false) == Conv2dImpl::winograd4);
  CHECK(chosen(make(1, 128, 28, 28, 128, 1), true) == Conv2dImpl::winograd4);
  CHECK(chosen(make(1, 256, 14, 14, 256, 1), true) == Conv2dImpl::winograd4);
  CHECK(chosen(make(1, 512, 7, 7, 512, 1), true) == Conv2dImpl::winograd2);
  CHECK(chosen(make(1, 512, 7, 7, 512, 1), false) == Conv2dImpl::aten);
  CHECK(chosen(make(8, 512, 7, 7, 512, 1), true) == Conv2dImpl::winograd4);
  CHECK(chosen(make(8, 512, 7, 7, 512, 1), false) == Conv2dImpl::aten);
  CHECK(chosen(make(1, 256, 14, 14, 256, 1), false) == Conv2dImpl::aten);
  CHECK(chosen(make(1, 512, 14, 14, 512, 1), false) == Conv2dImpl::aten);
  CHECK(chosen(make(1, 64, 1, 1, 64, 1), true) == Conv2dImpl::gemm);
  CHECK(chosen(make(1, 15, 56, 56, 64, 1), true) == Conv2dImpl::direct);
  CHECK(chosen(make(1, 64, 56, 56, 15, 1), true) == Conv2dImpl::gemm);

  Conv2dParams p = make(1, 64, 56, 56, 64, 1, Pool::max);
  CHECK(chosen(p, true) == Conv2dImpl::winograd4);
  CHECK(select_conv2d(p, {DType::float64, false, true}) == Conv2dImpl::gemm);
  CHECK(select_conv2d(p, {DType::float32, /*exact=*/true, true}) == Conv2dImpl::gemm);
  p.pool_window.pad_w = 1;
  CHECK(chosen(p, true) == Conv2dImpl::gemm);
  p = make(1, 64, 56, 56, 64, 1);
  p.window.dilation_w = 2;
  CHECK(chosen(p, true) == Conv2dImpl::gemm);
  p = make(1, 64, 56, 56, 64, 1);
  p.window.stride_h = 2;
  CHECK(chosen(p, true) == Conv2dImpl::gemm);
  p = make(1, 64, 56, 56, 64, 1);
  p.groups = 2;
  CHECK(chosen(p, true) == Conv2dImpl::direct);
#endif
}

}  // namespace

void test_winograd() {
  test_selection();
  for (const KernelTable* table : tables()) {
    test_edges(*table, random_cases(400) / 2);
    test_large_weights(*table);
    test_accuracy(*table);
    test_threads(*table);
  }
}

}  // namespace zoo::test
