// One convolution by one kernel of one table, against the reference.
#pragma once

#include "reference.h"

namespace zoo::test {

inline const Activation kActivations[] = {
    Activation::none,        Activation::relu,      Activation::relu6, Activation::sigmoid,
    Activation::tanh,        Activation::silu,      Activation::gelu,  Activation::hardswish,
    Activation::hardsigmoid, Activation::leaky_relu};

inline int64_t out_size(int64_t in, int64_t kernel, int64_t stride, int64_t pad, int64_t dilation) {
  const int64_t room = in + 2 * pad - dilation * (kernel - 1) - 1;
  return room < 0 ? 0 : room / stride + 1;
}

inline std::string describe(const char* kernel, const Conv2dParams& p, int32_t threads) {
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

// Whether Winograd computes this output from a NaN or an infinity that it may not depend on.
template <typename T>
bool touched(const Conv2dParams& p, Packing packing, const Tensor<T>& input, int64_t n, int64_t y,
             int64_t x) {
  if (!is_winograd(packing)) return false;
  const int64_t out = packing == Packing::winograd4 ? 4 : 2, scale = p.pool == Pool::none ? 1 : 2;
  const int64_t h0 = y * scale / out * out - p.window.pad_h;
  const int64_t w0 = x * scale / out * out - p.window.pad_w;
  for (int64_t h = std::max<int64_t>(h0, 0); h < std::min(h0 + out + 2, p.in_h); ++h) {
    for (int64_t w = std::max<int64_t>(w0, 0); w < std::min(w0 + out + 2, p.in_w); ++w) {
      for (int64_t c = 0; c < p.in_channels; ++c) {
        if (!std::isfinite(input.at(n, c, h, w))) return true;
      }
    }
  }
  return false;
}

// How a case's tensors lie in memory: in any way, or dense.
enum class Layout { any, nchw, channels_last };

inline Strides strides_in(Layout layout, Random& random, const Shape& s, bool may_expand) {
  const int64_t image = s.c * s.h * s.w;
  if (layout == Layout::nchw) return {image, s.h * s.w, s.w, 1};
  if (layout == Layout::channels_last) return {image, 1, s.w * s.c, s.c};
  return random_strides(random, s, may_expand);
}

template <typename T>
void run_case(Random& random, const KernelTable& table, Conv2dParams p, Conv2dImpl impl,
              bool special, Layout layout = Layout::any) {
  const Packing packing = packing_of(impl, p);
  const T gap = std::numeric_limits<T>::quiet_NaN();
  const int64_t in_group = p.in_channels / p.groups;
  const Shape in_shape{p.batch, p.in_channels, p.in_h, p.in_w};
  const Shape map_shape{p.batch, p.out_channels, p.out_h, p.out_w};
  const Shape out_shape =
      p.pool == Pool::none ? map_shape : Shape{p.batch, p.out_channels, p.pool_h, p.pool_w};
  const Shape weight_shape{p.out_channels, in_group, p.window.kernel_h, p.window.kernel_w};
  p.input = strides_in(layout, random, in_shape, true);
  p.output = strides_in(layout, random, out_shape, false);
  p.residual = strides_in(layout, random, map_shape, true);
  const bool with_residual = p.pool == Pool::none && random.chance(0.4);
  const bool in_place = with_residual && p.output.c == 1 && random.chance(0.5);
  if (in_place) p.residual = p.output;

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
  if (in_place) {
    output.each([&](auto... i) { output.data[output.place(i...)] = residual.at(i...); });
  }

  const int64_t count = packed_size(packing, weight_size(p), p.groups);
  Packing recognised;
  CHECK(recognise_packing(count, weight_size(p), p.groups, &recognised) && recognised == packing);
  std::unique_ptr<T[]> packed(new T[count]);
  pack_weight(packing, weight.data.get(), weight.strides, weight_size(p), p.groups, packed.get());
  const Conv2dKernel<T>& kernel = kernel_of(kernels_of<T>(table), impl);

  const int32_t threads = random.pick({1, 2, 5});
  Threads pool(threads);
  const int64_t bytes = kernel.workspace_bytes(p, threads);
  const auto workspace = workspace_of<T>(bytes);
  const bool invalid = raises_invalid([&] {
    kernel.run(p, input.data.get(), packed.get(), bias.get(),
               in_place        ? output.data.get()
               : with_residual ? residual.data.get()
                               : nullptr,
               output.data.get(), workspace.get(), pool.parallel);
  });
  if (invalid && !special) {
    std::fprintf(stderr, "computes with unwritten workspace: %s\n",
                 describe(kernel.name, p, threads).c_str());
  }
  CHECK(!invalid || special);

  // Winograd's errors are relative to the largest output near by, not to each.
  double most = 0;
  if (is_winograd(packing)) {
    Tensor<T>(map_shape, p.residual, gap).each([&](auto... i) {
      most = std::max(most, convolution<T>(p, input, weight, bias.get(), nullptr, i...).magnitude);
    });
  }
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
    const double bound = eps * (2 + 2 * std::max(expected.magnitude, most));
    if (special && touched(p, packing, input, n, y, x)) {
      // A whole tile is NaN where one of its inputs is NaN or infinite.
      const bool plain = p.pool == Pool::none && p.activation == Activation::none;
      if (plain && !std::isfinite(expected.value) && std::isfinite(got)) ++wrong;
      if (std::isnan(expected.value) && !std::isnan(got)) ++wrong;
      return;
    }
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

}  // namespace zoo::test
