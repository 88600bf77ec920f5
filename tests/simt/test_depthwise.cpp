// The depthwise kernel: every window and stride, every kind of edge, all types.
#include "cuda/depthwise_body.h"
#include "support.h"

namespace zoo::simt {
namespace {

template <typename T>
int run_depthwise(Random& random, const Conv2dParams& p, const Strides& weight_strides,
                  bool with_bias, bool spoilt, Run& run) {
  Numbers<T> input({p.batch, p.in_channels, p.in_h, p.in_w}, p.input);
  Numbers<T> weight({p.in_channels, 1, p.window.kernel_h, p.window.kernel_w}, weight_strides);
  Numbers<T> bias({p.in_channels, 1, 1, 1}, {1, 1, 1, 1});
  Tensor<T> output({p.batch, p.in_channels, p.out_h, p.out_w}, p.output, T{});
  input.fill(random);
  weight.fill(random);
  bias.fill(random);
  if (spoilt) {
    test::spoil(random, input.exact);
    input.round();
  }
  const cuda::DepthwisePlan plan = cuda::plan_depthwise(
      p, weight_strides, sizeof(T), input.data.data.get(), false, output.data.get());
  if (plan.declines != nullptr) return 1;
  const auto with = [&](auto kernel, auto stride) {
    launch(plan.grid, run, [&](Block& block, int32_t thread) {
      HostContext<true> ctx(block, thread);
      cuda::depthwise_body<T, decltype(kernel)::value, decltype(stride)::value>(
          ctx, plan.problem, input.data.data.get(), weight.data.data.get(),
          with_bias ? bias.data.data.get() : nullptr, output.data.get());
    });
  };
  const auto with_kernel = [&](auto stride) {
    if (plan.kernel == 3) with(std::integral_constant<int32_t, 3>{}, stride);
    if (plan.kernel == 5) with(std::integral_constant<int32_t, 5>{}, stride);
    if (plan.kernel == 7) with(std::integral_constant<int32_t, 7>{}, stride);
  };
  if (plan.stride == 1) with_kernel(std::integral_constant<int32_t, 1>{});
  if (plan.stride == 2) with_kernel(std::integral_constant<int32_t, 2>{});

  int wrong = 0;
  output.each([&](auto... at) {
    const test::Value expected = test::convolution<double>(
        p, input.exact, weight.exact, with_bias ? bias.exact.data.get() : nullptr, nullptr, at...);
    const double size = std::isfinite(expected.value) ? std::abs(expected.value) : 0;
    const double bound = 2e-6 * (1 + expected.magnitude) + 1.01 * kUnit<T> * size + kTiny<T>;
    if (!test::close(cuda::to_float(output.at(at...)), expected.value, bound)) ++wrong;
  });
  return wrong;
}

Conv2dParams random_depthwise(Random& random) {
  Conv2dParams p;
  do {
    p = {};
    p.batch = random.whole(1, 2);
    p.groups = random.chance(0.5) ? 8 * random.whole(1, 6) : random.whole(1, 50);
    p.in_channels = p.out_channels = p.groups;
    p.in_h = random.whole(1, 20), p.in_w = random.whole(1, 20);
    Window& w = p.window;
    w.kernel_h = w.kernel_w = random.pick<int64_t>({3, 5, 7});
    w.stride_h = w.stride_w = random.whole(1, 2);
    w.pad_h = random.whole(0, w.kernel_h / 2 + 1), w.pad_w = random.whole(0, w.kernel_w / 2 + 1);
    p.out_h = out_size(p.in_h, w.kernel_h, w.stride_h, w.pad_h, 1);
    p.out_w = out_size(p.in_w, w.kernel_w, w.stride_w, w.pad_w, 1);
  } while (p.out_h == 0 || p.out_w == 0);
  p.activation = static_cast<Activation>(random.whole(0, 9));
  p.input = some_strides(random, {p.batch, p.in_channels, p.in_h, p.in_w});
  p.output = some_strides(random, {p.batch, p.in_channels, p.out_h, p.out_w});
  return p;
}

template <typename T>
void random_cases(int count, uint64_t seed) {
  Random random(seed);
  for (int i = 0; i < cases(count); ++i) {
    const Conv2dParams p = random_depthwise(random);
    const int64_t k = p.window.kernel_h;
    Run run = random_run(random);
    const int wrong = run_depthwise<T>(random, p, some_strides(random, {p.in_channels, 1, k, k}),
                                       random.chance(0.7), random.chance(0.1), run);
    if (wrong > 0) {
      std::fprintf(stderr, "depthwise: %d wrong: n%ld c%ld %ldx%ld k%ld s%ld p%ldx%ld\n", wrong,
                   p.batch, p.in_channels, p.in_h, p.in_w, k, p.window.stride_h, p.window.pad_h,
                   p.window.pad_w);
    }
    CHECK(wrong == 0);
  }
}

}  // namespace

void test_depthwise() {
  random_cases<float>(60, 21);
  random_cases<cuda::Half>(40, 22);
  random_cases<cuda::BFloat16>(20, 23);
  test_removals("depthwise", [](Run& run) {
    Random random(24);
    Conv2dParams p = random_depthwise(random);
    p.input = channels_last({p.batch, p.in_channels, p.in_h, p.in_w});
    const int64_t k = p.window.kernel_h;
    return run_depthwise<float>(random, p, {k * k, k * k, k, 1}, true, false, run);
  });
}

}  // namespace zoo::simt
