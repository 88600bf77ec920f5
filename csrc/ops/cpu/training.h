// What the training ops share on the CPU: convolutions over a few images at a time, and the
// gradients of their inputs and weights.
//
// All maps are rows of channels (channels_last memory). A pass takes a few images, and what one of
// its steps writes is still in the cache when the next reads it: the map before a pool or behind an
// activation's derivative never is whole anywhere.
#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "kernels/conv2d_gradient_list.h"
#include "kernels/conv2d_list.h"
#include "kernels/dispatch.h"
#include "kernels/params.h"
#include "ops/arguments.h"
#include "ops/parallel.h"

namespace zoo::ops::cpu {

// The tensor in channels_last memory: itself, if it is.
at::Tensor rows(const at::Tensor& tensor);
// An uninitialised tensor (n, channels, h, w) in channels_last memory.
at::Tensor empty_rows(int64_t n, int64_t channels, int64_t h, int64_t w, const at::Tensor& like);
Strides row_strides(int64_t channels, int64_t h, int64_t w);

// Raises an error that names the reason, where training_declines (ops/arguments.h) has one.
void check_training(const char* op, const at::Tensor& input, const at::Tensor& weight,
                    const Conv2dArgs& args);
// Raises an error unless the tensor has this size, and the input's dtype and device.
void check_map(const char* op, const char* what, const at::Tensor& tensor, at::IntArrayRef size,
               const at::Tensor& input);
// The same for one number per channel, if there is any.
void check_channels(const char* op, const char* what, const std::optional<at::Tensor>& tensor,
                    int64_t channels, const at::Tensor& input);

// Who computes a gradient: what the selection lists (kernels/conv2d_gradient_list.h) say, or our
// kernels where PyTorch may not be preferred.
GradientImpl input_gradient_by(const Conv2dParams& params, const at::Tensor& like);
GradientImpl weight_gradient_by(const Conv2dParams& params, const at::Tensor& like);

// How many images to take at a time, for a map of the convolution's output to stay in the cache.
int64_t images_at_once(const Conv2dParams& params, const at::Tensor& input);
// The same for a backward: all, where the gradient of the input is wanted and left to PyTorch.
int64_t images_at_once(const Conv2dParams& params, const at::Tensor& input, bool input_wanted);

// body(first, count) for all images, `at_once` at a time.
template <typename Body>
void for_images(int64_t images, int64_t at_once, Body body) {
  for (int64_t first = 0; first < images; first += at_once) {
    body(first, std::min(at_once, images - first));
  }
}

// A convolution whose weight is packed once, for up to params.batch images at a time.
template <typename T>
class Convolution {
 public:
  // The params' strides are those of what run() is given.
  Convolution(const Conv2dParams& params, bool exact, const at::Tensor& weight);
  void run(int64_t images, const T* input, const T* bias, T* output) const;

 private:
  Conv2dParams params_;
  Conv2dImpl impl_;
  Parallel threads_;
  at::Tensor packed_, workspace_;
};

// The gradient of a convolution's input: a product with the weight, or convolutions of the output's
// gradient with the turned weight. With a stride there is one for each phase of the input's rows
// and columns, with the taps that meet it.
template <typename T>
class InputGradient {
 public:
  // params are the forward convolution's; up to params.batch images at a time.
  InputGradient(const Conv2dParams& params, bool exact, const at::Tensor& weight);
  // From rows of channels to rows of channels.
  void run(int64_t images, const T* grad, T* grad_input) const;

 private:
  struct Phase {
    Convolution<T> convolution;
    int64_t offset;
  };
  Conv2dParams params_;
  at::Tensor factor_;  // the weight as a matrix, where a product is the gradient
  std::vector<Phase> phases_;
  bool gaps_ = false;  // some of the input meets no tap
};

// The gradient of a convolution's input by PyTorch, in channels_last memory. grad: rows of channels
// of all images.
at::Tensor aten_input_gradient(const Conv2dParams& params, const void* grad,
                               const at::Tensor& input, const at::Tensor& weight);

// The gradient of a convolution's weight.
template <typename T>
class WeightGradient {
 public:
  // params are the forward convolution's; up to params.batch images at a time.
  explicit WeightGradient(const Conv2dParams& params, const at::Tensor& like);
  // input and grad are rows of channels.
  void add(int64_t images, const T* input, const T* grad);
  // The sum of all that was added, laid out as the weight is.
  at::Tensor finish(const at::Tensor& weight) const;

 private:
  Conv2dParams params_;
  const Conv2dWeightGradKernel<T>* kernel_ = nullptr;
  Parallel threads_;
  at::Tensor product_;  // (O, C), where a product is the gradient
  at::Tensor sums_, workspace_;
  bool first_ = true;
};

// `count` sums per channel, in double.
class ChannelSums {
 public:
  ChannelSums(int64_t count, int64_t channels, const Parallel& threads);
  double* data() { return sums_.mutable_data_ptr<double>(); }
  // True at the first call: sums are to be set, later added to.
  bool first() { return std::exchange(first_, false); }
  // Adds up the threads' parts; (count, channels).
  at::Tensor finish() const;

 private:
  int64_t count_, channels_;
  int32_t threads_;
  at::Tensor sums_;
  bool first_ = true;
};

// Threads for a pass over the whole batch.
Parallel training_threads(const Conv2dParams& params);

// Both gradients of a convolution, as far as wanted (input, weight), from make(first, count): the
// gradient of its output for these images, in rows of channels.
template <typename T, typename Make>
std::array<at::Tensor, 2> convolution_gradients(const Conv2dParams& params, bool exact,
                                                const at::Tensor& input, const at::Tensor& weight,
                                                std::array<bool, 2> wanted, int64_t at_once,
                                                Make make) {
  Conv2dParams part = params;
  part.batch = std::min(at_once, params.batch);
  std::optional<InputGradient<T>> to_input;
  std::optional<WeightGradient<T>> to_weight;
  std::array<at::Tensor, 2> grads;
  at::Tensor x;
  const bool by_aten =
      wanted[0] && params.batch > 0 && input_gradient_by(params, input) == GradientImpl::aten;
  if (wanted[0] && !by_aten) {
    to_input.emplace(part, exact, weight);
    grads[0] = empty_rows(params.batch, params.in_channels, params.in_h, params.in_w, input);
  }
  if (wanted[1]) {
    to_weight.emplace(part, input);
    x = rows(input);
  }
  const int64_t image = params.in_channels * params.in_h * params.in_w;
  for_images(params.batch, at_once, [&](int64_t first, int64_t count) {
    const T* const grad = make(first, count);
    if (to_weight) to_weight->add(count, x.const_data_ptr<T>() + first * image, grad);
    if (to_input) to_input->run(count, grad, grads[0].mutable_data_ptr<T>() + first * image);
    if (by_aten) grads[0] = aten_input_gradient(params, grad, input, weight);
  });
  if (to_weight) grads[1] = to_weight->finish(weight);
  return grads;
}

}  // namespace zoo::ops::cpu
