#include "ops/cpu/training.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/flip.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <cstring>

#include "kernels/transpose.h"
#include "ops/cpu/convolution.h"

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
  if (gaps_) {
    const int64_t count = images * params_.in_channels * params_.in_h * params_.in_w;
    std::memset(grad_input, 0, static_cast<std::size_t>(count) * sizeof(T));
  }
  for (const Phase& phase : phases_) {
    phase.convolution.run(images, grad, /*bias=*/nullptr, grad_input + phase.offset);
  }
}

template <typename T>
WeightGradient<T>::WeightGradient(const Conv2dParams& params, const at::Tensor& like)
    : params_(params), threads_(training_threads(params)) {
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
