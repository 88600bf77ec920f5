// The depthwise kernel of every table against the reference: the windows that have code of their
// own and some that have not, at every kind of edge, in both layouts.
#include "conv2d_case.h"

namespace zoo::test {
namespace {

Conv2dParams random_case(Random& random) {
  Conv2dParams p;
  for (;;) {
    p = {};
    p.batch = random.whole(1, 2);
    p.in_channels = p.out_channels = p.groups = random.whole(1, random.chance(0.2) ? 9 : 33);
    p.in_h = random.whole(1, random.chance(0.5) ? 9 : 33);
    p.in_w = random.whole(1, random.chance(0.5) ? 9 : 33);
    if (random.chance(0.2)) p.in_w = random.whole(40, 90);
    if (random.chance(0.1)) {  // pixels that crowd each other out of L1
      p.in_channels = p.out_channels = p.groups = 128 * random.whole(1, 4) + random.pick({0, 0, 3});
      p.in_h = random.whole(1, 9), p.in_w = random.whole(1, 17);
    }
    Window& w = p.window;
    w.kernel_h = w.kernel_w = random.pick<int64_t>({3, 3, 5, 7, 9, 11});
    w.stride_h = w.stride_w = random.pick<int64_t>({1, 1, 2, 2, 3});
    w.pad_h = random.whole(0, 3);
    w.pad_w = random.chance(0.7) ? w.pad_h : random.whole(0, 3);
    w.dilation_h = w.dilation_w = random.chance(0.9) ? 1 : 2;
    p.out_h = out_size(p.in_h, w.kernel_h, w.stride_h, w.pad_h, w.dilation_h);
    p.out_w = out_size(p.in_w, w.kernel_w, w.stride_w, w.pad_w, w.dilation_w);
    if (p.out_h > 0 && p.out_w > 0) break;
  }
  p.activation =
      random.pick({Activation::none, Activation::relu, Activation::relu, Activation::hardswish});
  if (random.chance(0.2)) {
    p.pool = random.chance(0.5) ? Pool::max : Pool::avg;
    p.pool_window.kernel_h = p.pool_window.kernel_w = random.whole(1, 3);
    p.pool_window.stride_h = p.pool_window.stride_w = random.whole(1, 2);
    p.pool_h = out_size(p.out_h, p.pool_window.kernel_h, p.pool_window.stride_h, 0, 1);
    p.pool_w = out_size(p.out_w, p.pool_window.kernel_w, p.pool_window.stride_w, 0, 1);
    if (p.pool_h == 0 || p.pool_w == 0) p.pool = Pool::none;
  }
  return p;
}

// Every remainder that channels and maps can leave.
void test_edges(Random& random, const KernelTable& table) {
  const auto run = [&](int64_t batch, int64_t channels, int64_t h, int64_t w, int64_t kernel,
                       int64_t stride) {
    Conv2dParams p;
    p.batch = batch, p.in_channels = p.out_channels = p.groups = channels;
    p.in_h = h, p.in_w = w;
    p.window.kernel_h = p.window.kernel_w = kernel;
    p.window.stride_h = p.window.stride_w = stride;
    p.window.pad_h = p.window.pad_w = kernel / 2;
    p.out_h = out_size(h, kernel, stride, kernel / 2, 1);
    p.out_w = out_size(w, kernel, stride, kernel / 2, 1);
    for (const Layout layout : {Layout::nchw, Layout::channels_last}) {
      run_case<float>(random, table, p, Conv2dImpl::depthwise, false, layout);
    }
  };
  for (const int64_t kernel : {3, 5, 7}) {
    for (const int64_t stride : {1, 2}) {
      for (int64_t i = 1; i <= 33; ++i) run(1, 3, i, 34 - i, kernel, stride);
    }
  }
  for (int64_t channels = 1; channels <= 33; ++channels) run(1, channels, 5, 7, 3, 1);
  for (int64_t channels : {63, 64, 65, 127, 128, 129}) run(1, channels, 3, 5, 5, 1);
  for (int64_t batch : {0, 1, 3, 8}) run(batch, 17, 5, 7, 3, 2);
}

}  // namespace

void test_depthwise() {
  const int cases = random_cases(600);
  for (const KernelTable* table : tables()) {
    Random random(11);
    test_edges(random, *table);
    for (int i = 0; i < cases; ++i) {
      const Conv2dParams p = random_case(random);
      const Layout layout = random.pick({Layout::nchw, Layout::channels_last, Layout::any});
      run_case<float>(random, *table, p, Conv2dImpl::depthwise, i % 5 == 0, layout);
      if (table->f64.depthwise.run != nullptr && i % 2 == 0) {
        run_case<double>(random, *table, p, Conv2dImpl::depthwise, false, layout);
      }
    }
  }
}

}  // namespace zoo::test
