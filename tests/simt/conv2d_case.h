// A case of conv2d on the host context, against the reference.
#pragma once

#include "cuda/conv2d_body.h"
#include "support.h"

namespace zoo::simt {

struct Conv2dTensors {
  Strides weight;
  bool bias = true, residual = false;
  bool spoilt = false;     // with NaN and infinities in the input
  int32_t processors = 1;  // many: small tiles
};

inline std::string describe(const Conv2dParams& p) {
  const Window &w = p.window, &q = p.pool_window;
  char text[400];
  std::snprintf(text, sizeof text,
                "n%ld %ldx%ldx%ld -> %ldx%ldx%ld g%ld k%ldx%ld s%ldx%ld p%ldx%ld d%ldx%ld act %d "
                "pool %d k%ldx%ld s%ldx%ld p%ldx%ld in(%ld,%ld,%ld,%ld) out(%ld,%ld,%ld,%ld)",
                p.batch, p.in_channels, p.in_h, p.in_w, p.out_channels, p.out_h, p.out_w, p.groups,
                w.kernel_h, w.kernel_w, w.stride_h, w.stride_w, w.pad_h, w.pad_w, w.dilation_h,
                w.dilation_w, static_cast<int>(p.activation), static_cast<int>(p.pool), q.kernel_h,
                q.kernel_w, q.stride_h, q.stride_w, q.pad_h, q.pad_w, p.input.n, p.input.c,
                p.input.h, p.input.w, p.output.n, p.output.c, p.output.h, p.output.w);
  return text;
}

// Calls with(std::bool_constant...) for run-time values.
template <typename With>
void with_constants(With with) {
  with();
}
template <typename With, typename... More>
void with_constants(With with, bool first, More... more) {
  if (first) {
    with_constants([&](auto... rest) { with(std::true_type{}, rest...); }, more...);
  } else {
    with_constants([&](auto... rest) { with(std::false_type{}, rest...); }, more...);
  }
}

// How many results are wrong.
template <typename T, bool kMatrices>
int run_conv2d(Random& random, const Conv2dParams& p, const Conv2dTensors& tensors, Run& run) {
  const bool pooled = p.pool != Pool::none;
  const Shape map{p.batch, p.out_channels, p.out_h, p.out_w};
  const Shape out = pooled ? Shape{p.batch, p.out_channels, p.pool_h, p.pool_w} : map;
  const Window& w = p.window;
  Numbers<T> input({p.batch, p.in_channels, p.in_h, p.in_w}, p.input);
  Numbers<T> weight({p.out_channels, p.in_channels / p.groups, w.kernel_h, w.kernel_w},
                    tensors.weight);
  Numbers<T> bias({p.out_channels, 1, 1, 1}, {1, 1, 1, 1});
  Numbers<T> residual(map, p.residual);
  Tensor<T> output(out, p.output, T{});
  input.fill(random);
  weight.fill(random);
  bias.fill(random);
  residual.fill(random);
  if (tensors.spoilt) {
    test::spoil(random, input.exact);
    input.round();
  }
  const T* added = tensors.residual ? residual.data.data.get() : nullptr;
  const cuda::Conv2dPlan plan =
      cuda::plan_conv2d(p, tensors.weight, sizeof(T), input.data.data.get(), weight.data.data.get(),
                        added, output.data.get(), tensors.processors);
  if (plan.declines != nullptr) {
    std::fprintf(stderr, "%s: declined: %s\n", describe(p).c_str(), plan.declines);
    return 1;
  }
  with_constants(
      [&](auto large, auto chunks, auto with_pool) {
        using TileShape =
            std::conditional_t<decltype(large)::value, cuda::LargeTile, cuda::SmallTile>;
        launch(plan.grid, run, [&](Block& block, int32_t thread) {
          HostContext<kMatrices> ctx(block, thread);
          cuda::conv2d_body<T, TileShape, decltype(chunks)::value, decltype(with_pool)::value>(
              ctx, plan.problem, input.data.data.get(), weight.data.data.get(),
              tensors.bias ? bias.data.data.get() : nullptr, added, output.data.get());
        });
      },
      plan.large, plan.loads_chunks, pooled);

  const auto conv = [&](int64_t n, int64_t o, int64_t y, int64_t x) {
    return test::convolution(p, input.exact, weight.exact,
                             tensors.bias ? bias.exact.data.get() : nullptr,
                             tensors.residual ? &residual.exact : nullptr, n, o, y, x);
  };
  int wrong = 0;
  output.each([&](int64_t n, int64_t o, int64_t y, int64_t x) {
    test::Value expected{};
    if (pooled) {
      const test::Pooled one = test::pooled(p.pool, p.pool_window, p.out_h, p.out_w, true, 0, y, x,
                                            [&](int64_t h, int64_t v) { return conv(n, o, h, v); });
      expected = {one.value, one.magnitude};
    } else {
      expected = conv(n, o, y, x);
    }
    const double got = cuda::to_float(output.at(n, o, y, x));
    const double size = std::isfinite(expected.value) ? std::abs(expected.value) : 0;
    const double bound = 2e-6 * (1 + expected.magnitude) + 1.01 * kUnit<T> * size + kTiny<T>;
    if (!test::close(got, expected.value, bound)) ++wrong;
  });
  return wrong;
}

// Any number of kinds of convolutions, small enough for the host.
inline Conv2dParams random_conv2d(Random& random) {
  Conv2dParams p;
  for (;;) {
    p = {};
    p.batch = random.whole(1, 3);
    p.groups = random.chance(0.8) ? 1 : random.whole(2, 3);
    const bool even = random.chance(0.5);  // channels in whole chunks
    p.in_channels = p.groups * (even ? 8 * random.whole(1, 5) : random.whole(1, 21));
    p.out_channels = p.groups * (even ? 8 * random.whole(1, 10) : random.whole(1, 70));
    p.in_h = random.whole(1, 12), p.in_w = random.whole(1, 12);
    Window& w = p.window;
    w.kernel_h = random.pick<int64_t>({1, 1, 2, 3, 3, 3, 5});
    w.kernel_w = random.chance(0.8) ? w.kernel_h : random.whole(1, 7);
    w.stride_h = random.pick<int64_t>({1, 1, 1, 2, 3});
    w.stride_w = random.chance(0.8) ? w.stride_h : random.whole(1, 4);
    w.dilation_h = random.chance(0.7) ? 1 : random.whole(1, 3);
    w.dilation_w = random.chance(0.8) ? w.dilation_h : random.whole(1, 3);
    w.pad_h = random.chance(0.1) ? random.whole(0, 9) : random.whole(0, w.kernel_h / 2 + 1);
    w.pad_w = random.chance(0.8) ? w.pad_h : random.whole(0, 9);
    p.out_h = out_size(p.in_h, w.kernel_h, w.stride_h, w.pad_h, w.dilation_h);
    p.out_w = out_size(p.in_w, w.kernel_w, w.stride_w, w.pad_w, w.dilation_w);
    if (p.out_h > 0 && p.out_w > 0) break;
  }
  p.activation = static_cast<Activation>(random.whole(0, 9));
  if (random.chance(0.5)) {
    Window& q = p.pool_window;
    const int64_t kind = random.whole(0, 2);
    p.pool = random.chance(0.7) ? Pool::max : Pool::avg;
    if (kind == 0) q.kernel_h = q.kernel_w = q.stride_h = q.stride_w = 2;
    if (kind == 1) {
      q.kernel_h = q.kernel_w = 3, q.stride_h = q.stride_w = 2;
      q.pad_h = q.pad_w = random.whole(0, 1);
    }
    if (kind == 2) {
      q.kernel_h = random.whole(1, 4), q.kernel_w = random.whole(1, 4);
      q.stride_h = random.whole(1, 3), q.stride_w = random.whole(1, 3);
      q.pad_h = random.whole(0, q.kernel_h / 2), q.pad_w = random.whole(0, q.kernel_w / 2);
      if (p.pool == Pool::max && random.chance(0.3)) q.dilation_h = 2;
    }
    p.pool_h = out_size(p.out_h, q.kernel_h, q.stride_h, q.pad_h, q.dilation_h);
    p.pool_w = out_size(p.out_w, q.kernel_w, q.stride_w, q.pad_w, q.dilation_w);
    if (p.pool_h == 0 || p.pool_w == 0) p.pool = Pool::none, p.pool_window = {};
  }
  return p;
}

template <typename T, bool kMatrices>
void random_cases(int count, uint64_t seed) {
  Random random(seed);
  for (int i = 0; i < cases(count); ++i) {
    Conv2dParams p = random_conv2d(random);
    const bool pooled = p.pool != Pool::none;
    const Shape map{p.batch, p.out_channels, p.out_h, p.out_w};
    p.input = some_strides(random, {p.batch, p.in_channels, p.in_h, p.in_w});
    p.residual = some_strides(random, map);
    p.output =
        some_strides(random, pooled ? Shape{p.batch, p.out_channels, p.pool_h, p.pool_w} : map);
    Conv2dTensors tensors;
    tensors.weight = some_strides(
        random, {p.out_channels, p.in_channels / p.groups, p.window.kernel_h, p.window.kernel_w});
    tensors.bias = random.chance(0.7);
    tensors.residual = random.chance(0.4);
    tensors.spoilt = random.chance(0.1);
    tensors.processors = random.pick({1, 1000});
    Run run = random_run(random);
    const int wrong = run_conv2d<T, kMatrices>(random, p, tensors, run);
    if (wrong > 0) std::fprintf(stderr, "%d wrong: %s\n", wrong, describe(p).c_str());
    CHECK(wrong == 0);
  }
}

// A layer with all parts, for every barrier to matter: several steps of depth, bias, ReLU, a pool.
template <typename T, bool kMatrices>
void removals(const char* name) {
  Conv2dParams p;
  p.batch = 1, p.in_channels = 8, p.out_channels = 16, p.in_h = p.in_w = 8;
  p.window.kernel_h = p.window.kernel_w = 3, p.window.pad_h = p.window.pad_w = 1;
  p.out_h = p.out_w = 8;
  p.activation = Activation::relu;
  p.pool = Pool::max;
  Window& q = p.pool_window;
  q.kernel_h = q.kernel_w = q.stride_h = q.stride_w = 2;
  p.pool_h = p.pool_w = 4;
  p.input = channels_last({1, 8, 8, 8}), p.output = channels_last({1, 16, 4, 4});
  p.residual = channels_last({1, 16, 8, 8});
  Conv2dTensors tensors;
  tensors.weight = channels_last({16, 8, 3, 3});
  test_removals(name, [&](Run& run) {
    Random random(3);
    return run_conv2d<T, kMatrices>(random, p, tensors, run);
  });
}

}  // namespace zoo::simt
