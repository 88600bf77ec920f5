// The direct kernel: every edge of its blocking and tiles, in every layout, and which cases it
// gets.
#include "conv2d_case.h"

namespace zoo::test {
namespace {

Conv2dParams make(int64_t n, int64_t c, int64_t h, int64_t w, int64_t o, Window window,
                  Pool pool = Pool::none, int64_t pool_kernel = 2, int64_t pool_pad = 0) {
  Conv2dParams p;
  p.batch = n, p.in_channels = c, p.in_h = h, p.in_w = w, p.out_channels = o;
  p.window = window;
  p.out_h = out_size(h, window.kernel_h, window.stride_h, window.pad_h, window.dilation_h);
  p.out_w = out_size(w, window.kernel_w, window.stride_w, window.pad_w, window.dilation_w);
  p.pool_window.kernel_h = p.pool_window.kernel_w = pool_kernel;
  p.pool_window.stride_h = p.pool_window.stride_w = 2;
  p.pool_window.pad_h = p.pool_window.pad_w = pool_pad;
  p.pool_h = out_size(p.out_h, pool_kernel, 2, pool_pad, 1);
  p.pool_w = out_size(p.out_w, pool_kernel, 2, pool_pad, 1);
  if (p.pool_h > 0 && p.pool_w > 0) p.pool = pool;
  return p;
}

Window square(int64_t kernel, int64_t stride, int64_t pad, int64_t dilation = 1) {
  return {kernel, kernel, stride, stride, pad, pad, dilation, dilation};
}

void test_edges(const KernelTable& table, int cases) {
  Random random(31);
  const auto run = [&](const Conv2dParams& p, bool special = false) {
    if (p.out_h > 0 && p.out_w > 0) run_case<float>(random, table, p, Conv2dImpl::direct, special);
  };
  const auto pool = [&] { return random.pick({Pool::none, Pool::max, Pool::avg}); };
  for (int64_t i = 1; i <= 33; ++i) {
    run(make(1, 3, i, 34 - i, 5, square(3, 1, 1)));
    run(make(1, 3, 34 - i, i, 16, square(3, 2, 1), pool()));
    run(make(1, i, 5, 9, 34 - i, square(3, 2, 1), pool(), 3, 1));
    run(make(1, i, 3, 11, i, square(1, 1, 0)));
    run(make(1, 34 - i, 7, 17, i, square(1, 1, 0), pool()));
    run(make(2, 2, 4, 33, i, square(2, 1, 0)));
  }
  for (int64_t i : {63, 64, 65, 127, 128, 129}) {
    run(make(1, i, 5, 9, 34, square(1, 1, 0)));
    run(make(1, 5, 6, 7, i, square(3, 1, 1), pool()));
  }
  for (int64_t batch : {0, 1, 3, 8}) run(make(batch, 3, 9, 18, 64, square(3, 1, 1)));
  run(make(1, 3, 65, 230, 64, square(7, 2, 3), Pool::max, 3, 1));  // blocks of rows
  run(make(1, 3, 65, 230, 64, square(7, 2, 3)));
  run(make(2, 3, 40, 36, 40, square(4, 4, 0)));
  run(make(1, 13, 6, 700, 33, square(3, 1, 1)));  // blocks of columns
  run(make(1, 13, 6, 700, 33, square(3, 2, 0), Pool::max));
  run(make(1, 64, 31, 33, 96, square(1, 1, 0)));
  run(make(1, 64, 31, 33, 96, square(1, 2, 0)));
  run(make(1, 256, 9, 33, 384, square(1, 1, 0)));         // slices of panels
  run(make(1, 2, 2, 3, 3, square(3, 1, 40)));             // windows that are all padding
  for (int64_t width : {1, 2, 3, 4, 8, 9, 16, 20, 33}) {  // of a group
    for (int64_t groups : {2, 3, 7}) {
      Conv2dParams p = make(2, groups * width, 9, 13, groups * random.whole(1, 40),
                            square(3, random.whole(1, 2), 1), pool());
      p.groups = groups;
      if (direct_packing(weight_size(p), groups) == Packing::gemm) run(p);
    }
  }
  for (int64_t width : {2, 4, 8}) {  // groups that share a vector
    for (int64_t panels : {1, 2, 3}) {
      for (int i = 0; i < 6; ++i) {
        const int64_t channels = panels * 32;
        Conv2dParams p =
            make(random.whole(1, 2), channels, random.whole(3, 9), random.whole(3, 40), channels,
                 square(random.whole(1, 3), random.whole(1, 2), random.whole(0, 1)), pool());
        p.groups = channels / width;
        if (p.out_h == 0 || p.out_w == 0) continue;
        run_case<float>(random, table, p, Conv2dImpl::direct, /*special=*/i == 5,
                        Layout::channels_last);
      }
    }
  }
  for (int i = 0; i < cases; ++i) {
    Window w;
    w.kernel_h = random.whole(1, 5);
    w.kernel_w = random.chance(0.7) ? w.kernel_h : random.whole(1, 7);
    w.stride_h = random.whole(1, 4);
    w.stride_w = random.chance(0.7) ? w.stride_h : random.whole(1, 4);
    w.dilation_h = random.chance(0.7) ? 1 : random.whole(2, 3);
    w.dilation_w = random.chance(0.8) ? w.dilation_h : random.whole(1, 3);
    w.pad_h = random.whole(0, w.kernel_h);
    w.pad_w = random.chance(0.8) ? std::min(w.pad_h, w.kernel_w) : random.whole(0, 9);
    const bool many = random.chance(0.3);
    Conv2dParams p = make(random.whole(1, 3), random.whole(1, many ? 33 : 5), random.whole(1, 33),
                          random.whole(1, 33), random.whole(1, many ? 70 : 33), w, pool(),
                          random.whole(2, 3), random.whole(0, 1));
    if (p.out_h == 0 || p.out_w == 0) continue;
    if (direct_packing(weight_size(p), 1) != Packing::gemm) continue;  // depthwise
    // Less below and to the right than the padding gives.
    if (random.chance(0.2) && p.out_h > 1 && p.out_w > 1 && p.pool == Pool::none) {
      --p.out_h, --p.out_w;
    }
    p.activation = random.chance(0.4) ? Activation::relu : kActivations[random.whole(0, 9)];
    run(p, i % 5 == 0);
    if (table.f64.direct.run != nullptr && i % 4 == 0) {
      run_case<double>(random, table, p, Conv2dImpl::direct, false);
    }
  }
}

// Dense tensors, as networks have them, for the fast paths.
void test_dense(const KernelTable& table) {
  Random random(8);
  for (const Layout layout : {Layout::nchw, Layout::channels_last}) {
    for (const int64_t side : {1, 7, 8, 14, 15, 16, 17, 31, 32, 33, 40}) {
      for (const Window& window : {square(1, 1, 0), square(3, 1, 1), square(3, 2, 1),
                                   square(2, 2, 0), square(3, 1, 0), square(3, 3, 2)}) {
        Conv2dParams p = make(2, random.pick<int64_t>({1, 3, 8}), side, side + 1,
                              random.pick<int64_t>({16, 24, 32, 64}), window);
        if (p.out_h == 0 || p.out_w == 0) continue;
        p.activation = random.pick({Activation::none, Activation::relu, Activation::silu});
        run_case<float>(random, table, p, Conv2dImpl::direct, false, layout);
        if (p.in_channels != 8) continue;
        p.groups = 2;
        run_case<float>(random, table, p, Conv2dImpl::direct, false, layout);
      }
    }
  }
}

void test_selection() {
#if defined(__x86_64__)
  const auto chosen = [](const Conv2dParams& p) {
    return select_conv2d(p, {DType::float32, /*exact=*/false, /*prepacked=*/true});
  };
  const Conv2dParams stem = make(1, 3, 224, 224, 64, square(7, 2, 3));
  CHECK(chosen(stem) == Conv2dImpl::direct);
  CHECK(chosen(make(1, 3, 224, 224, 16, square(3, 2, 1))) == Conv2dImpl::direct);
  CHECK(chosen(make(1, 3, 32, 32, 16, square(3, 1, 1))) == Conv2dImpl::direct);
  CHECK(chosen(make(1, 64, 56, 56, 256, square(1, 1, 0))) == Conv2dImpl::direct);
  CHECK(chosen(make(1, 64, 56, 56, 64, square(3, 1, 1))) == Conv2dImpl::winograd4);
  CHECK(chosen(make(1, 64, 56, 56, 64, square(3, 2, 1))) == Conv2dImpl::gemm);     // 576 deep
  CHECK(chosen(make(1, 256, 14, 14, 1024, square(1, 1, 0))) == Conv2dImpl::gemm);  // 256 k weights
  Conv2dParams grouped = make(1, 256, 28, 28, 256, square(3, 1, 1));
  grouped.groups = 32;
  CHECK(chosen(grouped) == Conv2dImpl::direct);
  grouped.groups = 4;
  CHECK(chosen(grouped) == Conv2dImpl::gemm);  // 576 deep: so long a running sum loses digits
  grouped.groups = 2;
  CHECK(chosen(grouped) == Conv2dImpl::gemm);  // 1152 deep
  // What packing at each call would cost more than it gains is left to PyTorch.
  const auto unpacked = [](const Conv2dParams& p) {
    return select_conv2d(p, {DType::float32, /*exact=*/true, /*prepacked=*/false});
  };
  Conv2dParams last = make(1, 2048, 7, 7, 512, square(1, 1, 0));
  CHECK(chosen(last) == Conv2dImpl::gemm && unpacked(last) == Conv2dImpl::aten);
  CHECK(builtin_wins(last, {DType::float32, true, false}) != nullptr);
  CHECK(builtin_wins(last, {DType::float32, true, true}) == nullptr);
  for (const Activation activation : {Activation::relu, Activation::gelu, Activation::hardswish}) {
    last.activation = activation;
    CHECK(unpacked(last) == Conv2dImpl::aten);
  }
  last.pool = Pool::max;
  CHECK(unpacked(last) == Conv2dImpl::aten);
  Conv2dParams shallow = make(1, 64, 56, 56, 256, square(1, 1, 0));
  shallow.input = {64 * 56 * 56, 1, 56 * 64, 64};
  CHECK(unpacked(shallow) == Conv2dImpl::direct);
  shallow.input = {64 * 56 * 56, 56 * 56, 56, 1};
  CHECK(unpacked(shallow) == Conv2dImpl::aten);  // oneDNN reads NCHW as it is
  CHECK(unpacked(make(1, 3, 224, 224, 64, square(7, 2, 3))) == Conv2dImpl::direct);
  // Groups, unless they are narrow or there is little to do.
  CHECK(unpacked(grouped) == Conv2dImpl::aten);
  grouped.groups = 32;
  CHECK(unpacked(grouped) == Conv2dImpl::aten);
  grouped.groups = 64;
  CHECK(unpacked(grouped) == Conv2dImpl::direct);
  Conv2dParams few = make(1, 160, 14, 14, 160, square(3, 1, 1));
  few.groups = 10;
  CHECK(unpacked(few) == Conv2dImpl::direct);
  // Depthwise, where large maps would be copied to channels_last and back.
  Conv2dParams depthwise = make(8, 512, 14, 14, 512, square(3, 1, 1));
  depthwise.groups = 512;
  depthwise.input = {512 * 196, 1, 14 * 512, 512};
  CHECK(unpacked(depthwise) == Conv2dImpl::depthwise);
  depthwise.input = {512 * 196, 196, 14, 1};
  CHECK(unpacked(depthwise) == Conv2dImpl::aten && chosen(depthwise) == Conv2dImpl::depthwise);
  depthwise.batch = 1;
  CHECK(unpacked(depthwise) == Conv2dImpl::depthwise);
  Conv2dParams planes = make(8, 64, 112, 112, 64, square(3, 1, 1));
  planes.groups = 64;
  planes.input = {64 * 112 * 112, 112 * 112, 112, 1};
  CHECK(unpacked(planes) == Conv2dImpl::depthwise);
  // float64 has vectors nowhere: only where PyTorch has none either.
  const Conv2dWish doubles{DType::float64, false, false};
  CHECK(select_conv2d(stem, doubles) == Conv2dImpl::aten);
  CHECK(select_conv2d(stem, {DType::float64, false, true}) == Conv2dImpl::direct);
  CHECK(select_conv2d(depthwise, doubles) == Conv2dImpl::depthwise);
  grouped.groups = 2;
  // A packed weight gets the kernel that is best of those that read its layout.
  const Conv2dWish wish{DType::float32, false, true};
  CHECK(impl_of(Packing::gemm, stem, wish) == Conv2dImpl::direct);
  CHECK(impl_of(Packing::gemm, grouped, wish) == Conv2dImpl::gemm);
#endif
}

}  // namespace

void test_direct() {
  test_selection();
  const char* wanted = std::getenv("ZOO_TEST_CASES");
  for (const KernelTable* table : tables()) {
    test_edges(*table, wanted != nullptr ? std::atoi(wanted) : 400);
    test_dense(*table);
  }
}

}  // namespace zoo::test
