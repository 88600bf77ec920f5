// The ops as plain compositions of PyTorch's own: they run every case that no kernel takes (other
// dtypes, other devices), and forward-mode differentiation. Arguments are checked beforehand. In a
// forked child they run on one thread.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <tuple>

#include "ops/arguments.h"

namespace zoo::ops::reference {

at::Tensor activate(const at::Tensor& input, Activation activation);

at::Tensor conv2d(const at::Tensor& input, const at::Tensor& weight,
                  const std::optional<at::Tensor>& bias, const Conv2dArgs& args,
                  const std::optional<at::Tensor>& residual);

at::Tensor conv2d_pool(const at::Tensor& input, const at::Tensor& weight,
                       const std::optional<at::Tensor>& bias, const Conv2dArgs& args,
                       const PoolArgs& pool);

// Output, the map before the BatchNorm, and its channels' mean and biased variance: in bn_weight's
// dtype, or without it the map's, but at least float32.
std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> conv2d_batch_norm(
    const at::Tensor& input, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
    const Conv2dArgs& args, const std::optional<at::Tensor>& bn_weight,
    const std::optional<at::Tensor>& bn_bias, double eps, Activation activation,
    const std::optional<at::Tensor>& residual);

at::Tensor scale_shift(const at::Tensor& input, const std::optional<at::Tensor>& scale,
                       const std::optional<at::Tensor>& shift, Activation activation);

at::Tensor linear(const at::Tensor& input, const at::Tensor& weight,
                  const std::optional<at::Tensor>& bias, Activation activation,
                  const std::optional<at::Tensor>& residual);

// The packed layouts of csrc/kernels/table.h for any dtype and device: to the one that serves every
// convolution (direct_packing), and back from each. Winograd's come back but for rounding.
at::Tensor pack(const at::Tensor& weight, int64_t groups);
at::Tensor unpack(const at::Tensor& packed, Packing packing, at::IntArrayRef weight_size,
                  int64_t groups);

// The same values, laid out in the memory format that the op documents.
at::Tensor with_format(const at::Tensor& output, at::MemoryFormat format);

// The same with the strides that its layout has, whatever those of dimensions of one element were:
// PyTorch's convolution reads some of these, and then the wrong elements.
at::Tensor regular(const at::Tensor& tensor);

}  // namespace zoo::ops::reference
