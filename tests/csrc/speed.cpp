// GFLOP/s of the convolution kernels on a few shapes, one thread, weights hot in cache: for work
// on a microkernel. Comparisons with PyTorch are `zoo bench`. Usage: speed [ISA [PART OF A NAME]]
#include <ctime>

#include "support.h"

namespace zoo::test {
namespace {

struct Case {
  const char* name;
  int64_t n, c, hw, o, k, s, p, g;
  bool last;  // channels_last
  Pool pool;
  int64_t pk, ps, pp;
};

const Case kCases[] = {
    {"3x3 64@56", 1, 64, 56, 64, 3, 1, 1, 1, true, Pool::none, 1, 1, 0},
    {"3x3 64@56 nchw", 1, 64, 56, 64, 3, 1, 1, 1, false, Pool::none, 1, 1, 0},
    {"3x3 128@28", 1, 128, 28, 128, 3, 1, 1, 1, true, Pool::none, 1, 1, 0},
    {"3x3 128@56 b2", 2, 128, 56, 128, 3, 1, 1, 1, true, Pool::none, 1, 1, 0},
    {"3x3 256@28", 1, 256, 28, 256, 3, 1, 1, 1, true, Pool::none, 1, 1, 0},
    {"3x3 512@28", 1, 512, 28, 512, 3, 1, 1, 1, true, Pool::none, 1, 1, 0},
    {"3x3 256@14", 1, 256, 14, 256, 3, 1, 1, 1, true, Pool::none, 1, 1, 0},
    {"3x3 512@7", 1, 512, 7, 512, 3, 1, 1, 1, true, Pool::none, 1, 1, 0},
    {"3x3 512@7 b8", 8, 512, 7, 512, 3, 1, 1, 1, true, Pool::none, 1, 1, 0},
    {"1x1 16->64@112", 1, 16, 112, 64, 1, 1, 0, 1, true, Pool::none, 1, 1, 0},
    {"1x1 16->64@112 nchw", 1, 16, 112, 64, 1, 1, 0, 1, false, Pool::none, 1, 1, 0},
    {"1x1 16->64@112 b8", 8, 16, 112, 64, 1, 1, 0, 1, true, Pool::none, 1, 1, 0},
    {"1x1 64->256@56", 1, 64, 56, 256, 1, 1, 0, 1, true, Pool::none, 1, 1, 0},
    {"1x1 64->256@56 nchw", 1, 64, 56, 256, 1, 1, 0, 1, false, Pool::none, 1, 1, 0},
    {"1x1 64->256@56 b8", 8, 64, 56, 256, 1, 1, 0, 1, true, Pool::none, 1, 1, 0},
    {"1x1 96->384@56", 1, 96, 56, 384, 1, 1, 0, 1, true, Pool::none, 1, 1, 0},
    {"1x1 256->64@56", 1, 256, 56, 64, 1, 1, 0, 1, true, Pool::none, 1, 1, 0},
    {"1x1 256->64@56 b8", 8, 256, 56, 64, 1, 1, 0, 1, true, Pool::none, 1, 1, 0},
    {"1x1 128->512@28", 1, 128, 28, 512, 1, 1, 0, 1, true, Pool::none, 1, 1, 0},
    {"1x1 512->128@28", 1, 512, 28, 128, 1, 1, 0, 1, true, Pool::none, 1, 1, 0},
    {"1x1 2048->512@7", 1, 2048, 7, 512, 1, 1, 0, 1, true, Pool::none, 1, 1, 0},
    {"1x1 512->2048@7", 1, 512, 7, 2048, 1, 1, 0, 1, true, Pool::none, 1, 1, 0},
    {"1x1 1024->256@14", 1, 1024, 14, 256, 1, 1, 0, 1, true, Pool::none, 1, 1, 0},
    {"linear 512->1000", 1, 512, 1, 1000, 1, 1, 0, 1, true, Pool::none, 1, 1, 0},
    {"linear 2048->1000", 1, 2048, 1, 1000, 1, 1, 0, 1, true, Pool::none, 1, 1, 0},
    {"linear 4096->4096", 1, 4096, 1, 4096, 1, 1, 0, 1, true, Pool::none, 1, 1, 0},
    {"linear 2048->1000 b2", 2, 2048, 1, 1000, 1, 1, 0, 1, true, Pool::none, 1, 1, 0},
    {"linear 2048->1000 b8", 8, 2048, 1, 1000, 1, 1, 0, 1, true, Pool::none, 1, 1, 0},
    {"stem 7x7 s2 3->64@224", 1, 3, 224, 64, 7, 2, 3, 1, true, Pool::none, 1, 1, 0},
    {"stem 7x7 s2 nchw", 1, 3, 224, 64, 7, 2, 3, 1, false, Pool::none, 1, 1, 0},
    {"3x3 s2 3->16@224", 1, 3, 224, 16, 3, 2, 1, 1, true, Pool::none, 1, 1, 0},
    {"3x3 s2 3->16@224 nchw", 1, 3, 224, 16, 3, 2, 1, 1, false, Pool::none, 1, 1, 0},
    {"3x3 s2 3->16@224 b8", 8, 3, 224, 16, 3, 2, 1, 1, true, Pool::none, 1, 1, 0},
    {"3x3 s2 3->32@224", 1, 3, 224, 32, 3, 2, 1, 1, true, Pool::none, 1, 1, 0},
    {"3x3 3->64@224", 1, 3, 224, 64, 3, 1, 1, 1, true, Pool::none, 1, 1, 0},
    {"3x3 3->64@224 nchw", 1, 3, 224, 64, 3, 1, 1, 1, false, Pool::none, 1, 1, 0},
    {"3x3 3->16@32", 1, 3, 32, 16, 3, 1, 1, 1, true, Pool::none, 1, 1, 0},
    {"3x3 3->16@32 nchw", 1, 3, 32, 16, 3, 1, 1, 1, false, Pool::none, 1, 1, 0},
    {"3x3 3->32@32 b32", 32, 3, 32, 32, 3, 1, 1, 1, true, Pool::none, 1, 1, 0},
    {"3x3 1->32@28 b32", 32, 1, 28, 32, 3, 1, 1, 1, true, Pool::none, 1, 1, 0},
    {"3x3 16@56", 1, 16, 56, 16, 3, 1, 1, 1, true, Pool::none, 1, 1, 0},
    {"3x3 24@56", 1, 24, 56, 24, 3, 1, 1, 1, true, Pool::none, 1, 1, 0},
    {"3x3 28@28", 1, 28, 28, 28, 3, 1, 1, 1, true, Pool::none, 1, 1, 0},
    {"3x3 s2 16->32@112", 1, 16, 112, 32, 3, 2, 1, 1, true, Pool::none, 1, 1, 0},
    {"3x3 s2 64->128@56", 1, 64, 56, 128, 3, 2, 1, 1, true, Pool::none, 1, 1, 0},
    {"3x3 s2 128->256@28", 1, 128, 28, 256, 3, 2, 1, 1, true, Pool::none, 1, 1, 0},
    {"3x3 s2 256->512@14", 1, 256, 14, 512, 3, 2, 1, 1, true, Pool::none, 1, 1, 0},
    {"4x4 s4 3->96@224", 1, 3, 224, 96, 4, 4, 0, 1, true, Pool::none, 1, 1, 0},
    {"4x4 s4 3->96@224 nchw", 1, 3, 224, 96, 4, 4, 0, 1, false, Pool::none, 1, 1, 0},
    {"stem + max 3x3 s2", 1, 3, 224, 64, 7, 2, 3, 1, true, Pool::max, 3, 2, 1},
    {"3x3 3->32@32 b32 + max 2", 32, 3, 32, 32, 3, 1, 0, 1, true, Pool::max, 2, 2, 0},
    {"stem + max 3x3 s2 nchw", 1, 3, 224, 64, 7, 2, 3, 1, false, Pool::max, 3, 2, 1},
    {"3x3 3->32@32 b32 + max 2 nchw", 32, 3, 32, 32, 3, 1, 0, 1, false, Pool::max, 2, 2, 0},
    {"3x3 64@224 + max 2", 1, 64, 224, 64, 3, 1, 1, 1, true, Pool::max, 2, 2, 0},
    {"groups 3x3 32x4@56", 1, 128, 56, 128, 3, 1, 1, 32, true, Pool::none, 1, 1, 0},
    {"groups 3x3 32x8@28", 1, 256, 28, 256, 3, 1, 1, 32, true, Pool::none, 1, 1, 0},
    {"groups 3x3 12x16@28", 1, 192, 28, 192, 3, 1, 1, 12, true, Pool::none, 1, 1, 0},
    {"groups 3x3 20x16@14", 1, 320, 14, 320, 3, 1, 1, 20, true, Pool::none, 1, 1, 0},
    {"groups 3x3 48x16@7", 1, 768, 7, 768, 3, 1, 1, 48, true, Pool::none, 1, 1, 0},
    {"groups 3x3 32x16@14", 1, 512, 14, 512, 3, 1, 1, 32, true, Pool::none, 1, 1, 0},
    {"groups 3x3 s2 32x16@28", 1, 512, 28, 512, 3, 2, 1, 32, true, Pool::none, 1, 1, 0},
    {"groups 3x3 32x32@7", 1, 1024, 7, 1024, 3, 1, 1, 32, true, Pool::none, 1, 1, 0},
    {"groups 3x3 12x24@14", 1, 288, 14, 288, 3, 1, 1, 12, true, Pool::none, 1, 1, 0},
    {"groups 3x3 4x48@28", 1, 192, 28, 192, 3, 1, 1, 4, true, Pool::none, 1, 1, 0},
    {"groups 3x3 7x64@14", 1, 448, 14, 448, 3, 1, 1, 7, true, Pool::none, 1, 1, 0},
    {"groups 3x3 32x8@28 nchw", 1, 256, 28, 256, 3, 1, 1, 32, false, Pool::none, 1, 1, 0},
    {"depthwise 3x3 16@112", 1, 16, 112, 16, 3, 1, 1, 16, true, Pool::none, 1, 1, 0},
    {"depthwise 3x3 32@112", 1, 32, 112, 32, 3, 1, 1, 32, true, Pool::none, 1, 1, 0},
    {"depthwise 3x3 s2 64@112", 1, 64, 112, 64, 3, 2, 1, 64, true, Pool::none, 1, 1, 0},
    {"depthwise 3x3 s2 96@112", 1, 96, 112, 96, 3, 2, 1, 96, true, Pool::none, 1, 1, 0},
    {"depthwise 3x3 72@56", 1, 72, 56, 72, 3, 1, 1, 72, true, Pool::none, 1, 1, 0},
    {"depthwise 3x3 s2 240@28", 1, 240, 28, 240, 3, 2, 1, 240, true, Pool::none, 1, 1, 0},
    {"depthwise 3x3 184@14", 1, 184, 14, 184, 3, 1, 1, 184, true, Pool::none, 1, 1, 0},
    {"depthwise 3x3 512@14", 1, 512, 14, 512, 3, 1, 1, 512, true, Pool::none, 1, 1, 0},
    {"depthwise 5x5 s2 72@56", 1, 72, 56, 72, 5, 2, 2, 72, true, Pool::none, 1, 1, 0},
    {"depthwise 5x5 120@28", 1, 120, 28, 120, 5, 1, 2, 120, true, Pool::none, 1, 1, 0},
    {"depthwise 5x5 672@14", 1, 672, 14, 672, 5, 1, 2, 672, true, Pool::none, 1, 1, 0},
    {"depthwise 5x5 s2 672@14", 1, 672, 14, 672, 5, 2, 2, 672, true, Pool::none, 1, 1, 0},
    {"depthwise 5x5 960@7", 1, 960, 7, 960, 5, 1, 2, 960, true, Pool::none, 1, 1, 0},
    {"depthwise 7x7 96@56", 1, 96, 56, 96, 7, 1, 3, 96, true, Pool::none, 1, 1, 0},
    {"depthwise 7x7 192@28", 1, 192, 28, 192, 7, 1, 3, 192, true, Pool::none, 1, 1, 0},
    {"depthwise 7x7 384@14", 1, 384, 14, 384, 7, 1, 3, 384, true, Pool::none, 1, 1, 0},
    {"depthwise 7x7 768@7", 1, 768, 7, 768, 7, 1, 3, 768, true, Pool::none, 1, 1, 0},
    {"depthwise 9x9 1024@16", 1, 1024, 16, 1024, 9, 1, 4, 1024, true, Pool::none, 1, 1, 0},
    {"depthwise 9x9 1040@16", 1, 1040, 16, 1040, 9, 1, 4, 1040, true, Pool::none, 1, 1, 0},
    {"depthwise 7x7 1024@7", 1, 1024, 7, 1024, 7, 1, 3, 1024, true, Pool::none, 1, 1, 0},
    {"depthwise 7x7 1040@7", 1, 1040, 7, 1040, 7, 1, 3, 1040, true, Pool::none, 1, 1, 0},
    {"depthwise 11x11 120@28", 1, 120, 28, 120, 11, 1, 5, 120, true, Pool::none, 1, 1, 0},
    {"depthwise 3x3 16@112 nchw", 1, 16, 112, 16, 3, 1, 1, 16, false, Pool::none, 1, 1, 0},
    {"depthwise 3x3 32@112 nchw", 1, 32, 112, 32, 3, 1, 1, 32, false, Pool::none, 1, 1, 0},
    {"depthwise 3x3 s2 64@112 nchw", 1, 64, 112, 64, 3, 2, 1, 64, false, Pool::none, 1, 1, 0},
    {"depthwise 3x3 s2 96@112 nchw", 1, 96, 112, 96, 3, 2, 1, 96, false, Pool::none, 1, 1, 0},
    {"depthwise 3x3 72@56 nchw", 1, 72, 56, 72, 3, 1, 1, 72, false, Pool::none, 1, 1, 0},
    {"depthwise 3x3 s2 240@28 nchw", 1, 240, 28, 240, 3, 2, 1, 240, false, Pool::none, 1, 1, 0},
    {"depthwise 3x3 184@14 nchw", 1, 184, 14, 184, 3, 1, 1, 184, false, Pool::none, 1, 1, 0},
    {"depthwise 3x3 512@14 nchw", 1, 512, 14, 512, 3, 1, 1, 512, false, Pool::none, 1, 1, 0},
    {"depthwise 5x5 s2 72@56 nchw", 1, 72, 56, 72, 5, 2, 2, 72, false, Pool::none, 1, 1, 0},
    {"depthwise 5x5 120@28 nchw", 1, 120, 28, 120, 5, 1, 2, 120, false, Pool::none, 1, 1, 0},
    {"depthwise 5x5 672@14 nchw", 1, 672, 14, 672, 5, 1, 2, 672, false, Pool::none, 1, 1, 0},
    {"depthwise 5x5 s2 672@14 nchw", 1, 672, 14, 672, 5, 2, 2, 672, false, Pool::none, 1, 1, 0},
    {"depthwise 5x5 960@7 nchw", 1, 960, 7, 960, 5, 1, 2, 960, false, Pool::none, 1, 1, 0},
    {"depthwise 7x7 96@56 nchw", 1, 96, 56, 96, 7, 1, 3, 96, false, Pool::none, 1, 1, 0},
    {"depthwise 7x7 192@28 nchw", 1, 192, 28, 192, 7, 1, 3, 192, false, Pool::none, 1, 1, 0},
    {"depthwise 7x7 384@14 nchw", 1, 384, 14, 384, 7, 1, 3, 384, false, Pool::none, 1, 1, 0},
    {"depthwise 7x7 768@7 nchw", 1, 768, 7, 768, 7, 1, 3, 768, false, Pool::none, 1, 1, 0},
    {"depthwise 3x3 144@56 b16", 16, 144, 56, 144, 3, 1, 1, 144, true, Pool::none, 1, 1, 0},
    {"depthwise 3x3 144@56 b16 nchw", 16, 144, 56, 144, 3, 1, 1, 144, false, Pool::none, 1, 1, 0},
};

// The thread's own time: other processes do not count.
double seconds() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return double(now.tv_sec) + double(now.tv_nsec) * 1e-9;
}

template <typename F>
double best_of(F run) {
  double best = 1e9, spent = 0;
  for (int i = 0; i < 4 || (spent < 0.15 && i < 500); ++i) {
    const double begin = seconds();
    run();
    const double time = seconds() - begin;
    best = std::min(best, time);
    spent += time;
  }
  return best;
}

Strides dense(const Shape& s, bool last) {
  return last ? Strides{s.h * s.w * s.c, 1, s.w * s.c, s.c}
              : Strides{s.h * s.w * s.c, s.h * s.w, s.w, 1};
}

// Aligned as PyTorch's allocator does.
struct Buffer {
  float* data;

