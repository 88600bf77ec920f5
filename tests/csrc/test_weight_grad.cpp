// The gradients of convolutions' weights by every table against the reference, over random cases.
#include <cstring>

#include "reference.h"

namespace zoo::test {
namespace {

int64_t out_size(int64_t in, int64_t kernel, int64_t stride, int64_t pad, int64_t dilation) {
  const int64_t room = in + 2 * pad - dilation * (kernel - 1) - 1;
  return room < 0 ? 0 : room / stride + 1;
}

Conv2dParams random_case(Random& random, bool depthwise) {
  Conv2dParams p;
  for (;;) {
    p = {};
    p.batch = random.chance(0.04) ? 0 : random.whole(1, 5);
    if (depthwise) {
      p.in_channels = p.out_channels = p.groups = random.whole(1, random.chance(0.5) ? 9 : 40);
    } else {
      p.groups = random.chance(0.3) ? random.whole(2, 5) : 1;
      const int64_t in = random.pick<int64_t>({1, 3, 4, 8, 16, random.whole(1, 40)});
      const int64_t out = random.pick<int64_t>({4, 8, 16, 32, random.whole(1, 70)});
      p.in_channels = p.groups * (p.groups > 1 ? std::min<int64_t>(in, 9) : in);
      p.out_channels = p.groups * (p.groups > 1 ? std::min<int64_t>(out, 20) : out);
    }
    p.in_h = random.whole(1, random.chance(0.5) ? 8 : 24);
    p.in_w = random.whole(1, random.chance(0.5) ? 8 : 24);
    Window& w = p.window;
    w.kernel_h = random.pick<int64_t>({1, 1, 2, 3, 3, 3, 5, 7, 9});
    w.kernel_w = random.chance(0.8) ? w.kernel_h : random.whole(1, 9);
    w.stride_h = random.pick<int64_t>({1, 1, 1, 2, 3});
    w.stride_w = random.chance(0.8) ? w.stride_h : random.whole(1, 4);
    w.dilation_h = random.chance(0.7) ? 1 : random.whole(1, 3);
    w.dilation_w = random.chance(0.8) ? w.dilation_h : random.whole(1, 3);
    w.pad_h = random.chance(0.1) ? random.whole(0, 20) : random.whole(0, w.kernel_h / 2);
    w.pad_w = random.chance(0.8) ? w.pad_h : random.whole(0, 9);
    p.out_h = out_size(p.in_h, w.kernel_h, w.stride_h, w.pad_h, w.dilation_h);
    p.out_w = out_size(p.in_w, w.kernel_w, w.stride_w, w.pad_w, w.dilation_w);
    if (p.out_h == 0 || p.out_w == 0) continue;
    if (random.chance(0.2)) {  // not all that fits, or more: what is missing is padding
      p.out_h = std::max<int64_t>(p.out_h + random.whole(-2, 1), random.chance(0.1) ? 0 : 1);
      p.out_w = std::max<int64_t>(p.out_w + random.whole(-2, 1), 1);
    }
    return p;
  }
}

// Channels together, otherwise dense or with gaps, the images' order among the rows' too.
Strides random_channels_last(Random& random, const Shape& s) {
  const auto gap = [&] { return random.chance(0.3) ? random.whole(0, 5) : 0; };
  const int64_t w = s.c + gap(), h = s.w * w + gap();
  if (random.chance(0.1)) return {h, 1, s.n * h, w};
  return {s.h * h + gap(), 1, h, w};
}

Conv2dParams images(Conv2dParams p, int64_t count) {
  p.batch = count;
  return p;
}

template <typename T>
using Memory = std::unique_ptr<T, decltype(&std::free)>;

Memory<void> memory(int64_t bytes) {
  void* const p = std::aligned_alloc(64, static_cast<size_t>(bytes + 63) / 64 * 64);
  std::memset(p, 0xff, static_cast<size_t>(bytes));  // NaN, were it read
  return {p, &std::free};
}

template <typename T>
Value reference(const Conv2dParams& p, const Tensor<T>& input, const Tensor<T>& grad, int64_t o,
                int64_t c, int64_t r, int64_t s) {
  const int64_t channel = o / (p.out_channels / p.groups) * (p.in_channels / p.groups) + c;
  const Window& w = p.window;
  Value sum{0, 0};
  for (int64_t n = 0; n < p.batch; ++n) {
    for (int64_t y = 0; y < p.out_h; ++y) {
      for (int64_t x = 0; x < p.out_w; ++x) {
        const int64_t h = y * w.stride_h - w.pad_h + r * w.dilation_h;
        const int64_t v = x * w.stride_w - w.pad_w + s * w.dilation_w;
        if (h < 0 || h >= p.in_h || v < 0 || v >= p.in_w) continue;
        const double product = double(input.at(n, channel, h, v)) * double(grad.at(n, o, y, x));
        sum.value += product;
        sum.magnitude += std::abs(product);
      }
    }
  }
  return sum;
}

template <typename T>
void run_case(Random& random, const Conv2dWeightGradKernel<T>& kernel, Conv2dParams p) {
  const T gap = std::numeric_limits<T>::quiet_NaN();
  const Shape in{p.batch, p.in_channels, p.in_h, p.in_w};
  const Shape out{p.batch, p.out_channels, p.out_h, p.out_w};
  const Shape size{p.out_channels, p.in_channels / p.groups, p.window.kernel_h, p.window.kernel_w};
  p.input = random_channels_last(random, in);
  p.output = random_channels_last(random, out);
  Tensor<T> input(in, p.input, gap), grad(out, p.output, gap);
  fill(random, input, 2);
  fill(random, grad);
  Tensor<T> weight(size, random_strides(random, size, false), T(-12345)),
      again = {size, weight.strides, T(-12345)};

  const int32_t threads = random.pick({1, 2, 5});
  const Threads pool(threads);
  const int64_t bytes = kernel.sums_bytes(p, threads);
  CHECK(bytes == kernel.sums_bytes(images(p, 77), threads));
  // A few images at a time, twice the same way.
  const int64_t first =
      random.chance(0.5) ? p.batch : random.whole(std::min<int64_t>(p.batch, 1), p.batch);
  for (Tensor<T>* to : {&weight, &again}) {
    const Memory<void> sums = memory(bytes);
    const auto add = [&](int64_t begin, int64_t end) {
      const Conv2dParams some = images(p, end - begin);
      const auto workspace = workspace_of<T>(kernel.workspace_bytes(some, threads));
      CHECK(!raises_invalid([&] {
        kernel.add(some, input.data.get() + begin * p.input.n, grad.data.get() + begin * p.output.n,
                   begin == 0, sums.get(), workspace.get(), pool.parallel);
      }));
    };
    add(0, first);
    if (first < p.batch) add(first, p.batch);
    kernel.finish(p, sums.get(), to->data.get(), to->strides, pool.parallel);
  }

  const double eps = sizeof(T) == 4 ? 1e-6 : 1e-14;
  int wrong = 0;
  std::vector<bool> written(static_cast<size_t>(weight.size));
  weight.each([&](auto... i) {
    const Value expected = reference(p, input, grad, i...);
    written[static_cast<size_t>(weight.place(i...))] = true;
    if (!close(weight.at(i...), expected.value, eps * (1 + expected.magnitude))) ++wrong;
  });
  for (int64_t i = 0; i < weight.size; ++i) {
    if (!written[static_cast<size_t>(i)] && weight.data[i] != T(-12345)) ++wrong;
    if (weight.data[i] != again.data[i]) ++wrong;
  }
  if (wrong > 0) {
    const Window& w = p.window;
    std::fprintf(
        stderr,
        "%d wrong: %s n%ld (%ld first) c%ld %ldx%ld -> o%ld %ldx%ld g%ld k%ldx%ld s%ldx%ld "
        "p%ldx%ld d%ldx%ld in(%ld,%ld,%ld) grad(%ld,%ld,%ld) threads %d\n",
        wrong, kernel.name, p.batch, first, p.in_channels, p.in_h, p.in_w, p.out_channels, p.out_h,
        p.out_w, p.groups, w.kernel_h, w.kernel_w, w.stride_h, w.stride_w, w.pad_h, w.pad_w,
        w.dilation_h, w.dilation_w, p.input.n, p.input.h, p.input.w, p.output.n, p.output.h,
        p.output.w, threads);
  }
  CHECK(wrong == 0);
}

Conv2dParams square(int64_t n, int64_t c, int64_t hw, int64_t o, int64_t k, int64_t s, int64_t pad,
                    int64_t groups) {
  Conv2dParams p;
  p.batch = n, p.in_channels = c, p.in_h = p.in_w = hw, p.out_channels = o, p.groups = groups;
  p.window.kernel_h = p.window.kernel_w = k;
  p.window.stride_h = p.window.stride_w = s;
  p.window.pad_h = p.window.pad_w = pad;
  p.out_h = p.out_w = out_size(hw, k, s, pad, 1);
  return p;
}

// Many strips, blocks, slices of chunks, and threads that share the weight: what small random cases
// miss.
std::vector<Conv2dParams> large_cases() {
  return {
      square(3, 3, 40, 64, 7, 2, 3, 1),    // a stem
      square(6, 3, 30, 32, 3, 1, 0, 1),    // the tutorial's first layer
      square(7, 1, 28, 32, 3, 1, 1, 1),    // and that of digits
      square(3, 64, 30, 48, 3, 1, 1, 1),   // several blocks an image
      square(8, 130, 7, 131, 3, 1, 1, 1),  // threads share the weight, several images a block
      square(2, 300, 9, 460, 1, 1, 0, 1),  // and pixels without rows
      square(9, 700, 1, 200, 1, 1, 0, 1),  // linear
      square(2, 600, 12, 24, 1, 2, 0, 1),  // slices of chunks
      square(2, 64, 17, 64, 3, 2, 1, 16), square(2, 256, 20, 96, 1, 1, 0, 2),
  };
}

// How far the sums over many images are from those in double, relative to the largest: what
// blocks of sums are for.
void accuracy(Random& random, const KernelTable& table) {
  Conv2dParams p = square(128, 2, 30, 8, 3, 1, 1, 1);
  const Shape in{p.batch, 2, 30, 30}, out{p.batch, 8, 30, 30}, size{8, 2, 3, 3};
  p.input = {1800, 1, 60, 2}, p.output = {7200, 1, 240, 8};
  Tensor<float> input(in, p.input, 0), grad(out, p.output, 0), weight(size, {18, 9, 3, 1}, 0);
  fill(random, input);
  fill(random, grad);
  const Conv2dWeightGradKernel<float>& kernel = table.f32.weight_grad;
  const Memory<void> sums = memory(kernel.sums_bytes(p, 1));
  const Memory<void> workspace = memory(kernel.workspace_bytes(p, 1));
  kernel.add(p, input.data.get(), grad.data.get(), true, sums.get(), workspace.get(), {});
  kernel.finish(p, sums.get(), weight.data.get(), weight.strides, {});
  double error = 0, most = 0;
  weight.each([&](auto... i) {
    const double expected = reference(p, input, grad, i...).value;
    error = std::max(error, std::abs(weight.at(i...) - expected));
    most = std::max(most, std::abs(expected));
  });
  CHECK(error <= 3e-6 * most);
}

}  // namespace

void test_weight_grad() {
  const int cases = random_cases(400);
  for (const KernelTable* table : tables()) {
    Random random(13);
    for (int i = 0; i < cases; ++i) {
      const bool depthwise = i % 3 == 0;
      const Conv2dParams p = random_case(random, depthwise);
      const auto& f32 = table->f32;
      const auto& f64 = table->f64;
      run_case(random, depthwise ? f32.depthwise_weight_grad : f32.weight_grad, p);
      if (f64.weight_grad.add != nullptr && i % 2 == 0) {
        run_case(random, depthwise ? f64.depthwise_weight_grad : f64.weight_grad, p);
      }
    }
    for (const Conv2dParams& p : large_cases()) run_case(random, table->f32.weight_grad, p);
    run_case(random, table->f32.depthwise_weight_grad, square(3, 130, 30, 130, 3, 1, 1, 130));
    accuracy(random, *table);
  }
}

}  // namespace zoo::test
