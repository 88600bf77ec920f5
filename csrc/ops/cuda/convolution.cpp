#include "ops/cuda/convolution.h"

#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "kernels/cuda/launch.h"
#include "ops/arguments.h"
#include "ops/cuda/device.h"
#include "ops/fallback.h"

namespace zoo::ops::cuda {
namespace {

using at::Tensor;
using zoo::cuda::Conv2dImpl;

std::string describe(const Conv2dParams& p, const Tensor& weight) {
  const Window &w = p.window, &q = p.pool_window;
  std::string text = c10::str("weight ", weight.sizes(), ", stride ", w.stride_h, "x", w.stride_w,
                              ", padding ", w.pad_h, "x", w.pad_w, ", dilation ", w.dilation_h, "x",
                              w.dilation_w, ", ", p.groups, " groups");
  if (p.pool != Pool::none) {
    text += c10::str(", pool of ", q.kernel_h, "x", q.kernel_w, ", its stride ", q.stride_h, "x",
                     q.stride_w, ", its padding ", q.pad_h, "x", q.pad_w);
  }
  return text;
}

// Tensors that are not given are undefined. bias is dense.
template <typename T>
cudaError_t launch(Conv2dImpl impl, const Conv2dParams& params, const zoo::cuda::Device& device,
                   const Tensor& input, const Tensor& weight, const Tensor& bias,
                   const Tensor& residual, Tensor& output) {
  const T *from = data_of<T>(input), *filters = data_of<T>(weight), *added = data_of<T>(bias);
  T* const to = static_cast<T*>(output.mutable_data_ptr());
  const Strides strides = useful_strides(weight);
  const cudaStream_t stream = c10::cuda::getCurrentCUDAStream();
  if (impl == Conv2dImpl::depthwise) {
    const auto plan = zoo::cuda::plan_depthwise(params, strides, sizeof(T), from,
                                                /*has_residual=*/false, to);
    TORCH_INTERNAL_ASSERT(plan.declines == nullptr, plan.declines);
    return zoo::cuda::launch_depthwise(plan, from, filters, added, to, stream);
  }
  const T* const other = data_of<T>(residual);
  const auto plan = zoo::cuda::plan_conv2d(params, strides, sizeof(T), from, filters, other, to,
                                           device.processors);
  TORCH_INTERNAL_ASSERT(plan.declines == nullptr, plan.declines);
  return zoo::cuda::launch_conv2d(plan, from, filters, added, other, to, stream);
}

}  // namespace

std::optional<Tensor> convolve(const char* op, Conv2dParams params, bool exact, const Tensor& input,
                               const Tensor& weight, const std::optional<Tensor>& bias,
                               const std::optional<Tensor>& residual) {
  const c10::cuda::CUDAGuard guard(input.device());
  params.input = useful_strides(input);
  if (residual) params.residual = useful_strides(*residual);
  zoo::cuda::Wish wish = wish_for(input);
  wish.bias = bias.has_value();
  wish.residual = residual.has_value();
  wish.exact = exact;
  const Conv2dImpl impl = zoo::cuda::select_conv2d(params, wish);
  if (impl == Conv2dImpl::aten) {
    // The last reason before aten is that of the most general kernel. Where fallbacks are forbidden
    // nothing is preferred to it, so that it is a want of a kernel.
    declined(op, zoo::cuda::kConv2dList[zoo::cuda::kConv2dListSize - 2].declines(params, wish));
    return std::nullopt;
  }
  const bool pooled = params.pool != Pool::none;
  Tensor output =
      at::empty({params.batch, params.out_channels, pooled ? params.pool_h : params.out_h,
                 pooled ? params.pool_w : params.out_w},
                input.options(), output_format(input, weight));
  if (output.numel() == 0) return output;
  params.output = useful_strides(output);
  // 16 bytes are loaded at once of both or of neither; weights are few beside maps.
  const Tensor filters =
      params.input.c == 1 ? weight.contiguous(at::MemoryFormat::ChannelsLast) : weight;
  const Tensor dense_bias = bias ? bias->contiguous() : Tensor();
  cudaError_t error = cudaSuccess;
  with_element(wish.element, [&](auto number) {
    error = launch<decltype(number)>(impl, params, wish.device, input, filters, dense_bias,
                                     residual.value_or(Tensor()), output);
  });
  if (error != cudaSuccess) {
    const char* kernel = impl == Conv2dImpl::depthwise ? "depthwise" : "conv2d";
    launch_failed(error, op, kernel, input, describe(params, weight));
  }
  return output;
}

}  // namespace zoo::ops::cuda
