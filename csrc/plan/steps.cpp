#include "plan/steps.h"

#include <ATen/ops/empty_strided.h>

#include <algorithm>
#include <cmath>

#include "kernels/conv2d_list.h"
#include "kernels/dispatch.h"
#include "kernels/sample.h"
#include "ops/parallel.h"

namespace zoo::plan {
namespace {

Strides strides_of(const View& view) {
  return {view.strides[0], view.strides[1], view.strides[2], view.strides[3]};
}

// The plan's threads, or one where the work is too little.
Parallel threads_for(double work, const Frame& frame) {
  Parallel parallel = ops::parallel(work);
  parallel.threads = std::min(parallel.threads, frame.threads());
  return parallel;
}

class Conv2dStep final : public Step {
 public:
  Conv2dStep(const Conv2dStepArgs& args, PackedWeights& weights, int32_t threads)
      : input_(args.input), output_(args.output), residual_(args.residual), scale_(args.scale) {
    if (args.bias) bias_ = args.bias->contiguous();
    Conv2dParams& p = params_;
    p.batch = args.input.sizes[0], p.in_channels = args.input.sizes[1];
    p.in_h = args.input.sizes[2], p.in_w = args.input.sizes[3];
    p.out_channels = args.weight.size(0), p.out_h = args.conv_h, p.out_w = args.conv_w;
    p.groups = args.groups, p.window = args.window, p.activation = args.activation;
    p.pool = args.pool, p.pool_window = args.pool_window;
    if (p.pool != Pool::none) p.pool_h = args.output.sizes[2], p.pool_w = args.output.sizes[3];
    p.input = strides_of(args.input), p.output = strides_of(args.output);
    if (args.residual) p.residual = strides_of(*args.residual);
    const Conv2dImpl impl = select_conv2d(p, {DType::float32, args.exact, /*prepacked=*/true});
    kernel_ = &kernel_of(active_kernels<float>(), impl);
    weight_ = weights.get(args.weight, args.weight_scale, packing_of(impl, p), p.groups);
    if (scale_) {
      TORCH_CHECK(packing_of(impl, p) == Packing::gemm && p.groups == 1 && weight_.numel() > 0 &&
                      args.window.kernel_h * args.window.kernel_w == 1,
                  "only 1x1 convolutions of one group scale their input");
      // Each image has weights of its own.
      p.batch = 1;
      scaled_bytes_ = (static_cast<int64_t>(weight_.nbytes()) + 63) / 64 * 64;
    }
    work_ = static_cast<double>(p.batch) * static_cast<double>(p.out_h * p.out_w) *
            static_cast<double>(args.weight.numel());
    workspace_bytes_ = scaled_bytes_ + kernel_->workspace_bytes(p, threads);
  }

  void run(Frame& frame) const override {
    const float* const weight = weight_.const_data_ptr<float>();
    if (!scale_) return run(frame, 0, weight, frame.workspace());
    auto* const scaled = static_cast<float*>(frame.workspace());
    const int64_t channels = params_.in_channels, panels = weight_.numel() / (channels * kPanel);
    for (int64_t n = 0; n < input_.sizes[0]; ++n) {
      active_kernels<float>().scale_panels(
          panels, channels, weight, frame.data<float>(*scale_) + n * scale_->strides[0],
          scale_->strides[1], scaled, threads_for(static_cast<double>(weight_.numel()), frame));
      run(frame, n, scaled, static_cast<char*>(frame.workspace()) + scaled_bytes_);
    }
  }
  int64_t workspace_bytes() const override { return workspace_bytes_; }
  std::string kernel() const override {
    return std::string(kernel_->name) + (scale_ ? " scaled" : "");
  }

 private:
  // From that image on.
  void run(const Frame& frame, int64_t image, const float* weight, void* workspace) const {
    const auto from = [&](const View& view) {
      return frame.data<float>(view) + image * view.strides[0];
    };
    kernel_->run(params_, from(input_), weight, bias_ ? bias_->const_data_ptr<float>() : nullptr,
                 residual_ ? from(*residual_) : nullptr, from(output_), workspace,
                 threads_for(work_, frame));
  }

