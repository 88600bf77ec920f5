// What a plan's steps are made of. Views of convolutions, pools and scale_shift have four
// dimensions (batch, channel, row, column) and float32 elements.
#pragma once

#include <ATen/core/dispatch/Dispatcher.h>

#include <optional>

#include "plan/plan.h"

namespace zoo::plan {

// Sizes follow from the views; window and pool_window hold the rest. conv_h and conv_w are the
// convolution's own output, before the pool.
struct Conv2dStepArgs {
  View input, output;
  std::optional<View> residual;
  // (N, C, 1, 1): what the input is multiplied by first. For 1x1 windows and one group.
  std::optional<View> scale;
  at::Tensor weight;                       // plain (O, C / groups, KH, KW)
  std::optional<at::Tensor> weight_scale;  // O numbers, which the filters are multiplied by first
  std::optional<at::Tensor> bias;          // (O,)
  Window window;
  int64_t groups = 1, conv_h = 0, conv_w = 0;
  Activation activation = Activation::none;
  Pool pool = Pool::none;
  Window pool_window;
  bool exact = false;
};

std::unique_ptr<Step> conv2d_step(const Conv2dStepArgs& args, PackedWeights& weights,
                                  int32_t threads);

// The window and options are those of params; its sizes and strides are the views'.
std::unique_ptr<Step> pool2d_step(Pool kind, Pool2dParams params, const View& input,
                                  const View& output);

std::unique_ptr<Step> scale_shift_step(Activation activation, const View& input,
                                       const std::optional<View>& scale,
                                       const std::optional<View>& shift, const View& output);

// Over the last dimension; weight and bias have that one only. All lie without gaps.
std::unique_ptr<Step> layer_norm_step(const View& input, const std::optional<View>& weight,
                                      const std::optional<View>& bias, double eps,
                                      const View& output);

// Over the channels of each of the groups, and all pixels; then the activation. Images are rows of
// channels without gaps, and weight and bias, one number for each channel, too.
std::unique_ptr<Step> group_norm_step(int64_t groups, Activation activation, const View& input,
                                      const std::optional<View>& weight,
                                      const std::optional<View>& bias, double eps,
                                      const View& output, int32_t threads);

// Any op, through the dispatcher. The tensors in stack, lists included, are replaced by the views,
// in order (but for weights packed by oneDNN); each result becomes a buffer, laid out as `results`
// says, or is dropped (buffer -1).
std::unique_ptr<Step> call_step(c10::OperatorHandle op, std::vector<c10::IValue> stack,
                                std::vector<View> views, std::vector<View> results);

}  // namespace zoo::plan
