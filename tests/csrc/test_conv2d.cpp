// conv2d and conv2d_pool of every table against the reference, over random cases.
#include <cstring>

#include "conv2d_list.h"
#include "pack.h"
#include "reference.h"

namespace zoo::test {
namespace {

const Activation kActivations[] = {
    Activation::none,        Activation::relu,      Activation::relu6, Activation::sigmoid,
    Activation::tanh,        Activation::silu,      Activation::gelu,  Activation::hardswish,
    Activation::hardsigmoid, Activation::leaky_relu};

int64_t out_size(int64_t in, int64_t kernel, int64_t stride, int64_t pad, int64_t dilation) {
  const int64_t room = in + 2 * pad - dilation * (kernel - 1) - 1;
  return room < 0 ? 0 : room / stride + 1;
}

std::string describe(const char* kernel, const Conv2dParams& p, int32_t threads) {
  char text[512];
  const Window &w = p.window, &q = p.pool_window;
  std::snprintf(text, sizeof text,
                "%s n%ld c%ld %ldx%ld -> o%ld %ldx%ld g%ld k%ldx%ld s%ldx%ld p%ldx%ld d%ldx%ld "
                "act %d pool %d k%ldx%ld s%ldx%ld p%ldx%ld -> %ldx%ld in(%ld,%ld,%ld,%ld) "
                "out(%ld,%ld,%ld,%ld) threads %d",
                kernel, p.batch, p.in_channels, p.in_h, p.in_w, p.out_channels, p.out_h, p.out_w,
                p.groups, w.kernel_h, w.kernel_w, w.stride_h, w.stride_w, w.pad_h, w.pad_w,
                w.dilation_h, w.dilation_w, int(p.activation), int(p.pool), q.kernel_h, q.kernel_w,
                q.stride_h, q.stride_w, q.pad_h, q.pad_w, p.pool_h, p.pool_w, p.input.n, p.input.c,
                p.input.h, p.input.w, p.output.n, p.output.c, p.output.h, p.output.w, threads);
  return text;
}

template <typename T>
void run_case(Random& random, const KernelTable& table, Conv2dParams p, bool special) {
  const T gap = std::numeric_limits<T>::quiet_NaN();
  const int64_t in_group = p.in_channels / p.groups;
  const Shape in_shape{p.batch, p.in_channels, p.in_h, p.in_w};
  const Shape map_shape{p.batch, p.out_channels, p.out_h, p.out_w};
  const Shape out_shape =
      p.pool == Pool::none ? map_shape : Shape{p.batch, p.out_channels, p.pool_h, p.pool_w};
  const Shape weight_shape{p.out_channels, in_group, p.window.kernel_h, p.window.kernel_w};
  p.input = random_strides(random, in_shape, true);
  p.output = random_strides(random, out_shape, false);
  p.residual = random_strides(random, map_shape, true);

  Tensor<T> input(in_shape, p.input, gap);
  Tensor<T> weight(weight_shape, random_strides(random, weight_shape, false), gap);
  Tensor<T> residual(map_shape, p.residual, gap);
  Tensor<T> output(out_shape, p.output, T(-12345));
  fill(random, input, 2);
  fill(random, weight);
  fill(random, residual);
  if (special) spoil(random, input);
  std::unique_ptr<T[]> bias;
  if (random.chance(0.6)) {
    bias.reset(new T[p.out_channels]);
    for (int64_t o = 0; o < p.out_channels; ++o) bias[o] = static_cast<T>(random.real() - 0.5);
  }
  const bool with_residual = p.pool == Pool::none && random.chance(0.4);

  const int64_t packed_count =
      packed_size(p.out_channels, in_group, p.window.kernel_h, p.window.kernel_w, p.groups);
  std::unique_ptr<T[]> packed(new T[packed_count]);
  pack_weight(weight.data.get(), weight.strides, p.out_channels, in_group, p.window.kernel_h,
              p.window.kernel_w, p.groups, packed.get());

  const DType dtype = sizeof(T) == 4 ? DType::float32 : DType::float64;
  const Kernels<T>& kernels = kernels_of<T>(table);
  const bool depthwise = packing_of(p.out_channels, in_group, p.groups) == Packing::depthwise;
#if defined(__x86_64__)
  CHECK(select_conv2d(p, dtype) == (depthwise ? Conv2dImpl::depthwise : Conv2dImpl::gemm));
#else
  CHECK(select_conv2d(p, dtype) == Conv2dImpl::aten);
#endif
  const Conv2dKernel<T>& kernel = depthwise ? kernels.depthwise : kernels.gemm;

  const int32_t threads = random.pick({1, 2, 5});
  Threads pool(threads);
  const int64_t bytes = kernel.workspace_bytes(p, threads);
  void* workspace = std::aligned_alloc(64, static_cast<size_t>(bytes + 63) / 64 * 64);
  std::memset(workspace, 0xff, static_cast<size_t>(bytes));  // NaN, were it read
  kernel.run(p, input.data.get(), packed.get(), bias.get(),
             with_residual ? residual.data.get() : nullptr, output.data.get(), workspace,
             pool.parallel);
  std::free(workspace);

  const double eps = sizeof(T) == 4 ? 1e-6 : 1e-14;
  int wrong = 0;
  std::vector<bool> written(static_cast<size_t>(output.size));
  output.each([&](int64_t n, int64_t o, int64_t y, int64_t x) {
    const auto conv = [&](int64_t h, int64_t w) {
      return convolution(p, input, weight, bias.get(), with_residual ? &residual : nullptr, n, o, h,
                         w);
    };
    Value expected;
    if (p.pool == Pool::none) {
      expected = conv(y, x);
    } else {
      const Pooled result = pooled(p.pool, p.pool_window, p.out_h, p.out_w, true, 0, y, x, conv);
      expected = {result.value, result.magnitude};
    }
    const double got = output.at(n, o, y, x);
    written[static_cast<size_t>(output.place(n, o, y, x))] = true;
    const double bound = eps * (2 + 2 * expected.magnitude);
    if (!close(got, expected.value, bound) && wrong++ == 0) {
      std::fprintf(stderr, "[%ld,%ld,%ld,%ld] = %.9g, not %.9g\n", n, o, y, x, got, expected.value);
    }
  });
  for (int64_t i = 0; i < output.size; ++i) {
    if (!written[static_cast<size_t>(i)] && output.data[i] != T(-12345)) ++wrong;
  }
  if (wrong > 0)
    std::fprintf(stderr, "%d wrong: %s\n", wrong, describe(kernel.name, p, threads).c_str());
  CHECK(wrong == 0);
}

Conv2dParams random_case(Random& random, bool large) {
  Conv2dParams p;
  for (;;) {
    p = {};
    p.batch = random.chance(0.04) ? 0 : random.whole(1, 3);
    const int64_t most = large ? 70 : 33;
    if (random.chance(0.3)) {  // depthwise
      p.in_channels = p.out_channels = p.groups = random.whole(1, most);
    } else {
      p.groups = random.chance(0.3) ? random.whole(2, 4) : 1;
      p.in_channels = p.groups * random.whole(1, std::max<int64_t>(1, most / p.groups));
      p.out_channels = p.groups * random.whole(1, std::max<int64_t>(1, 2 * most / p.groups));
    }
    p.in_h = random.whole(1, random.chance(0.5) ? 8 : 33);
    p.in_w = random.whole(1, random.chance(0.5) ? 8 : 33);
    Window& w = p.window;
    w.kernel_h = random.pick<int64_t>({1, 1, 2, 3, 3, 3, 5, 7});
    w.kernel_w = random.chance(0.8) ? w.kernel_h : random.whole(1, 7);
    w.stride_h = random.pick<int64_t>({1, 1, 1, 2, 3});
    w.stride_w = random.chance(0.8) ? w.stride_h : random.whole(1, 4);
    w.dilation_h = random.chance(0.7) ? 1 : random.whole(1, 3);
    w.dilation_w = random.chance(0.8) ? w.dilation_h : random.whole(1, 3);
    w.pad_h = random.chance(0.1) ? random.whole(0, 20) : random.whole(0, w.kernel_h / 2 + 1);
    w.pad_w = random.chance(0.8) ? w.pad_h : random.whole(0, 9);
    p.out_h = out_size(p.in_h, w.kernel_h, w.stride_h, w.pad_h, w.dilation_h);
    p.out_w = out_size(p.in_w, w.kernel_w, w.stride_w, w.pad_w, w.dilation_w);
    if (p.out_h > 0 && p.out_w > 0) break;
  }
  p.activation = kActivations[random.whole(0, 9)];
  if (random.chance(0.4)) {
    Window q;
    q.kernel_h = random.whole(1, 4);
    q.kernel_w = random.chance(0.7) ? q.kernel_h : random.whole(1, 4);
    q.stride_h = random.whole(1, 4);
    q.stride_w = random.chance(0.7) ? q.stride_h : random.whole(1, 3);
    q.pad_h = random.whole(0, q.kernel_h / 2);
    q.pad_w = random.whole(0, q.kernel_w / 2);
    p.pool = random.chance(0.5) ? Pool::max : Pool::avg;
    if (p.pool == Pool::max && random.chance(0.2)) q.dilation_h = q.dilation_w = 2;
    p.pool_window = q;
    p.pool_h = out_size(p.out_h, q.kernel_h, q.stride_h, q.pad_h, q.dilation_h);
    p.pool_w = out_size(p.out_w, q.kernel_w, q.stride_w, q.pad_w, q.dilation_w);
    if (p.pool_h == 0 || p.pool_w == 0) p.pool = Pool::none;
  }
  return p;
}

// Deep sums, many panels, many pixel blocks, wide and tall maps: what small random cases miss.
std::vector<Conv2dParams> large_cases() {
  struct Size {
    int64_t n, c, h, w, o, k, s, p, g;
    Pool pool;
    int64_t pk, ps, pp;
  };
  const Size sizes[] = {
      {1, 128, 6, 6, 70, 3, 1, 1, 1, Pool::none, 1, 1, 0},    // three depth blocks
      {1, 600, 3, 5, 40, 1, 1, 0, 1, Pool::none, 1, 1, 0},    // two, of 304 and 296
      {1, 520, 1, 1, 33, 1, 1, 0, 1, Pool::none, 1, 1, 0},    // one pixel
      {2, 8, 20, 21, 600, 1, 1, 0, 1, Pool::none, 1, 1, 0},   // two slices of panels
      {1, 3, 40, 40, 64, 7, 2, 3, 1, Pool::max, 3, 2, 1},     // a stem
      {1, 64, 14, 14, 96, 3, 1, 1, 1, Pool::avg, 2, 2, 0},    // two depth blocks, pooled
      {3, 3, 32, 32, 32, 3, 1, 0, 1, Pool::max, 2, 2, 0},     // the tutorial's first layer
      {1, 2, 5, 700, 40, 3, 1, 1, 1, Pool::max, 3, 1, 1},     // wide
      {1, 70, 30, 30, 70, 3, 1, 1, 70, Pool::none, 1, 1, 0},  // depthwise
      {1, 300, 9, 9, 300, 3, 2, 1, 300, Pool::max, 2, 2, 0},
      {2, 40, 10, 10, 80, 1, 1, 0, 40, Pool::none, 1, 1, 0},  // two filters a channel
      {1, 34, 13, 90, 34, 5, 1, 2, 34, Pool::avg, 3, 2, 1},
  };
  std::vector<Conv2dParams> cases;
  for (const Size& z : sizes) {
    Conv2dParams p;
    p.batch = z.n, p.in_channels = z.c, p.in_h = z.h, p.in_w = z.w;
    p.out_channels = z.o, p.groups = z.g;
    p.window.kernel_h = p.window.kernel_w = z.k;
    p.window.stride_h = p.window.stride_w = z.s;
    p.window.pad_h = p.window.pad_w = z.p;
    p.out_h = out_size(z.h, z.k, z.s, z.p, 1), p.out_w = out_size(z.w, z.k, z.s, z.p, 1);
    p.activation = Activation::relu;
    p.pool = z.pool;
    p.pool_window.kernel_h = p.pool_window.kernel_w = z.pk;
    p.pool_window.stride_h = p.pool_window.stride_w = z.ps;
    p.pool_window.pad_h = p.pool_window.pad_w = z.pp;
    if (z.pool != Pool::none) {
      p.pool_h = out_size(p.out_h, z.pk, z.ps, z.pp, 1);
      p.pool_w = out_size(p.out_w, z.pk, z.ps, z.pp, 1);
    }
    cases.push_back(p);
  }
  return cases;
}

}  // namespace

void test_conv2d() {
  const char* wanted = std::getenv("ZOO_TEST_CASES");
  const int cases = wanted != nullptr ? std::atoi(wanted) : 400;
  for (const KernelTable* table : tables()) {
    Random random(7);
    for (int i = 0; i < cases; ++i) {
      const Conv2dParams p = random_case(random, i % 8 == 0);
      run_case<float>(random, *table, p, i % 5 == 0);
      if (table->f64.gemm.run != nullptr && i % 4 == 0) run_case<double>(random, *table, p, false);
    }
    for (const Conv2dParams& p : large_cases()) {
      for (int i = 0; i < 3; ++i) run_case<float>(random, *table, p, false);
    }
  }
}

}  // namespace zoo::test
