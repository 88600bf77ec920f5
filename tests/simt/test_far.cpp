// Images more than 2^32 elements apart: every kernel must reckon places in 64 bits. Only the pages
// that are touched exist.
#include <sys/mman.h>

#include "cuda/conv2d_body.h"
#include "cuda/depthwise_body.h"
#include "cuda/pool2d_body.h"
#include "support.h"

namespace zoo::simt {
namespace {

constexpr int64_t kFar = (int64_t{1} << 32) + 64;

struct Reserved {
  static constexpr std::size_t kBytes = static_cast<std::size_t>(kFar + 4096) * sizeof(float);
  float* data;

  Reserved()
      : data(static_cast<float*>(mmap(nullptr, kBytes, PROT_READ | PROT_WRITE,
                                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0))) {
    if (data == MAP_FAILED) throw std::runtime_error("no room for 16 GB of addresses");
  }
  Reserved(const Reserved&) = delete;
  Reserved& operator=(const Reserved&) = delete;
  ~Reserved() { munmap(data, kBytes); }
};

// Two images of `in` numbers, side by side and far apart, by launch(input, input's stride, output,
// output's stride): the results have to be the same `out` numbers.
template <typename Launch>
void compare(int64_t in, int64_t out, Launch with) {
  std::vector<float> input(static_cast<std::size_t>(2 * in));
  std::vector<float> near(static_cast<std::size_t>(2 * out));
  Random random(41);
  for (float& x : input) x = static_cast<float>(random.real() - 0.5);
  with(input.data(), in, near.data(), out);

  const Reserved far_input, far_output;
  for (int64_t image : {0, 1}) {
    std::copy_n(input.data() + image * in, in, far_input.data + image * kFar);
  }
  with(far_input.data, kFar, far_output.data, kFar);
  for (int64_t image : {0, 1}) {
    CHECK(std::equal(near.data() + image * out, near.data() + (image + 1) * out,
                     far_output.data + image * kFar));
  }
}

}  // namespace

void test_far() {
  constexpr int64_t kChannels = 8, kSide = 6, kMap = kSide * kSide;
  const std::vector<float> ones(9 * kChannels * kChannels, 1);
  Run run;
  for (bool channels_last : {true, false}) {  // by chunks, and by single numbers
    const auto strides = [=](int64_t image, int64_t side) -> Strides {
      if (channels_last) return {image, 1, side * kChannels, kChannels};
      return {image, side * side, side, 1};
    };
    const Strides weight{9 * kChannels, 1, 3 * kChannels, kChannels};
    Conv2dParams p;
    p.batch = 2, p.in_channels = p.out_channels = kChannels;
    p.in_h = p.in_w = p.out_h = p.out_w = kSide;
    p.window.kernel_h = p.window.kernel_w = 3, p.window.pad_h = p.window.pad_w = 1;
    compare(kMap * kChannels, kMap * kChannels,
            [&](const float* in, int64_t in_step, float* out, int64_t out_step) {
              p.input = strides(in_step, kSide), p.output = strides(out_step, kSide);
              p.groups = 1;
              const cuda::Conv2dPlan plan =
                  cuda::plan_conv2d(p, weight, 4, in, ones.data(), nullptr, out, 1000);
              CHECK(plan.declines == nullptr && plan.loads_chunks == channels_last && !plan.large);
              launch(plan.grid, run, [&](Block& block, int32_t thread) {
                HostContext<false> ctx(block, thread);
                if (channels_last) {
                  cuda::conv2d_body<float, cuda::SmallTile, true, false, HostContext<false>>(
                      ctx, plan.problem, in, ones.data(), nullptr, nullptr, out);
                } else {
                  cuda::conv2d_body<float, cuda::SmallTile, false, false, HostContext<false>>(
                      ctx, plan.problem, in, ones.data(), nullptr, nullptr, out);
                }
              });
            });
    compare(kMap * kChannels, kMap * kChannels,
            [&](const float* in, int64_t in_step, float* out, int64_t out_step) {
              p.input = strides(in_step, kSide), p.output = strides(out_step, kSide);
              p.groups = kChannels;
              const cuda::DepthwisePlan plan =
                  cuda::plan_depthwise(p, {9, 9, 3, 1}, 4, in, false, out);
              CHECK(plan.declines == nullptr);
              launch(plan.grid, run, [&](Block& block, int32_t thread) {
                HostContext<false> ctx(block, thread);
                cuda::depthwise_body<float, 3, 1>(ctx, plan.problem, in, ones.data(),
                                                  static_cast<const float*>(nullptr), out);
              });
            });
    for (int64_t side : {int64_t{3}, int64_t{1}}) {  // windows of 2x2, and one of all of the map
      compare(kMap * kChannels, side * side * kChannels,
              [&](const float* in, int64_t in_step, float* out, int64_t out_step) {
                Pool2dParams q;
                q.batch = 2, q.channels = kChannels;
                q.in_h = q.in_w = kSide, q.out_h = q.out_w = side;
                q.window.kernel_h = q.window.kernel_w = kSide / side;
                q.window.stride_h = q.window.stride_w = kSide / side;
                q.input = strides(in_step, kSide), q.output = strides(out_step, side);
                const cuda::Pool2dPlan plan = cuda::plan_pool2d(q, Pool::avg, 4, in, out);
                CHECK((plan.kernel == cuda::PoolKernel::global) == (side == 1));
                launch(plan.grid, run, [&](Block& block, int32_t thread) {
                  HostContext<false> ctx(block, thread);
                  const auto body = [&](auto chunks) {
                    if (side == 1) {
                      cuda::pool2d_global_body<float, decltype(chunks)::value>(ctx, plan.problem,
                                                                               in, out);
                    } else {
                      cuda::pool2d_window_body<float, decltype(chunks)::value>(ctx, plan.problem,
                                                                               in, out);
                    }
                  };
                  plan.chunks ? body(std::true_type{}) : body(std::false_type{});
                });
              });
    }
  }
}

}  // namespace zoo::simt
