#include "ops/cpu/training.h"

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/convolution_backward.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/flip.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <cstring>

#include "kernels/transpose.h"
#include "ops/cpu/convolution.h"
#include "ops/fallback.h"
#include "ops/reference.h"

namespace zoo::ops::cpu {
namespace {

at::Tensor bytes(int64_t count, const at::Tensor& like) {
  return at::empty({count}, like.options().dtype(at::kByte));
}

// Planes of channels as rows of channels.
template <typename T>
at::Tensor turned_over(const at::Tensor& planes) {
  const int64_t channels = planes.size(1), pixels = planes.size(2) * planes.size(3);
  at::Tensor to = empty_rows(planes.size(0), channels, planes.size(2), planes.size(3), planes);
  const T* const source = planes.const_data_ptr<T>();
  T* const target = to.mutable_data_ptr<T>();
  auto body = [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      transpose(source + i * channels * pixels, pixels, target + i * channels * pixels, channels,
                channels, pixels);
    }
  };
  const Parallel threads = parallel(static_cast<double>(planes.numel()));
  threads.run(threads, planes.size(0), &body,
              [](void* context, int64_t begin, int64_t end, int32_t) {
                (*static_cast<decltype(body)*>(context))(begin, end);
              });
  return to;
}

// PyTorch's ops as they are, where the caller may record gradients or cast.
class Plain {
  at::AutoDispatchBelowADInplaceOrView below_;
  c10::impl::ExcludeDispatchKeyGuard no_autocast_{c10::autocast_dispatch_keyset};
};

// Memory of others as a matrix, row after row.
template <typename T>
at::Tensor matrix(const T* rows, int64_t count, int64_t columns, const at::Tensor& like) {
  return at::from_blob(const_cast<T*>(rows), {count, columns}, like.options());
}

// One axis of the taps that meet the input's positions phase, phase + stride, ...: every step-th
// tap from `first` on, `count` of them; turned around they see the output padded by `pad`.
struct Taps {
  int64_t first, count, pad;
};

Taps taps_of(int64_t phase, int64_t kernel, int64_t stride, int64_t pad, int64_t dilation) {
  if (stride == 1) return {0, kernel, (kernel - 1) * dilation - pad};
  const int64_t first = (phase + pad) % stride;
  const int64_t count = first < kernel ? (kernel - first + stride - 1) / stride : 0;
  return {first, count, count - 1 - (phase + pad - first) / stride};
}

// The weight (O, C/groups, h, w) as one from outputs to inputs, (C, O/groups, h, w), turned around.
at::Tensor turned(const at::Tensor& weight, int64_t groups, const Window& window, const Taps& h,
                  const Taps& w) {
  const at::Tensor part = weight.slice(2, h.first, std::nullopt, window.stride_h)
                              .slice(3, w.first, std::nullopt, window.stride_w);
  if (groups == 1) return at::flip(part.transpose(0, 1), {2, 3});
  const int64_t out = weight.size(0) / groups, in = weight.size(1);
  return at::flip(part.reshape({groups, out, in, h.count, w.count}).transpose(1, 2), {3, 4})
      .reshape({groups * in, out, h.count, w.count});
}

}  // namespace

at::Tensor rows(const at::Tensor& tensor) {
  const bool planes = tensor.is_contiguous() && tensor.is_cpu();
  if (planes && !tensor.is_contiguous(at::MemoryFormat::ChannelsLast)) {
    // What comes back through a flatten: PyTorch's copy takes three times as long.
    if (tensor.scalar_type() == at::kFloat) return turned_over<float>(tensor);
    if (tensor.scalar_type() == at::kDouble) return turned_over<double>(tensor);
  }
  return tensor.contiguous(at::MemoryFormat::ChannelsLast);
}

at::Tensor empty_rows(int64_t n, int64_t channels, int64_t h, int64_t w, const at::Tensor& like) {
  return at::empty({n, channels, h, w}, like.options(), at::MemoryFormat::ChannelsLast);
}

Strides row_strides(int64_t channels, int64_t h, int64_t w) {
  return {h * w * channels, 1, w * channels, channels};
}

void check_training(const char* op, const at::Tensor& input, const at::Tensor& weight,
                    const Conv2dArgs& args) {
  check_capability();
  const char* const reason = training_declines(input, weight, args);
  TORCH_CHECK(reason == nullptr, "zoo::", op, ": ", reason);
}

void check_map(const char* op, const char* what, const at::Tensor& tensor, at::IntArrayRef size,
               const at::Tensor& input) {
  TORCH_CHECK(tensor.sizes() == size, "zoo::", op, ": ", what, " must have the shape ", size,
              ", not ", tensor.sizes());
  TORCH_CHECK(tensor.scalar_type() == input.scalar_type() && tensor.device() == input.device(),
              "zoo::", op, ": ", what, " must be ", input.scalar_type(), " on ", input.device(),
              " as the input is");
}

void check_channels(const char* op, const char* what, const std::optional<at::Tensor>& tensor,
                    int64_t channels, const at::Tensor& input) {
  if (tensor) check_map(op, what, *tensor, {channels}, input);
}