  Conv2dParams params_;
  View input_, output_;
  std::optional<View> residual_, scale_;
  std::optional<at::Tensor> bias_;
  at::Tensor weight_;
  const Conv2dKernel<float>* kernel_;
  double work_ = 0;
  int64_t scaled_bytes_ = 0, workspace_bytes_ = 0;
};

class Pool2dStep final : public Step {
 public:
  Pool2dStep(Pool kind, const Pool2dParams& params, const View& input, const View& output)
      : kind_(kind), params_(params), input_(input), output_(output) {
    Pool2dParams& p = params_;
    p.batch = input.sizes[0], p.channels = input.sizes[1];
    p.in_h = input.sizes[2], p.in_w = input.sizes[3];
    p.out_h = output.sizes[2], p.out_w = output.sizes[3];
    p.input = strides_of(input), p.output = strides_of(output);
    work_ = p.adaptive ? static_cast<double>(p.in_h * p.in_w)
                       : static_cast<double>(p.out_h * p.out_w) *
                             static_cast<double>(p.window.kernel_h * p.window.kernel_w);
    work_ *= static_cast<double>(p.batch * p.channels);
  }

  void run(Frame& frame) const override {
    const Pool2dKernels<float>& kernels = active_kernels<float>().pool;
    const float* input = frame.data<float>(input_);
    float* output = frame.data<float>(output_);
    const Parallel parallel = threads_for(work_, frame);
    if (kind_ == Pool::max) {
      kernels.max_pool2d(params_, input, output, nullptr, parallel);
    } else {
      kernels.avg_pool2d(params_, input, output, parallel);
    }
  }
  std::string kernel() const override {
    return std::string(kind_ == Pool::max ? "max_pool2d_" : "avg_pool2d_") + isa_name(active_isa());
  }

 private:
  Pool kind_;
  Pool2dParams params_;
  View input_, output_;
  double work_ = 0;
};

class ScaleShiftStep final : public Step {
 public:
  ScaleShiftStep(Activation activation, const View& input, const std::optional<View>& scale,
                 const std::optional<View>& shift, const View& output)
      : input_(input), output_(output), scale_(scale), shift_(shift) {
    const std::vector<int64_t>& sizes = output.sizes;
    params_ = {sizes[0], sizes[1], sizes[2], sizes[3], activation};
    params_.input = strides_of(input), params_.output = strides_of(output);
    if (scale) params_.scale = strides_of(*scale);
    if (shift) params_.shift = strides_of(*shift);
  }

  void run(Frame& frame) const override {
    const double work = static_cast<double>(params_.batch * params_.channels) *
                        static_cast<double>(params_.height * params_.width);
    active_kernels<float>().pointwise.scale_shift(
        params_, frame.data<float>(input_), scale_ ? frame.data<float>(*scale_) : nullptr,
        shift_ ? frame.data<float>(*shift_) : nullptr, frame.data<float>(output_),
        threads_for(work, frame));
  }
  std::string kernel() const override {
    return std::string("scale_shift_") + isa_name(active_isa());
  }

 private:
  ScaleShiftParams params_;
  View input_, output_;
  std::optional<View> scale_, shift_;
};

class LayerNormStep final : public Step {
 public:
  LayerNormStep(const View& input, const std::optional<View>& weight,
                const std::optional<View>& bias, double eps, const View& output)
      : input_(input), output_(output), weight_(weight), bias_(bias) {
    params_.rows = 1, params_.channels = input.sizes.back(), params_.eps = eps;
    for (size_t i = 0; i + 1 < input.sizes.size(); ++i) params_.rows *= input.sizes[i];
  }

  void run(Frame& frame) const override {
    constexpr double kPasses = 3;
    const double work = kPasses * static_cast<double>(params_.rows * params_.channels);
    active_kernels<float>().norm.layer_norm(params_, frame.data<float>(input_),
                                            weight_ ? frame.data<float>(*weight_) : nullptr,
                                            bias_ ? frame.data<float>(*bias_) : nullptr,
                                            frame.data<float>(output_), threads_for(work, frame));
  }
  std::string kernel() const override {
    return std::string("layer_norm_") + isa_name(active_isa());
  }

