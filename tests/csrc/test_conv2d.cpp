// conv2d and conv2d_pool of every table against the reference, over random cases.
#include "conv2d_case.h"

namespace zoo::test {
namespace {

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
    const bool linear = random.chance(0.1);  // few pixels of many channels
    if (linear) {
      p.in_channels = p.groups * random.whole(1, 700), p.in_h = p.in_w = 1;
      if (p.groups == 1) p.out_channels = random.whole(1, 150);
    }
    Window& w = p.window;
    w.kernel_h = random.pick<int64_t>({1, 1, 2, 3, 3, 3, 5, 7});
    w.kernel_w = random.chance(0.8) ? w.kernel_h : random.whole(1, 7);
    w.stride_h = random.pick<int64_t>({1, 1, 1, 2, 3});
    w.stride_w = random.chance(0.8) ? w.stride_h : random.whole(1, 4);
    w.dilation_h = random.chance(0.7) ? 1 : random.whole(1, 3);
    w.dilation_w = random.chance(0.8) ? w.dilation_h : random.whole(1, 3);
    w.pad_h = random.chance(0.1) ? random.whole(0, 20) : random.whole(0, w.kernel_h / 2 + 1);
    w.pad_w = random.chance(0.8) ? w.pad_h : random.whole(0, 9);
    if (linear) w = {};
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

struct Size {
  int64_t n, c, h, w, o, k, s, p, g;
  Pool pool = Pool::none;
  int64_t pk = 1, ps = 1, pp = 0;
};

Conv2dParams make(const Size& z) {
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
  return p;
}

// Every remainder that channels, filters, pixels and maps can leave.
std::vector<Size> edges() {
  std::vector<Size> sizes;
  for (int64_t i = 1; i <= 33; ++i) {
    sizes.push_back({1, i, 3, 5, 34 - i, 3, 1, 1, 1});
    sizes.push_back({1, 34 - i, 1, i, i, 1, 1, 0, 1});
    sizes.push_back({1, 3, i, 34 - i, 5, 3, 1, 1, 1});
  }
  for (int64_t i : {63, 64, 65, 127, 128, 129}) {
    sizes.push_back({1, i, 3, 5, 7, 3, 1, 1, 1});
    sizes.push_back({1, 7, 3, 5, i, 1, 1, 0, 1});
  }
  // Few pixels: tiles of any rows, depths that streams and blocks of sums do not divide.
  for (int64_t c : {1, 2, 3, 4, 5, 7, 63, 64, 255, 256, 257, 260, 515}) {
    for (int64_t n = 1; n <= 9; ++n) sizes.push_back({n, c, 1, 1, 17 + 5 * n, 1, 1, 0, 1});
  }
  for (int64_t batch : {0, 1, 3, 8}) sizes.push_back({batch, 17, 3, 5, 33, 3, 1, 1, 1});
  return sizes;
}

// Deep sums, many panels, many pixel blocks, wide and tall maps: what small random cases miss.
std::vector<Size> large_cases() {
  return {
      {1, 128, 6, 6, 70, 3, 1, 1, 1},                       // several depth blocks
      {1, 600, 3, 5, 40, 1, 1, 0, 1},                       // the same, not all alike
      {1, 520, 1, 1, 33, 1, 1, 0, 1},                       // one pixel
      {2, 8, 20, 21, 600, 1, 1, 0, 1},                      // two slices of panels
      {3, 290, 9, 7, 70, 1, 1, 0, 1},                       // read where it lies, through images
      {2, 600, 8, 9, 80, 1, 1, 0, 2, Pool::avg, 2, 2, 0},   // groups of it, pooled
      {1, 1024, 5, 5, 40, 1, 1, 0, 1},                      // pixels 4096 bytes apart
      {1, 3, 40, 40, 64, 7, 2, 3, 1, Pool::max, 3, 2, 1},   // a stem
      {1, 64, 14, 14, 96, 3, 1, 1, 1, Pool::avg, 2, 2, 0},  // depth blocks, pooled
      {3, 3, 32, 32, 32, 3, 1, 0, 1, Pool::max, 2, 2, 0},   // the tutorial's first layer
      {1, 2, 5, 700, 40, 3, 1, 1, 1, Pool::max, 3, 1, 1},   // wide
      {1, 70, 30, 30, 70, 3, 1, 1, 70},                     // depthwise
      {1, 300, 9, 9, 300, 3, 2, 1, 300, Pool::max, 2, 2, 0},
      {2, 40, 10, 10, 80, 1, 1, 0, 40},  // two filters a channel
      {1, 34, 13, 90, 34, 5, 1, 2, 34, Pool::avg, 3, 2, 1},
  };
}

// The one that takes every case with these weights.
Conv2dImpl implementation(const Conv2dParams& p) {
  return direct_packing(weight_size(p), p.groups) == Packing::depthwise ? Conv2dImpl::depthwise
                                                                        : Conv2dImpl::gemm;
}

}  // namespace

void test_conv2d() {
  const int cases = random_cases(400);
  for (const KernelTable* table : tables()) {
    Random random(7);
    for (int i = 0; i < cases; ++i) {
      const Conv2dParams p = random_case(random, i % 8 == 0);
      const Conv2dImpl impl = implementation(p);
      run_case<float>(random, *table, p, impl, i % 5 == 0);
      if (table->f64.gemm.run != nullptr && i % 4 == 0) {
        run_case<double>(random, *table, p, impl, false);
      }
    }
    for (const Size& size : edges()) {
      const Conv2dParams p = make(size);
      for (const Layout layout : {Layout::nchw, Layout::channels_last}) {
        run_case<float>(random, *table, p, implementation(p), false, layout);
      }
    }
    for (const Size& size : large_cases()) {
      const Conv2dParams p = make(size);
      const Conv2dImpl impl = implementation(p);
      for (int i = 0; i < 3; ++i) run_case<float>(random, *table, p, impl, false);
    }
  }
}

}  // namespace zoo::test