GradientImpl input_gradient_by(const Conv2dParams& params, const at::Tensor& like) {
  return may_prefer_aten() ? select_input_gradient(params, dtype_of(like)) : GradientImpl::kernels;
}

GradientImpl weight_gradient_by(const Conv2dParams& params, const at::Tensor& like) {
  return may_prefer_aten() ? select_weight_gradient(params, dtype_of(like)) : GradientImpl::kernels;
}

int64_t images_at_once(const Conv2dParams& params, const at::Tensor& input) {
  constexpr int64_t kBytesOfThread = 256 << 10;  // half of what L2 holds
  const int64_t size = input.element_size();
  const int64_t image = params.out_channels * params.out_h * params.out_w * size;
  // Each part reads the weight anew, so it is not worth less than that.
  const int64_t weight = params.out_channels * (params.in_channels / params.groups) *
                         params.window.kernel_h * params.window.kernel_w * size;
  const int64_t bytes = std::max(kBytesOfThread * training_threads(params).threads, weight);
  return std::max<int64_t>(1, bytes / image);
}

int64_t images_at_once(const Conv2dParams& params, const at::Tensor& input, bool input_wanted) {
  const bool whole = input_wanted && input_gradient_by(params, input) == GradientImpl::aten;
  return whole ? std::max<int64_t>(1, params.batch) : images_at_once(params, input);
}

Parallel training_threads(const Conv2dParams& p) {
  return parallel(static_cast<double>(p.batch) * p.out_channels * p.out_h * p.out_w *
                  p.window.kernel_h * p.window.kernel_w * (p.in_channels / p.groups));
}

template <typename T>
Convolution<T>::Convolution(const Conv2dParams& params, bool exact, const at::Tensor& weight)
    : params_(params) {
  const Conv2dWish wish{dtype_of(weight), exact, /*prepacked=*/false};
  const Conv2dImpl chosen = select_conv2d(params, wish);
  const Packing packing = packing_of(chosen, params);
  // Where PyTorch's own would be quicker it cannot run here, image by image: ours for that layout.
  impl_ = chosen == Conv2dImpl::aten ? impl_of(packing, params, wish) : chosen;
  packed_ = pack(weight, packing, params.groups);
  threads_ = training_threads(params);
  const auto& workspace_bytes = kernel_of(active_kernels<T>(), impl_).workspace_bytes;
  workspace_ = bytes(workspace_bytes(params, threads_.threads), weight);
}

template <typename T>
void Convolution<T>::run(int64_t images, const T* input, const T* bias, T* output) const {
  const Conv2dKernel<T>& kernel = kernel_of(active_kernels<T>(), impl_);
  Conv2dParams params = params_;
  params.batch = images;
  at::Tensor workspace = workspace_;
  if (images != params_.batch) {  // a rest, which may be cut differently
    workspace = bytes(kernel.workspace_bytes(params, threads_.threads), packed_);
  }
  kernel.run(params, input, packed_.const_data_ptr<T>(), bias, /*residual=*/nullptr, output,
             workspace.mutable_data_ptr(), threads_);
}

template <typename T>
InputGradient<T>::InputGradient(const Conv2dParams& params, bool exact, const at::Tensor& weight)
    : params_(params) {
  if (input_gradient_by(params, weight) == GradientImpl::product) {
    const Plain plain;
    factor_ = weight.reshape({params.out_channels, params.in_channels});
    return;
  }
  const Window& window = params.window;
  const Strides to = row_strides(params.in_channels, params.in_h, params.in_w);
  for (int64_t y = 0; y < std::min(window.stride_h, params.in_h); ++y) {
    for (int64_t x = 0; x < std::min(window.stride_w, params.in_w); ++x) {
      const Taps h = taps_of(y, window.kernel_h, window.stride_h, window.pad_h, window.dilation_h);
      const Taps w = taps_of(x, window.kernel_w, window.stride_w, window.pad_w, window.dilation_w);
      if (h.count == 0 || w.count == 0) {
        gaps_ = true;
        continue;
      }
      Conv2dParams p;
      p.batch = params.batch;
      p.in_channels = params.out_channels;
      p.in_h = params.out_h;
      p.in_w = params.out_w;
      p.out_channels = params.in_channels;
      p.out_h = (params.in_h - y + window.stride_h - 1) / window.stride_h;
      p.out_w = (params.in_w - x + window.stride_w - 1) / window.stride_w;
      p.groups = params.groups;
      p.window = {h.count, w.count, 1, 1, h.pad, w.pad, window.dilation_h, window.dilation_w};
      p.input = row_strides(params.out_channels, params.out_h, params.out_w);
      p.output = {to.n, to.c, to.h * window.stride_h, to.w * window.stride_w};
      phases_.push_back(
          {{p, exact, turned(weight, params.groups, window, h, w)}, y * to.h + x * to.w});
    }
  }
}