 private:
  LayerNormParams params_;
  View input_, output_;
  std::optional<View> weight_, bias_;
};

// By the passes of batch norm in training, image by image: the sums of each channel, of these those
// of each group, and of them what each channel is multiplied by and what is added.
class GroupNormStep final : public Step {
 public:
  GroupNormStep(int64_t groups, Activation activation, const View& input,
                const std::optional<View>& weight, const std::optional<View>& bias, double eps,
                const View& output, int32_t threads)
      : groups_(groups),
        threads_(threads),
        eps_(eps),
        input_(input),
        output_(output),
        weight_(weight),
        bias_(bias) {
    const std::vector<int64_t>& sizes = input.sizes;
    params_ = {sizes[2] * sizes[3], sizes[1], activation};
  }

  void run(Frame& frame) const override {
    const auto& kernels = active_kernels<float>().training;
    const int64_t channels = params_.channels, image = params_.pixels * channels;
    constexpr double kPasses = 2;
    const Parallel parallel = threads_for(kPasses * static_cast<double>(image), frame);
    auto* const sums = static_cast<double*>(frame.workspace());
    auto* const guess = reinterpret_cast<float*>(sums + 2 * channels * threads_);
    float *const scale = guess + channels, *const shift = scale + channels;
    for (int64_t n = 0; n < input_.sizes[0]; ++n) {
      const float* const from = frame.data<float>(input_) + n * image;
      mean_of_some(from, params_.pixels, channels, guess);
      kernels.moments(params_, from, guess, /*first=*/true, sums, parallel);
      for (int32_t i = 1; i < parallel.threads; ++i) {
        for (int64_t c = 0; c < 2 * channels; ++c) sums[c] += sums[i * 2 * channels + c];
      }
      affine(frame, sums, guess, scale, shift);
      kernels.normalize(params_, from, scale, shift, /*residual=*/nullptr,
                        frame.data<float>(output_) + n * image, parallel);
    }
  }
  int64_t workspace_bytes() const override {
    return params_.channels * (2 * threads_ * int64_t{sizeof(double)} + 3 * int64_t{sizeof(float)});
  }
  std::string kernel() const override {
    return std::string("group_norm_") + isa_name(active_isa());
  }

 private:
  // From the sums of x - guess and of its square.
  void affine(Frame& frame, const double* sums, const float* guess, float* scale,
              float* shift) const {
    const int64_t channels = params_.channels, size = channels / groups_;
    const double *const first = sums, *const second = sums + channels;
    const auto pixels = static_cast<double>(params_.pixels);
    const float* const weight = weight_ ? frame.data<float>(*weight_) : nullptr;
    const float* const bias = bias_ ? frame.data<float>(*bias_) : nullptr;
    for (int64_t begin = 0; begin < channels; begin += size) {
      double mean = 0, square = 0;
      for (int64_t c = begin; c < begin + size; ++c) mean += first[c] / pixels + guess[c];
      mean /= static_cast<double>(size);
      for (int64_t c = begin; c < begin + size; ++c) {
        const double off = guess[c] - mean;
        square += second[c] + 2 * off * first[c] + pixels * off * off;
      }
      // In this order NaN stays NaN.
      const double variance = std::max(square / (pixels * static_cast<double>(size)), 0.0);
      const double inverse = 1 / std::sqrt(variance + eps_);
      for (int64_t c = begin; c < begin + size; ++c) {
        const double factor = weight != nullptr ? inverse * weight[c] : inverse;
        scale[c] = static_cast<float>(factor);
        shift[c] = static_cast<float>((bias != nullptr ? bias[c] : 0) - mean * factor);
      }
    }
  }

