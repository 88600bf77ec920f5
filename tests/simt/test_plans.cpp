// How the plans cut work, and what they decline.
#include "cuda/conv2d_plan.h"
#include "cuda/depthwise_plan.h"
#include "cuda/pool2d_plan.h"
#include "support.h"

namespace zoo::simt {
namespace {

alignas(16) char data[32];  // plans look at addresses only

Conv2dParams layer(int64_t channels, int64_t filters, int64_t side) {
  Conv2dParams p;
  p.batch = 32, p.in_channels = channels, p.out_channels = filters;
  p.in_h = p.in_w = p.out_h = p.out_w = side;
  p.window.kernel_h = p.window.kernel_w = 3, p.window.pad_h = p.window.pad_w = 1;
  p.input = channels_last({32, channels, side, side});
  p.output = channels_last({32, filters, side, side});
  return p;
}

void add_pool(Conv2dParams& p, int64_t kernel, int64_t stride, int64_t pad) {
  p.pool = Pool::max;
  Window& w = p.pool_window;
  w.kernel_h = w.kernel_w = kernel, w.stride_h = w.stride_w = stride, w.pad_h = w.pad_w = pad;
  p.pool_h = p.pool_w = out_size(p.out_h, kernel, stride, pad, 1);
  p.output = channels_last({p.batch, p.out_channels, p.pool_h, p.pool_w});
}

cuda::Conv2dPlan plan(const Conv2dParams& p, int32_t element, const char* input = data,
                      int32_t processors = 100) {
  const Strides weight = channels_last({p.out_channels, p.in_channels / p.groups, 3, 3});
  return cuda::plan_conv2d(p, weight, element, input, data, nullptr, data, processors);
}

bool declines(const char* reason, const char* part) {
  return reason != nullptr && std::string(reason).find(part) != std::string::npos;
}

void conv2d_plans() {
  Conv2dParams p = layer(64, 64, 56);
  cuda::Conv2dPlan one = plan(p, 4);
  CHECK(one.large && one.loads_chunks && one.problem.stores_chunks);
  CHECK(one.grid.x == 32 * 56 * 56 / 128 && one.grid.y == 1 && one.grid.z == 1);
  CHECK(!plan(p, 4, data, 1000).large);       // too few for so many multiprocessors
  CHECK(!plan(layer(64, 32, 56), 4).large);   // half of it empty
  CHECK(!plan(p, 4, data + 4).loads_chunks);  // not aligned
  CHECK(plan(layer(12, 64, 56), 4).loads_chunks && !plan(layer(12, 64, 56), 2).loads_chunks);
  CHECK(!plan(layer(64, 70, 56), 4).problem.stores_chunks);

  add_pool(p, 2, 2, 0);
  one = plan(p, 4);
  CHECK(one.large && one.problem.rectangle_h * one.problem.rectangle_w <= 128);
  CHECK(one.problem.results_h == 1 && one.problem.results_w == 28);
  CHECK(one.problem.rectangle_h * one.problem.rectangle_w == 4 * 28);  // nothing computed twice
  CHECK(one.grid.x == 32 * 7 * 4);
  add_pool(p, 3, 2, 1);
  one = plan(p, 4);
  CHECK(one.problem.rectangle_h == 9 && one.problem.rectangle_w == 13);
  CHECK(one.problem.results_h == 4 && one.problem.results_w == 6);
  add_pool(p, 12, 12, 0);
  CHECK(declines(plan(p, 4).declines, "a pool window of more than 128 pixels"));
  add_pool(p, 11, 11, 0);
  CHECK(plan(p, 4, data, 1000).declines == nullptr && plan(p, 4, data, 1000).large);

  p = layer(64, 64, 56);
  p.batch = int64_t{1} << 20;
  CHECK(declines(plan(p, 4).declines, "2^31 output pixels"));
  p.batch = int64_t{1} << 28;
  CHECK(declines(plan(p, 4).declines, "a size of 2^28"));
  p = layer(64, 64, 56);
  p.window.kernel_h = p.window.kernel_w = 1 << 12;
  CHECK(declines(plan(p, 4).declines, "more than 2^28 products"));
  p = layer(70000, 70000, 1);
  p.groups = 70000;
  CHECK(declines(plan(p, 4).declines, "more than 65535 groups"));
}

void depthwise_plans() {
  Conv2dParams p = layer(64, 64, 56);
  const auto why = [&](bool residual = false) {
    return cuda::plan_depthwise(p, {9, 9, 3, 1}, 4, data, residual, data).declines;
  };
  CHECK(declines(why(), "not depthwise"));
  p.groups = 64;
  CHECK(why() == nullptr && declines(why(true), "a residual"));
  p.window.dilation_h = 2;
  CHECK(declines(why(), "dilated"));
  p.window.dilation_h = 1, p.window.stride_h = p.window.stride_w = 3;
  CHECK(declines(why(), "stride"));
  p.window.kernel_w = 5;
  CHECK(declines(why(), "a window that is not"));
}

void pool2d_plans() {
  Pool2dParams p;
  p.batch = 2, p.channels = 64, p.in_h = p.in_w = 7, p.out_h = p.out_w = 1, p.adaptive = true;
  p.input = channels_last({2, 64, 7, 7}), p.output = channels_last({2, 64, 1, 1});
  const auto plan = [&] { return cuda::plan_pool2d(p, Pool::avg, 4, data, data); };
  CHECK(plan().kernel == cuda::PoolKernel::global && plan().chunks && plan().grid.x == 4);
  p.out_w = 2, p.output = channels_last({2, 64, 1, 2});
  CHECK(plan().kernel == cuda::PoolKernel::window);
  p.input.c = 2;
  CHECK(!plan().chunks);
  p.channels = p.out_h = 1 << 16;
  CHECK(declines(plan().declines, "2^31 outputs of an image"));
}

}  // namespace

void test_plans() {
  conv2d_plans();
  depthwise_plans();
  pool2d_plans();
}

}  // namespace zoo::simt
