// The selection lists: what kernels are taken for, and when PyTorch's own ops are.
#include "cuda/choices.h"
#include "support.h"

namespace zoo::simt {
namespace {

using cuda::Conv2dImpl;
using cuda::Element;
using cuda::Wish;

struct Layer {
  int64_t channels, filters, side, kernel = 3, stride = 1, groups = 1;
  Activation activation = Activation::relu;
};

// In channels_last, batch 32.
Conv2dParams params(const Layer& layer) {
  Conv2dParams p;
  p.batch = 32, p.in_channels = layer.channels, p.out_channels = layer.filters;
  p.groups = layer.groups;
  p.in_h = p.in_w = layer.side;
  Window& w = p.window;
  w.kernel_h = w.kernel_w = layer.kernel, w.stride_h = w.stride_w = layer.stride;
  w.pad_h = w.pad_w = layer.kernel / 2;
  p.out_h = p.out_w = out_size(layer.side, layer.kernel, layer.stride, layer.kernel / 2, 1);
  p.activation = layer.activation;
  p.input = channels_last({p.batch, p.in_channels, p.in_h, p.in_w});
  p.output = channels_last({p.batch, p.out_channels, p.out_h, p.out_w});
  return p;
}

Wish wish_for(Element element, bool bias = true) {
  Wish wish;
  wish.element = element, wish.bias = bias;
  return wish;
}

// Whether this is why an implementation declines.
bool reason_is(const Conv2dParams& p, const Wish& wish, Conv2dImpl impl, const char* part) {
  for (int32_t i = 0; i < cuda::kConv2dListSize; ++i) {
    if (cuda::kConv2dList[i].impl != impl) continue;
    const char* reason = cuda::kConv2dList[i].declines(p, wish);
    return reason != nullptr && std::string(reason).find(part) != std::string::npos;
  }
  return false;
}

void what_memory_limits_is_ours() {
  const Wish single = wish_for(Element::float32), half = wish_for(Element::float16);
  const auto chosen = [](const Layer& layer, const Wish& wish) {
    return select_conv2d(params(layer), wish);
  };
  // First layers, depthwise ones, few channels by 1x1; by the matrix units more of them.
  CHECK(chosen({3, 32, 32}, single) == Conv2dImpl::conv2d);
  CHECK(chosen({32, 32, 56, 1}, single) == Conv2dImpl::conv2d);
  CHECK(chosen({64, 64, 56, 1}, single) == Conv2dImpl::aten);
  CHECK(chosen({64, 64, 56, 1}, half) == Conv2dImpl::conv2d);
  CHECK(chosen({128, 128, 14, 1}, single) == Conv2dImpl::aten);
  CHECK(chosen({128, 128, 14, 1}, half) == Conv2dImpl::conv2d);
  CHECK(chosen({64, 64, 56}, single) == Conv2dImpl::aten);
  CHECK(chosen({64, 64, 56}, half) == Conv2dImpl::aten);
  CHECK(chosen({512, 512, 7}, half) == Conv2dImpl::aten);
  CHECK(chosen({128, 128, 56, 3, 1, 128}, single) == Conv2dImpl::depthwise);
  CHECK(chosen({128, 128, 56, 5, 2, 128}, single) == Conv2dImpl::depthwise);
  CHECK(chosen({128, 128, 56, 3, 1, 32}, half) == Conv2dImpl::aten);  // tiles nearly empty

  CHECK(reason_is(params({64, 64, 56}), single, Conv2dImpl::conv2d, "limited by arithmetic"));
  // Turing has no matrix units for bfloat16.
  Wish brain = wish_for(Element::bfloat16);
  CHECK(chosen({128, 128, 14, 1}, brain) == Conv2dImpl::conv2d);
  brain.device.capability = 75;
  CHECK(chosen({128, 128, 14, 1}, brain) == Conv2dImpl::aten);
}

void without_a_pass_saved_it_is_not() {
  Layer pointwise{32, 64, 56, 1};
  pointwise.activation = Activation::none;
  Wish wish = wish_for(Element::float32, false);
  CHECK(reason_is(params(pointwise), wish, Conv2dImpl::conv2d, "nothing is fused"));
  wish.residual = true;
  CHECK(select_conv2d(params(pointwise), wish) == Conv2dImpl::conv2d);
  // PyTorch's own depthwise kernel adds the bias itself.
  Layer depthwise{128, 128, 56, 3, 1, 128, Activation::none};
  wish = wish_for(Element::float32);
  CHECK(reason_is(params(depthwise), wish, Conv2dImpl::depthwise, "nothing is fused"));
  CHECK(select_conv2d(params(depthwise), wish) == Conv2dImpl::aten);
  // Many channels in, few out: the map that is not passed over is small.
  CHECK(reason_is(params({1024, 16, 14, 1}), wish_for(Element::float16, false), Conv2dImpl::conv2d,
                  "less than a fifth"));
}

void a_pool_is_a_pass() {
  Conv2dParams p = params({3, 64, 32});
  p.activation = Activation::none;
  const Wish wish = wish_for(Element::float32, false);
  CHECK(select_conv2d(p, wish) == Conv2dImpl::aten);
  p.pool = Pool::max;
  p.pool_window.kernel_h = p.pool_window.kernel_w = 2;
  p.pool_window.stride_h = p.pool_window.stride_w = 2;
  p.pool_h = p.pool_w = 16;
  CHECK(select_conv2d(p, wish_for(Element::float16, false)) == Conv2dImpl::conv2d);
  p.pool_window.kernel_h = p.pool_window.kernel_w = 12;
  p.pool_h = p.pool_w = 11;
  CHECK(reason_is(p, wish, Conv2dImpl::conv2d, "a pool window of more than 128 pixels"));
}

void wishes_overrule_preferences() {
  Conv2dParams p = params({512, 512, 7});
  for (bool Wish::* wished : {&Wish::own, &Wish::exact}) {
    Wish wish = wish_for(Element::float16);
    wish.*wished = true;
    CHECK(select_conv2d(p, wish) == Conv2dImpl::conv2d);
  }
  Wish wish = wish_for(Element::float32);
  p = params({3, 32, 32});
  p.input = {3 * 32 * 32, 32 * 32, 32, 1};
  CHECK(reason_is(p, wish, Conv2dImpl::conv2d, "not channels_last"));
  wish.own = true;
  CHECK(select_conv2d(p, wish) == Conv2dImpl::conv2d);
  // But not what the kernels cannot do.
  wish.device.compiled = false;
  CHECK(reason_is(p, wish, Conv2dImpl::conv2d, "not compiled for this device"));
  wish.device.compiled = true, wish.element = Element::other;
  CHECK(reason_is(p, wish, Conv2dImpl::depthwise, "no kernel for this dtype"));
  CHECK(select_conv2d(p, wish) == Conv2dImpl::aten);
}

void pools() {
  Pool2dParams p;
  p.batch = 2, p.channels = 64, p.in_h = p.in_w = 8, p.out_h = p.out_w = 4;
  p.window.kernel_h = p.window.kernel_w = p.window.stride_h = p.window.stride_w = 2;
  p.input = channels_last({2, 64, 8, 8}), p.output = channels_last({2, 64, 4, 4});
  Wish wish = wish_for(Element::bfloat16);
  CHECK(cuda::pool2d_declines(p, Pool::max, wish) == nullptr);
  CHECK(cuda::pool2d_declines(p, Pool::avg, wish) != nullptr);
  wish.own = true;
  CHECK(cuda::pool2d_declines(p, Pool::avg, wish) == nullptr);
  wish.element = Element::other;
  CHECK(cuda::pool2d_declines(p, Pool::max, wish) != nullptr);
}

}  // namespace

void test_choices() {
  what_memory_limits_is_ours();
  without_a_pass_saved_it_is_not();
  a_pool_is_a_pass();
  wishes_overrule_preferences();
  pools();
}

}  // namespace zoo::simt