  int64_t groups_;
  int32_t threads_;
  double eps_;
  BatchNormParams params_;
  View input_, output_;
  std::optional<View> weight_, bias_;
};

// Calls use() for each tensor of the stack, also within lists, and puts what it returns there.
// Weights packed by oneDNN stay: no view can describe them.
template <typename Use>
void replace_tensors(std::vector<c10::IValue>& stack, Use use) {
  for (c10::IValue& value : stack) {
    if (value.isTensor()) {
      const at::Tensor& tensor = value.toTensor();
      if (tensor.defined() && !tensor.is_mkldnn()) value = use();
    } else if (value.isTensorList()) {
      c10::List<at::Tensor> list;
      for (size_t i = 0; i < value.toTensorList().size(); ++i) list.push_back(use());
      value = list;
    } else if (value.isList()) {
      c10::impl::GenericList list = value.toList().copy();
      for (size_t i = 0; i < list.size(); ++i) {
        if (c10::IValue(list.get(i)).isTensor()) list.set(i, use());
      }
      value = list;
    }
  }
}

class CallStep final : public Step {
 public:
  CallStep(c10::OperatorHandle op, std::vector<c10::IValue> stack, std::vector<View> views,
           std::vector<View> results)
      : op_(std::move(op)),
        stack_(std::move(stack)),
        views_(std::move(views)),
        results_(std::move(results)) {}

  void run(Frame& frame) const override {
    std::vector<c10::IValue> stack = stack_;
    size_t next = 0;
    replace_tensors(stack, [&] { return frame.tensor(views_[next++]); });
    op_.callBoxed(&stack);
    size_t i = 0;
    const auto keep = [&](const c10::IValue& value) {
      const View& planned = results_[i++];
      if (planned.buffer < 0) return;
      at::Tensor tensor = value.toTensor();
      // Later steps were planned for these strides; an op may choose others for its real output.
      if (tensor.strides() != at::IntArrayRef(planned.strides)) {
        at::Tensor copy = at::empty_strided(planned.sizes, planned.strides, tensor.options());
        tensor = copy.copy_(tensor);
      }
      frame.hold(planned.buffer, std::move(tensor));
    };
    for (const c10::IValue& value : stack) {
      if (value.isTensorList()) {
        for (const at::Tensor& tensor : value.toTensorVector()) keep(tensor);
      } else {
        keep(value);
      }
    }
  }
  std::string kernel() const override {
    return op_.schema().overload_name().empty()
               ? op_.schema().name()
               : op_.schema().name() + "." + op_.schema().overload_name();
  }

 private:
  c10::OperatorHandle op_;
  std::vector<c10::IValue> stack_;
  std::vector<View> views_, results_;
};

}  // namespace

std::unique_ptr<Step> conv2d_step(const Conv2dStepArgs& args, PackedWeights& weights,
                                  int32_t threads) {
  return std::make_unique<Conv2dStep>(args, weights, threads);
}

std::unique_ptr<Step> pool2d_step(Pool kind, Pool2dParams params, const View& input,
                                  const View& output) {
  return std::make_unique<Pool2dStep>(kind, params, input, output);
}

std::unique_ptr<Step> scale_shift_step(Activation activation, const View& input,
                                       const std::optional<View>& scale,
                                       const std::optional<View>& shift, const View& output) {
  return std::make_unique<ScaleShiftStep>(activation, input, scale, shift, output);
}

std::unique_ptr<Step> layer_norm_step(const View& input, const std::optional<View>& weight,
                                      const std::optional<View>& bias, double eps,
                                      const View& output) {
  return std::make_unique<LayerNormStep>(input, weight, bias, eps, output);
}

std::unique_ptr<Step> group_norm_step(int64_t groups, Activation activation, const View& input,
                                      const std::optional<View>& weight,
                                      const std::optional<View>& bias, double eps,
                                      const View& output, int32_t threads) {
  return std::make_unique<GroupNormStep>(groups, activation, input, weight, bias, eps, output,
                                         threads);
}

std::unique_ptr<Step> call_step(c10::OperatorHandle op, std::vector<c10::IValue> stack,
                                std::vector<View> views, std::vector<View> results) {
  return std::make_unique<CallStep>(std::move(op), std::move(stack), std::move(views),
                                    std::move(results));
}

}  // namespace zoo::plan