template <typename T>
void InputGradient<T>::run(int64_t images, const T* grad, T* grad_input) const {
  if (factor_.defined()) {
    const Plain plain;
    const int64_t pixels = images * params_.out_h * params_.out_w;
    at::Tensor to = matrix(grad_input, pixels, params_.in_channels, factor_);
    at::mm_out(to, matrix(grad, pixels, params_.out_channels, factor_), factor_);
    return;
  }
  if (gaps_) {
    const int64_t count = images * params_.in_channels * params_.in_h * params_.in_w;
    std::memset(grad_input, 0, static_cast<std::size_t>(count) * sizeof(T));
  }
  for (const Phase& phase : phases_) {
    phase.convolution.run(images, grad, /*bias=*/nullptr, grad_input + phase.offset);
  }
}

at::Tensor aten_input_gradient(const Conv2dParams& p, const void* grad, const at::Tensor& input,
                               const at::Tensor& weight) {
  const Plain plain;
  const Window& w = p.window;
  const Strides to = row_strides(p.out_channels, p.out_h, p.out_w);
  const at::Tensor map =
      at::from_blob(const_cast<void*>(grad), {p.batch, p.out_channels, p.out_h, p.out_w},
                    {to.n, to.c, to.h, to.w}, input.options());
  const at::Tensor made = rows(std::get<0>(at::convolution_backward(
      map, input, reference::regular(weight), /*bias_sizes=*/std::nullopt, {w.stride_h, w.stride_w},
      {w.pad_h, w.pad_w}, {w.dilation_h, w.dilation_w}, /*transposed=*/false,
      /*output_padding=*/{0, 0}, p.groups, {true, false, false})));
  // Of a map of one pixel or one channel PyTorch may say its strides otherwise.
  const Strides from = row_strides(p.in_channels, p.in_h, p.in_w);
  return made.as_strided(made.sizes(), {from.n, from.c, from.h, from.w});
}

template <typename T>
WeightGradient<T>::WeightGradient(const Conv2dParams& params, const at::Tensor& like)
    : params_(params), threads_(training_threads(params)) {
  if (weight_gradient_by(params, like) == GradientImpl::product) {
    product_ = at::empty({params.out_channels, params.in_channels}, like.options());
    return;
  }
  params_.input = row_strides(params.in_channels, params.in_h, params.in_w);
  params_.output = row_strides(params.out_channels, params.out_h, params.out_w);
  const bool depthwise = direct_packing(weight_size(params), params.groups) == Packing::depthwise;
  const Kernels<T>& kernels = active_kernels<T>();
  kernel_ = depthwise ? &kernels.depthwise_weight_grad : &kernels.weight_grad;
  sums_ = bytes(kernel_->sums_bytes(params_, threads_.threads), like);
  workspace_ = bytes(kernel_->workspace_bytes(params_, threads_.threads), like);
}

template <typename T>
void WeightGradient<T>::add(int64_t images, const T* input, const T* grad) {
  if (product_.defined()) {
    const Plain plain;
    const int64_t pixels = images * params_.out_h * params_.out_w;
    const at::Tensor x = matrix(input, pixels, params_.in_channels, product_),
                     turned = matrix(grad, pixels, params_.out_channels, product_).t();
    if (std::exchange(first_, false)) {
      at::mm_out(product_, turned, x);
    } else {
      at::addmm_out(product_, product_, turned, x);
    }
    return;
  }
  Conv2dParams params = params_;
  params.batch = images;
  at::Tensor workspace = workspace_;
  if (images != params_.batch) {
    workspace = bytes(kernel_->workspace_bytes(params, threads_.threads), sums_);
  }
  kernel_->add(params, input, grad, std::exchange(first_, false), sums_.mutable_data_ptr(),
               workspace.mutable_data_ptr(), threads_);
}

template <typename T>
at::Tensor WeightGradient<T>::finish(const at::Tensor& weight) const {
  if (first_) return at::zeros_like(weight);
  if (product_.defined()) {
    const Plain plain;
    const bool same = weight.stride(0) == weight.size(1) && weight.stride(1) == 1;
    return same ? product_.as_strided(weight.sizes(), weight.strides())
                : at::empty_like(weight).copy_(product_.view(weight.sizes()));
  }
  at::Tensor grad = at::empty_like(weight);
  kernel_->finish(params_, sums_.const_data_ptr(), grad.mutable_data_ptr<T>(), strides_of(grad),
                  threads_);
  return grad;
}

ChannelSums::ChannelSums(int64_t count, int64_t channels, const Parallel& threads)
    : count_(count),
      channels_(channels),
      threads_(threads.threads),
      sums_(at::empty({threads_, count, channels}, at::kDouble)) {}

at::Tensor ChannelSums::finish() const {
  if (first_) return at::zeros({count_, channels_}, sums_.options());
  active_kernels<float>().training.finish(count_, channels_, sums_.mutable_data_ptr<double>(),
                                          threads_);
  return sums_[0];
}

template class Convolution<float>;
template class Convolution<double>;
template class InputGradient<float>;
template class InputGradient<double>;
template class WeightGradient<float>;
template class WeightGradient<double>;

}  // namespace zoo::ops::cpu
