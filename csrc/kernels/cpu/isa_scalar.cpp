// The portable kernels: every processor that C++ runs on.
#include "tables.h"

namespace zoo {
namespace {

template <typename F>
void parallel_for(const Parallel& parallel, int64_t count, F body) {
  if (count <= 0) return;
  if (parallel.run == nullptr || parallel.threads <= 1) {
    body(int64_t{0}, count, 0);
    return;
  }
  parallel.run(parallel, count, &body, [](void* f, int64_t begin, int64_t end, int32_t thread) {
    (*static_cast<F*>(f))(begin, end, thread);
  });
}

template <typename T>
T activate(Activation a, T x) {
  switch (a) {
    case Activation::none: return x;
    case Activation::relu: return x < 0 ? 0 : x;
    case Activation::relu6: return x < 0 ? 0 : x > 6 ? 6 : x;
    case Activation::sigmoid: return 1 / (1 + __builtin_exp(-x));
    case Activation::tanh: return __builtin_tanh(x);
    case Activation::silu: return x / (1 + __builtin_exp(-x));
    case Activation::gelu: return x * T(0.5) * (1 + __builtin_erf(x * 0.70710678118654752440));
    case Activation::hardswish: { T y = x + 3; return x * (y < 0 ? 0 : y > 6 ? 6 : y) / 6; }
    case Activation::hardsigmoid: { T y = x + 3; return (y < 0 ? 0 : y > 6 ? 6 : y) / 6; }
    case Activation::leaky_relu: return x > 0 ? x : x * T(0.01);
  }
  return x;
}

template <typename T, bool depthwise>
T conv_at(const Conv2dParams& p, const T* in, const T* w, const T* bias, const T* res, int64_t n, int64_t o, int64_t y, int64_t x) {
  const int64_t og = p.out_channels / p.groups, cg = p.in_channels / p.groups, g = o / og, j = o % og;
  const int64_t panels = (og + 31) / 32, depth = p.window.kernel_h * p.window.kernel_w * cg;
  T sum = 0;
  for (int64_t r = 0; r < p.window.kernel_h; ++r)
    for (int64_t s = 0; s < p.window.kernel_w; ++s) {
      const int64_t ih = y * p.window.stride_h - p.window.pad_h + r * p.window.dilation_h;
      const int64_t iw = x * p.window.stride_w - p.window.pad_w + s * p.window.dilation_w;
      if (ih < 0 || ih >= p.in_h || iw < 0 || iw >= p.in_w) continue;
      const int64_t rs = r * p.window.kernel_w + s;
      for (int64_t c = 0; c < cg; ++c) {
        const T weight = depthwise ? w[rs * ((p.out_channels + 31) / 32 * 32) + o]
                                   : w[((g * panels + j / 32) * depth + rs * cg + c) * 32 + j % 32];
        sum += weight * in[n * p.input.n + (g * cg + c) * p.input.c + ih * p.input.h + iw * p.input.w];
      }
    }
  if (bias) sum += bias[o];
  if (res) sum += res[n * p.residual.n + o * p.residual.c + y * p.residual.h + x * p.residual.w];
  return activate(p.activation, sum);
}

template <typename T, bool depthwise>
void conv2d(const Conv2dParams& p, const T* in, const T* w, const T* bias, const T* res, T* out, void*, const Parallel& par) {
  const bool pool = p.pool != Pool::none;
  const int64_t H = pool ? p.pool_h : p.out_h, W = pool ? p.pool_w : p.out_w;
  parallel_for(par, p.batch * p.out_channels, [&](int64_t begin, int64_t end, int32_t) {
    for (int64_t u = begin; u < end; ++u) {
      const int64_t n = u / p.out_channels, o = u % p.out_channels;
      for (int64_t y = 0; y < H; ++y)
        for (int64_t x = 0; x < W; ++x) {
          T value;
          if (!pool) {
            value = conv_at<T, depthwise>(p, in, w, bias, res, n, o, y, x);
          } else {
            value = p.pool == Pool::max ? -__builtin_inf() : 0;
            for (int64_t r = 0; r < p.pool_window.kernel_h; ++r)
              for (int64_t s = 0; s < p.pool_window.kernel_w; ++s) {
                const int64_t ih = y * p.pool_window.stride_h - p.pool_window.pad_h + r * p.pool_window.dilation_h;
                const int64_t iw = x * p.pool_window.stride_w - p.pool_window.pad_w + s * p.pool_window.dilation_w;
                if (ih < 0 || ih >= p.out_h || iw < 0 || iw >= p.out_w) continue;
                const T v = conv_at<T, depthwise>(p, in, w, bias, res, n, o, ih, iw);
                if (p.pool == Pool::max) { if (v > value || v != v) value = v; } else value += v;
              }
            if (p.pool == Pool::avg) value /= p.pool_window.kernel_h * p.pool_window.kernel_w;
          }
          out[n * p.output.n + o * p.output.c + y * p.output.h + x * p.output.w] = value;
        }
    }
  });
}

template <typename T, bool max>
void pool2d(const Pool2dParams& p, const T* in, T* out, int64_t* indices, const Parallel& par) {
  parallel_for(par, p.batch * p.channels, [&](int64_t begin, int64_t end, int32_t) {
    for (int64_t u = begin; u < end; ++u) {
      const int64_t n = u / p.channels, c = u % p.channels;
      const T* map = in + n * p.input.n + c * p.input.c;
      for (int64_t y = 0; y < p.out_h; ++y)
        for (int64_t x = 0; x < p.out_w; ++x) {
          T value = max ? -__builtin_inf() : 0;
          int64_t best = -1, count = 0;
          const int64_t y0 = y * p.window.stride_h - p.window.pad_h, x0 = x * p.window.stride_w - p.window.pad_w;
          for (int64_t r = 0; r < p.window.kernel_h; ++r)
            for (int64_t s = 0; s < p.window.kernel_w; ++s) {
              const int64_t ih = y0 + r * p.window.dilation_h, iw = x0 + s * p.window.dilation_w;
              if (ih < 0 || ih >= p.in_h || iw < 0 || iw >= p.in_w) continue;
              const T v = map[ih * p.input.h + iw * p.input.w];
              ++count;
              if (!max) value += v;
              else if (best < 0 || v > value || v != v) { value = v; best = ih * p.in_w + iw; }
            }
          if (!max && count) {
            auto span = [](int64_t start, int64_t k, int64_t limit) { return (start + k < limit ? start + k : limit) - start; };
            if (p.count_include_pad) count = span(y0, p.window.kernel_h, p.in_h + p.window.pad_h) * span(x0, p.window.kernel_w, p.in_w + p.window.pad_w);
            value /= p.divisor_override ? p.divisor_override : count;
          }
          const int64_t at = n * p.output.n + c * p.output.c + y * p.output.h + x * p.output.w;
          out[at] = value;
          if (indices) indices[at] = best;
        }
    }
  });
}

template <typename T>
void avg(const Pool2dParams& p, const T* in, T* out, const Parallel& par) {
  pool2d<T, false>(p, in, out, nullptr, par);
}

int64_t no_workspace(const Conv2dParams&, int32_t) { return 0; }

}  // namespace

extern const KernelTable kScalarTable = {
    "scalar",
    {{"gemm_scalar", no_workspace, conv2d<float, false>}, {"depthwise_scalar", no_workspace, conv2d<float, true>}, {pool2d<float, true>, avg<float>}},
    {{"gemm_scalar", no_workspace, conv2d<double, false>}, {"depthwise_scalar", no_workspace, conv2d<double, true>}, {pool2d<double, true>, avg<double>}},
};

}  // namespace zoo
