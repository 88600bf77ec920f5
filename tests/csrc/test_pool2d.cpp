// Pools of every table against the reference, over random cases.
#include "reference.h"

namespace zoo::test {
namespace {

// PyTorch's output size: with ceil_mode the last window must still start inside.
int64_t pooled_size(int64_t in, int64_t kernel, int64_t stride, int64_t pad, int64_t dilation,
                    bool ceil_mode) {
  const int64_t room = in + 2 * pad - dilation * (kernel - 1) - 1;
  if (room < 0 && !ceil_mode) return 0;
  int64_t out = (room + (ceil_mode ? stride - 1 : 0)) / stride + 1;
  if (ceil_mode && (out - 1) * stride >= in + pad) --out;
  return out;
}

// A window whose place (1, 1) is what an adaptive pool's output (y, x) sees.
Window adaptive_window(const Pool2dParams& p, int64_t y, int64_t x) {
  Window w;
  w.stride_h = y * p.in_h / p.out_h, w.stride_w = x * p.in_w / p.out_w;
  w.kernel_h = ((y + 1) * p.in_h + p.out_h - 1) / p.out_h - w.stride_h;
  w.kernel_w = ((x + 1) * p.in_w + p.out_w - 1) / p.out_w - w.stride_w;
  return w;
}

// Of the input's size if given, and random in all else.
template <typename T>
void run_case(Random& random, const KernelTable& table, Pool kind, const Shape* size = nullptr) {
  // Windows side by side, as high as all the map, of maps that follow each other in memory.
  const bool stacked = size == nullptr && random.chance(0.1);
  Pool2dParams p;
  Window& w = p.window;
  do {
    p = {};
    p.batch = random.chance(0.05) ? 0 : random.whole(1, 3);
    p.channels = random.whole(1, random.chance(0.2) ? 150 : 33);
    p.in_h = random.whole(1, 33);
    p.in_w = random.whole(1, random.chance(0.2) ? 120 : 33);
    if (random.chance(0.03)) {  // more channels than a kernel sums at a time
      p.batch = 1, p.channels = random.whole(1020, 2200);
      p.in_h = random.whole(1, 8), p.in_w = random.whole(1, 12);
    }
    if (size != nullptr) {
      p.batch = size->n, p.channels = size->c, p.in_h = size->h, p.in_w = size->w;
    }
    w.kernel_h = random.whole(1, 5);
    w.kernel_w = random.chance(0.7) ? w.kernel_h : random.whole(1, 9);
    if (random.chance(0.1)) w.kernel_h = p.in_h, w.kernel_w = p.in_w;  // global
    w.stride_h = random.whole(1, 4);
    w.stride_w = random.chance(0.7) ? w.stride_h : random.whole(1, 4);
    w.pad_h = random.whole(0, w.kernel_h / 2);
    w.pad_w = random.whole(0, w.kernel_w / 2);
    if (stacked) {
      w.stride_h = w.kernel_h, w.pad_h = 0;
      p.in_h = w.kernel_h * random.whole(1, 9);
    } else if (kind == Pool::max && random.chance(0.3)) {
      w.dilation_h = random.whole(1, 3), w.dilation_w = random.whole(1, 3);
    }
    const bool ceil_mode = random.chance(0.5);
    p.out_h = pooled_size(p.in_h, w.kernel_h, w.stride_h, w.pad_h, w.dilation_h, ceil_mode);
    p.out_w = pooled_size(p.in_w, w.kernel_w, w.stride_w, w.pad_w, w.dilation_w, ceil_mode);
  } while (p.out_h <= 0 || p.out_w <= 0);
  p.count_include_pad = random.chance(0.5);
  p.divisor_override = random.chance(0.2) ? random.pick<int64_t>({1, 3, -2}) : 0;
  if (kind == Pool::avg && !stacked && random.chance(0.2)) {
    p.adaptive = true, p.divisor_override = 0, w = {};
    p.out_h = random.whole(1, p.in_h + 2), p.out_w = random.whole(1, p.in_w + 2);
  }

  const Shape in_shape{p.batch, p.channels, p.in_h, p.in_w};
  const Shape out_shape{p.batch, p.channels, p.out_h, p.out_w};
  p.input = random_strides(random, in_shape, true);
  p.output = random_strides(random, out_shape, false);
  if (stacked) {
    p.input = {p.channels * p.in_h * p.in_w, p.in_h * p.in_w, p.in_w, 1};
    p.output = {p.channels * p.out_h * p.out_w, p.out_h * p.out_w, p.out_w, 1};
  }
  Tensor<T> input(in_shape, p.input, std::numeric_limits<T>::quiet_NaN());
  Tensor<T> output(out_shape, p.output, T(-12345));
  Tensor<int64_t> indices(out_shape, p.output, -7);
  fill(random, input);
  if (random.chance(0.3)) {  // ties
    input.each([&](auto... i) { input.at(i...) = std::round(input.at(i...) * 2); });
  }
  if (random.chance(0.3)) spoil(random, input);
  if (random.chance(0.05)) {
    input.each([&](auto... i) { input.at(i...) = -std::numeric_limits<T>::infinity(); });
  }

  Threads pool(random.pick({1, 2, 5}));
  const bool with_indices = kind == Pool::max && random.chance(0.6);
  if (kind == Pool::max) {
    kernels_of<T>(table).pool.max_pool2d(p, input.data.get(), output.data.get(),
                                         with_indices ? indices.data.get() : nullptr,
                                         pool.parallel);
  } else {
    kernels_of<T>(table).pool.avg_pool2d(p, input.data.get(), output.data.get(), pool.parallel);
  }

  int wrong = 0;
  output.each([&](int64_t n, int64_t c, int64_t y, int64_t x) {
    const double got = output.at(n, c, y, x);
    const Window window = p.adaptive ? adaptive_window(p, y, x) : w;
    if (p.adaptive) y = x = 1;
    const Pooled expected = pooled(kind, window, p.in_h, p.in_w, p.count_include_pad,
                                   p.divisor_override, y, x, [&](int64_t h, int64_t v) {
                                     const double value = input.at(n, c, h, v);
                                     return Value{value, std::abs(value)};
                                   });
    // A row of a window is one running sum, and so are the rows.
    const int64_t steps = std::max<int64_t>(16, window.kernel_h + window.kernel_w);
    const double eps = (sizeof(T) == 4 ? 1e-6 : 1e-14) * static_cast<double>(steps) / 16;
    const double bound = kind == Pool::max                   ? 0
                         : std::isfinite(expected.magnitude) ? eps * expected.magnitude
                                                             : eps;
    if (!close(got, expected.value, bound)) ++wrong;
    // A dilated window may see nothing at all; PyTorch's index then points nowhere either.
    if (with_indices && expected.index >= 0 && indices.at(n, c, y, x) != expected.index) ++wrong;
  });
  if (wrong > 0) {
    std::fprintf(stderr,
                 "%s %s: %d wrong: n%ld c%ld %ldx%ld -> %ldx%ld k%ldx%ld s%ldx%ld p%ldx%ld "
                 "d%ldx%ld%s in(%ld,%ld,%ld,%ld) out(%ld,%ld,%ld,%ld)\n",
                 table.isa, kind == Pool::max ? "max_pool2d" : "avg_pool2d", wrong, p.batch,
                 p.channels, p.in_h, p.in_w, p.out_h, p.out_w, w.kernel_h, w.kernel_w, w.stride_h,
                 w.stride_w, w.pad_h, w.pad_w, w.dilation_h, w.dilation_w,
                 p.adaptive ? " adaptive" : "", p.input.n, p.input.c, p.input.h, p.input.w,
                 p.output.n, p.output.c, p.output.h, p.output.w);
  }
  CHECK(wrong == 0);
}

// A window of more than 2^24 elements, whose numbers a float no longer holds.
void far_indices(const KernelTable& table) {
  const Shape shape{1, 1, 1, 16'777'300};
  const Strides dense{shape.w, shape.w, shape.w, 1};
  Tensor<float> input(shape, dense, 0), output({1, 1, 1, 2}, {2, 2, 2, 1}, 0);
  Tensor<int64_t> index({1, 1, 1, 2}, {2, 2, 2, 1}, -7);
  input.at(0, 0, 0, shape.w - 3) = 1;
  Pool2dParams p;
  p.batch = p.channels = p.in_h = p.out_h = 1;
  p.in_w = shape.w, p.out_w = 2;
  p.window.kernel_w = shape.w - 1;
  p.input = dense, p.output = output.strides;
  kernels_of<float>(table).pool.max_pool2d(p, input.data.get(), output.data.get(), index.data.get(),
                                           {});
  for (int64_t x : {0, 1}) {
    CHECK(output.at(0, 0, 0, x) == 1);
    CHECK(index.at(0, 0, 0, x) == shape.w - 3);
  }
}

// Every map side and channel count about the vectors and blocks, and every batch.
void test_edges(const KernelTable& table) {
  Random random(17);
  std::vector<Shape> sizes;
  for (int64_t i = 1; i <= 33; ++i) sizes.insert(sizes.end(), {{1, 3, i, 34 - i}, {2, i, 5, 9}});
  for (int64_t c : {63, 64, 65, 127, 128, 129}) sizes.push_back({1, c, 7, 6});
  for (int64_t n : {0, 1, 3, 8}) sizes.push_back({n, 17, 9, 12});
  for (const Shape& size : sizes) {
    for (const Pool kind : {Pool::max, Pool::avg}) {
      run_case<float>(random, table, kind, &size);
      if (table.f64.pool.max_pool2d != nullptr) run_case<double>(random, table, kind, &size);
    }
  }
}

}  // namespace

void test_pool2d() {
  for (const KernelTable* table : tables()) {
    far_indices(*table);
    test_edges(*table);
    Random random(11);
    for (int i = 0; i < random_cases(600); ++i) {
      run_case<float>(random, *table, Pool::max);
      run_case<float>(random, *table, Pool::avg);
      if (table->f64.pool.max_pool2d == nullptr) continue;
      run_case<double>(random, *table, Pool::max);
      run_case<double>(random, *table, Pool::avg);
    }
  }
}

}  // namespace zoo::test