  explicit Buffer(int64_t count)
      : data(static_cast<float*>(std::aligned_alloc(64, size_t(count + 16) / 16 * 64))) {
    std::fill(data, data + count, 0.01f);
  }
  Buffer(const Buffer&) = delete;
  ~Buffer() { std::free(data); }
};

void measure(const KernelTable& table, const Case& z) {
  Conv2dParams p;
  p.batch = z.n, p.in_channels = z.c, p.in_h = p.in_w = z.hw, p.out_channels = z.o, p.groups = z.g;
  p.window.kernel_h = p.window.kernel_w = z.k;
  p.window.stride_h = p.window.stride_w = z.s;
  p.window.pad_h = p.window.pad_w = z.p;
  p.out_h = p.out_w = (z.hw + 2 * z.p - z.k) / z.s + 1;
  p.activation = Activation::relu;
  p.pool = z.pool;
  p.pool_window.kernel_h = p.pool_window.kernel_w = z.pk;
  p.pool_window.stride_h = p.pool_window.stride_w = z.ps;
  p.pool_window.pad_h = p.pool_window.pad_w = z.pp;
  if (z.pool != Pool::none) p.pool_h = p.pool_w = (p.out_h + 2 * z.pp - z.pk) / z.ps + 1;
  const Shape in{z.n, z.c, z.hw, z.hw};
  const int64_t side = z.pool == Pool::none ? p.out_h : p.pool_h;
  const Shape out{z.n, z.o, side, side};
  p.input = dense(in, z.last), p.output = dense(out, z.last);
  const Buffer input(in.count()), output(out.count()), bias(z.o);
  const double flops = 2.0 * double(z.n * z.o * p.out_h * p.out_w * (z.c / z.g) * z.k * z.k);
  for (Conv2dImpl impl : implementations_for(p)) {
    const Buffer packed(packed_size(packing_of(impl, p), weight_size(p), p.groups));
    const auto& kernel = kernel_of(table.f32, impl);
    const Buffer workspace(kernel.workspace_bytes(p, 1) / 4);
    Parallel one;
    const double best = best_of([&] {
      kernel.run(p, input.data, packed.data, bias.data, nullptr, output.data, workspace.data, one);
    });
    std::printf("%-22s %-26s %8.3f ms %7.1f GFLOP/s\n", kernel.name, z.name, best * 1e3,
                flops / best * 1e-9);
  }
}

struct PoolCase {
  const char* name;
  int64_t n, c, hw, k, s, p;
  bool last;
};

const PoolCase kPoolCases[] = {
    {"pool 3x3 s2 64@112", 1, 64, 112, 3, 2, 1, true},
    {"pool 3x3 s2 64@112 nchw", 1, 64, 112, 3, 2, 1, false},
    {"pool 3x3 256@28 b8", 8, 256, 28, 3, 1, 1, true},
    {"pool 3x3 256@28 b8 nchw", 8, 256, 28, 3, 1, 1, false},
    {"pool 2x2 s2 128@112 nchw", 1, 128, 112, 2, 2, 0, false},
    {"pool 2x2 s2 512@14", 1, 512, 14, 2, 2, 0, true},
    {"pool 2x2 s2 512@14 nchw", 1, 512, 14, 2, 2, 0, false},
    {"pool 7x7 2048@7", 1, 2048, 7, 7, 7, 0, true},
    {"pool 7x7 2048@7 nchw", 1, 2048, 7, 7, 7, 0, false},
    {"pool 56x56 72@56", 1, 72, 56, 56, 56, 0, true},
    {"pool 112x112 16@112", 1, 16, 112, 112, 112, 0, true},
    {"pool 8x8 64@8", 1, 64, 8, 8, 1, 0, true},
    {"pool 8x8 64@8 nchw", 1, 64, 8, 8, 1, 0, false},
    {"pool 7x7 1024@7 b8", 8, 1024, 7, 7, 7, 0, true},
    {"pool 7x7 1024@7 b8 nchw", 8, 1024, 7, 7, 7, 0, false},
};

void measure(const KernelTable& table, const PoolCase& z) {
  Pool2dParams p;
  p.batch = z.n, p.channels = z.c, p.in_h = p.in_w = z.hw;
  p.out_h = p.out_w = (z.hw + 2 * z.p - z.k) / z.s + 1;
  p.window.kernel_h = p.window.kernel_w = z.k;
  p.window.stride_h = p.window.stride_w = z.s;
  p.window.pad_h = p.window.pad_w = z.p;
  const Shape in{z.n, z.c, z.hw, z.hw}, out{z.n, z.c, p.out_h, p.out_w};
  p.input = dense(in, z.last), p.output = dense(out, z.last);
  const Buffer input(in.count()), output(out.count());
  const Parallel one;
  const double max =
      best_of([&] { table.f32.pool.max_pool2d(p, input.data, output.data, nullptr, one); });
  const double avg = best_of([&] { table.f32.pool.avg_pool2d(p, input.data, output.data, one); });
  std::printf("%-22s %-26s %8.3f ms max, %8.3f ms avg\n", table.isa, z.name, max * 1e3, avg * 1e3);
}

struct TrainingCase {
  const char* name;
  int64_t n, c, hw;
};

// In L2, and from memory.
const TrainingCase kTrainingCases[] = {
    {"training 3@64", 1, 3, 64},
    {"training 16@32", 1, 16, 32},
    {"training 64@16", 1, 64, 16},
    {"training 100@14", 1, 100, 14},
    {"training 512@7", 1, 512, 7},
    {"training 16@112 b16", 16, 16, 112},
    {"training 64@56 b16", 16, 64, 56},
    {"training 256@28 b16", 16, 256, 28},
    {"training 1024@14 b16", 16, 1024, 14},
};

// Each function's time beside that of a copy which reads and writes as many bytes.
void measure(const KernelTable& table, const TrainingCase& z) {
  const auto& kernels = table.f32.training;
  BatchNormParams p;
  p.pixels = z.n * z.hw * z.hw, p.channels = z.c;
  MaxPool2Params pool;
  pool.batch = z.n, pool.channels = z.c, pool.in_h = pool.in_w = z.hw;
  const int64_t size = p.pixels * z.c;
  const Buffer x(size), grad(size), output(size), to(size), k(z.c);
  const Buffer where(size / 4), sums(4 * z.c);  // bytes and doubles
  double* const totals = reinterpret_cast<double*>(sums.data);
  uint8_t* const bits = reinterpret_cast<uint8_t*>(where.data);
  const Parallel one;
  const auto report = [&](const char* name, double bytes, auto run) {
    const double best = best_of(run);
    // In pieces: of more the C library writes past the caches.
    constexpr int64_t kPiece = 256;
    const int64_t copied = std::min(size, static_cast<int64_t>(bytes / 8));
    const double copy = best_of([&] {
                          for (int64_t i = 0; i + kPiece <= copied; i += kPiece) {
                            std::copy(x.data + i, x.data + i + kPiece, to.data + i);
                          }
                        }) *
                        (bytes / 8 / static_cast<double>(copied));
    std::printf("%-7s %-21s %-19s %8.3f ms %6.1f GB/s, %5.2f copies\n", table.isa, z.name, name,
                best * 1e3, bytes / best * 1e-9, best / copy);
  };
  const double map = 4.0 * static_cast<double>(size);
  const float* const none = nullptr;
  for (Activation a : {Activation::relu, Activation::silu}) {
    p.activation = pool.activation = a;
    const bool simple = a == Activation::relu;
    const float* const y = simple ? output.data : none;
    if (simple) {
      report("moments", map, [&] { kernels.moments(p, x.data, k.data, true, totals, one); });
      report("max_pool2", 1.25 * map, [&] { kernels.max_pool2(pool, x.data, to.data, bits, one); });
      report("max_pool2_backward", 1.5 * map, [&] {
        kernels.max_pool2_backward(pool, grad.data, output.data, bits, to.data, true, totals, one);
      });
      report("activation_backward", 3 * map, [&] {
        kernels.activation_backward(p, grad.data, output.data, to.data, true, totals, one);
      });
    }
    report(simple ? "normalize" : "normalize silu", 2 * map,
           [&] { kernels.normalize(p, x.data, k.data, k.data, none, to.data, one); });
    report(simple ? "normalize_sums" : "normalize_sums silu", (simple ? 3 : 2) * map, [&] {
      kernels.normalize_sums(p, grad.data, y, x.data, k.data, k.data, k.data, nullptr, true, totals,
                             one);
    });
    report(simple ? "normalize_backward" : "normalize_b.. silu", (simple ? 4 : 3) * map, [&] {
      kernels.normalize_backward(p, grad.data, y, x.data, k.data, k.data, k.data, k.data, k.data,
                                 k.data, to.data, one);
    });
  }
}

struct GradCase {
  const char* name;
  int64_t n, c, hw, o, k, s, p, g;
};

const GradCase kGradCases[] = {
    {"grad 3x3 64@56 b4", 4, 64, 56, 64, 3, 1, 1, 1},
    {"grad 3x3 128@28 b4", 4, 128, 28, 128, 3, 1, 1, 1},
    {"grad 3x3 256@14 b4", 4, 256, 14, 256, 3, 1, 1, 1},
    {"grad 3x3 512@7 b8", 8, 512, 7, 512, 3, 1, 1, 1},
    {"grad 3x3 s2 128@56 b4", 4, 128, 56, 128, 3, 2, 1, 1},
    {"grad 3x3 3->32@32 b32", 32, 3, 32, 32, 3, 1, 1, 1},
    {"grad 3x3 32->64@15 b32", 32, 32, 15, 64, 3, 1, 0, 1},
    {"grad 3x3 1->32@28 b32", 32, 1, 28, 32, 3, 1, 1, 1},
    {"grad 7x7 s2 3->64@224 b4", 4, 3, 224, 64, 7, 2, 3, 1},
    {"grad 1x1 64->256@56 b4", 4, 64, 56, 256, 1, 1, 0, 1},
    {"grad 1x1 256->64@56 b4", 4, 256, 56, 64, 1, 1, 0, 1},
    {"grad 1x1 1024->256@14 b4", 4, 1024, 14, 256, 1, 1, 0, 1},
    {"grad 1x1 16->96@112 b4", 4, 16, 112, 96, 1, 1, 0, 1},
    {"grad groups 32x4@56 b4", 4, 128, 56, 128, 3, 1, 1, 32},
    {"grad groups 32x16@14 b4", 4, 512, 14, 512, 3, 1, 1, 32},
    {"grad depthwise 3x3 144@56 b4", 4, 144, 56, 144, 3, 1, 1, 144},
    {"grad depthwise 3x3 512@14 b4", 4, 512, 14, 512, 3, 1, 1, 512},
    {"grad depthwise 5x5 120@28 b4", 4, 120, 28, 120, 5, 1, 2, 120},
    {"grad depthwise 7x7 96@56 b4", 4, 96, 56, 96, 7, 1, 3, 96},
};

void measure(const KernelTable& table, const GradCase& z) {
  Conv2dParams p;
  p.batch = z.n, p.in_channels = z.c, p.in_h = p.in_w = z.hw, p.out_channels = z.o, p.groups = z.g;
  p.window.kernel_h = p.window.kernel_w = z.k;
  p.window.stride_h = p.window.stride_w = z.s;
  p.window.pad_h = p.window.pad_w = z.p;
  p.out_h = p.out_w = (z.hw + 2 * z.p - z.k) / z.s + 1;
  const Shape in{z.n, z.c, z.hw, z.hw}, out{z.n, z.o, p.out_h, p.out_w};
  const Shape size{z.o, z.c / z.g, z.k, z.k};
  p.input = dense(in, true), p.output = dense(out, true);
  const bool depthwise = z.g == z.c && z.c == z.o;
  const auto& kernel = depthwise ? table.f32.depthwise_weight_grad : table.f32.weight_grad;
  const Buffer input(in.count()), grad(out.count()), weight(size.count());
  const Buffer sums(kernel.sums_bytes(p, 1) / 4), workspace(kernel.workspace_bytes(p, 1) / 4);
  const Parallel one;
  const double best = best_of([&] {
    kernel.add(p, input.data, grad.data, true, sums.data, workspace.data, one);
    kernel.finish(p, sums.data, weight.data, dense(size, true), one);
  });
  const double flops = 2.0 * double(out.count() * (z.c / z.g) * z.k * z.k);
  std::printf("%-22s %-26s %8.3f ms %7.1f GFLOP/s\n", kernel.name, z.name, best * 1e3,
              flops / best * 1e-9);
}

}  // namespace
}  // namespace zoo::test

int main(int argc, char** argv) {
  using namespace zoo::test;
  for (const zoo::KernelTable* table : tables()) {
    if (argc > 1 && argv[1] != std::string(table->isa)) continue;
    const auto wanted = [&](const char* name) {
      return argc <= 2 || std::string(name).find(argv[2]) != std::string::npos;
    };
    for (const Case& z : kCases) {
      if (wanted(z.name)) measure(*table, z);
    }
    for (const GradCase& z : kGradCases) {
      if (wanted(z.name)) measure(*table, z);
    }
    for (const PoolCase& z : kPoolCases) {
      if (wanted(z.name)) measure(*table, z);
    }
    for (const TrainingCase& z : kTrainingCases) {
      if (wanted(z.name)) measure(*table, z);
    }
  }
  return 0;
}
