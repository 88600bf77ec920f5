// Both pooling kernels in all layouts, for windows of every kind.
#include "cuda/pool2d_body.h"
#include "support.h"

namespace zoo::simt {
namespace {

// A window whose place (1, 1) is what an adaptive pool's output (y, x) sees.
Window adaptive_window(const Pool2dParams& p, int64_t y, int64_t x) {
  Window w;
  w.stride_h = y * p.in_h / p.out_h, w.stride_w = x * p.in_w / p.out_w;
  w.kernel_h = ((y + 1) * p.in_h + p.out_h - 1) / p.out_h - w.stride_h;
  w.kernel_w = ((x + 1) * p.in_w + p.out_w - 1) / p.out_w - w.stride_w;
  return w;
}

template <typename T>
int run_pool2d(Random& random, const Pool2dParams& p, Pool kind, bool spoilt, Run& run) {
  Numbers<T> input({p.batch, p.channels, p.in_h, p.in_w}, p.input);
  Tensor<T> output({p.batch, p.channels, p.out_h, p.out_w}, p.output, T{});
  input.fill(random);
  if (spoilt) {
    test::spoil(random, input.exact);
    input.round();
  }
  const cuda::Pool2dPlan plan =
      cuda::plan_pool2d(p, kind, sizeof(T), input.data.data.get(), output.data.get());
  if (plan.declines != nullptr) return 1;
  const auto with = [&](auto chunks) {
    launch(plan.grid, run, [&](Block& block, int32_t thread) {
      HostContext<true> ctx(block, thread);
      if (plan.kernel == cuda::PoolKernel::global) {
        cuda::pool2d_global_body<T, decltype(chunks)::value>(
            ctx, plan.problem, input.data.data.get(), output.data.get());
      } else {
        cuda::pool2d_window_body<T, decltype(chunks)::value>(
            ctx, plan.problem, input.data.data.get(), output.data.get());
      }
    });
  };
  plan.chunks ? with(std::true_type{}) : with(std::false_type{});

  int wrong = 0;
  output.each([&](int64_t n, int64_t c, int64_t y, int64_t x) {
    const double got = cuda::to_float(output.at(n, c, y, x));
    const Window window = p.adaptive ? adaptive_window(p, y, x) : p.window;
    if (p.adaptive) y = x = 1;
    const test::Pooled expected =
        test::pooled(kind, window, p.in_h, p.in_w, p.count_include_pad, p.divisor_override, y, x,
                     [&](int64_t h, int64_t v) {
                       const double value = input.exact.at(n, c, h, v);
                       return test::Value{value, std::isfinite(value) ? std::abs(value) : 0};
                     });
    const double size = std::isfinite(expected.value) ? std::abs(expected.value) : 0;
    const double bound =
        kind == Pool::max ? 0 : 1e-6 * expected.magnitude + 1.01 * kUnit<T> * size + kTiny<T>;
    if (!test::close(got, expected.value, bound)) ++wrong;
  });
  return wrong;
}

Pool2dParams random_pool2d(Random& random, Pool kind) {
  Pool2dParams p;
  Window& w = p.window;
  const auto pooled = [](int64_t in, int64_t kernel, int64_t stride, int64_t pad, int64_t dilation,
                         bool ceil_mode) {
    const int64_t room = in + 2 * pad - dilation * (kernel - 1) - 1;
    if (room < 0 && !ceil_mode) return int64_t{0};
    int64_t out = (room + (ceil_mode ? stride - 1 : 0)) / stride + 1;
    if (ceil_mode && (out - 1) * stride >= in + pad) --out;
    return out;
  };
  do {
    p = {};
    p.batch = random.whole(1, 3);
    p.channels = random.chance(0.5) ? 8 * random.whole(1, 20) : random.whole(1, 33);
    p.in_h = random.whole(1, 20), p.in_w = random.whole(1, 20);
    w.kernel_h = random.whole(1, 5);
    w.kernel_w = random.chance(0.7) ? w.kernel_h : random.whole(1, 9);
    if (random.chance(0.3)) w.kernel_h = p.in_h, w.kernel_w = p.in_w;  // all of the map
    w.stride_h = random.whole(1, 4);
    w.stride_w = random.chance(0.7) ? w.stride_h : random.whole(1, 4);
    if (random.chance(0.7)) {
      w.pad_h = random.whole(0, w.kernel_h / 2), w.pad_w = random.whole(0, w.kernel_w / 2);
    }
    if (kind == Pool::max && random.chance(0.3)) {
      w.dilation_h = random.whole(1, 3), w.dilation_w = random.whole(1, 3);
    }
    const bool ceil_mode = random.chance(0.5);
    p.out_h = pooled(p.in_h, w.kernel_h, w.stride_h, w.pad_h, w.dilation_h, ceil_mode);
    p.out_w = pooled(p.in_w, w.kernel_w, w.stride_w, w.pad_w, w.dilation_w, ceil_mode);
  } while (p.out_h <= 0 || p.out_w <= 0);
  p.count_include_pad = random.chance(0.5);
  p.divisor_override = random.chance(0.2) ? random.pick<int64_t>({1, 3, -2}) : 0;
  if (kind == Pool::avg && random.chance(0.3)) {
    p.adaptive = true, p.divisor_override = 0, w = {};
    p.out_h = random.whole(1, p.in_h + 2), p.out_w = random.whole(1, p.in_w + 2);
    if (random.chance(0.5)) p.out_h = p.out_w = 1;
  }
  p.input = some_strides(random, {p.batch, p.channels, p.in_h, p.in_w});
  p.output = some_strides(random, {p.batch, p.channels, p.out_h, p.out_w});
  return p;
}

template <typename T>
void random_cases(int count, uint64_t seed) {
  Random random(seed);
  for (int i = 0; i < cases(count); ++i) {
    const Pool kind = i % 2 == 0 ? Pool::max : Pool::avg;
    const Pool2dParams p = random_pool2d(random, kind);
    Run run = random_run(random);
    const int wrong = run_pool2d<T>(random, p, kind, random.chance(0.2), run);
    if (wrong > 0) {
      const Window& w = p.window;
      std::fprintf(stderr,
                   "%s_pool2d: %d wrong: n%ld c%ld %ldx%ld -> %ldx%ld k%ldx%ld s%ldx%ld p%ldx%ld "
                   "d%ldx%ld%s\n",
                   kind == Pool::max ? "max" : "avg", wrong, p.batch, p.channels, p.in_h, p.in_w,
                   p.out_h, p.out_w, w.kernel_h, w.kernel_w, w.stride_h, w.stride_w, w.pad_h,
                   w.pad_w, w.dilation_h, w.dilation_w, p.adaptive ? " adaptive" : "");
    }
    CHECK(wrong == 0);
  }
}

}  // namespace

void test_pool2d() {
  random_cases<float>(160, 31);
  random_cases<cuda::Half>(80, 32);
  random_cases<cuda::BFloat16>(40, 33);
  for (Pool kind : {Pool::max, Pool::avg}) {
    test_removals("pool2d", [=](Run& run) {
      Random random(34);
      Pool2dParams p;
      p.batch = 1, p.channels = 24, p.in_h = 8, p.in_w = 9, p.out_h = p.out_w = 1;
      p.window.kernel_h = 8, p.window.kernel_w = 9;
      p.input = channels_last({1, 24, 8, 9}), p.output = channels_last({1, 24, 1, 1});
      return run_pool2d<float>(random, p, kind, false, run);
    });
  }
}

}  // namespace zoo::simt
