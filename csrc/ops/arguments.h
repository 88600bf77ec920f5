// From an operator's arguments to a kernel's parameters: every check of shapes and options, in
// one place for all devices. Messages are one line; errors are RuntimeError, as PyTorch's.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <string_view>

#include "kernels/conv2d_list.h"
#include "kernels/params.h"

namespace zoo::ops {

struct Conv2dArgs {
  at::IntArrayRef stride, padding, dilation;
  int64_t groups;
  std::string_view activation, precision;
};

struct PoolArgs {
  std::string_view pool;
  at::IntArrayRef kernel, stride, padding;
};

Activation parse_activation(std::string_view name);
Pool parse_pool(std::string_view name);
// Whether the name is that of exact precision, and not of the default.
bool parse_exact(std::string_view name);

DType dtype_of(const at::Tensor& tensor);
Strides strides_of(const at::Tensor& tensor);

void check_dense(const char* op, const char* what, const at::Tensor& tensor);
// The dtype and device of input, and dense.
void check_same(const char* op, const char* what, const at::Tensor& tensor,
                const at::Tensor& input);

// The memory format of an output: channels_last if the input or (where there is one) the plain
// weight is laid out so, otherwise contiguous.
at::MemoryFormat output_format(const at::Tensor& input);
at::MemoryFormat output_format(const at::Tensor& input, const at::Tensor& weight);

// Checks everything about a convolution but the weight itself (see check_weight). Leaves the
// output's strides to be filled in once there is an output.
Conv2dParams conv2d_params(const char* op, const at::Tensor& input, at::IntArrayRef weight_size,
                           const std::optional<at::Tensor>& bias, const Conv2dArgs& args,
                           const std::optional<at::Tensor>& residual = std::nullopt);
// The window of a convolution with such a weight.
Window conv2d_window(const char* op, at::IntArrayRef weight_size, const Conv2dArgs& args);
void add_pool(Conv2dParams& params, const char* op, const PoolArgs& args);

// Null, or why the kernels do not train such a convolution: then PyTorch's own ops do.
const char* training_declines(const at::Tensor& input, const at::Tensor& weight,
                              const Conv2dArgs& args);

// weight is the plain weight or the packed one: only its dtype and device are looked at.
void check_weight(const char* op, const at::Tensor& input, const at::Tensor& weight);
void check_weight_size(const char* op, at::IntArrayRef weight_size, int64_t groups);

// The layout of weights that is the fastest for an input of this size.
Packing choose_packing(const char* op, at::IntArrayRef input_size, at::IntArrayRef weight_size,
                       const Conv2dArgs& args, DType dtype);
// A packed weight's layout, told by its size.
Packing packing_of(const char* op, const at::Tensor& packed, at::IntArrayRef weight_size,
                   int64_t groups);
// Refuses a case that the layout does not serve.
void check_packing(const char* op, Packing packing, const Conv2dParams& params, bool exact);

Pool2dParams pool2d_params(const char* op, const at::Tensor& input, at::IntArrayRef kernel,
                           at::IntArrayRef stride, at::IntArrayRef padding,
                           at::IntArrayRef dilation, bool ceil_mode);
// An average pool with that output; windows of one size, where it divides the input's.
Pool2dParams adaptive_pool2d_params(const char* op, const at::Tensor& input,
                                    at::IntArrayRef output_size);

}  // namespace zoo::ops
