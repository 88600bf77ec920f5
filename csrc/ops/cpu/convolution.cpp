#include "ops/cpu/convolution.h"

#include <ATen/ops/empty.h>

#include <algorithm>

#include "kernels/dispatch.h"
#include "kernels/pack.h"
#include "ops/arguments.h"
#include "ops/fallback.h"
#include "ops/parallel.h"

namespace zoo::ops::cpu {
namespace {

double multiply_adds(const Conv2dParams& p) {
  return static_cast<double>(p.batch) * p.out_channels * p.out_h * p.out_w * p.window.kernel_h *
         p.window.kernel_w * (p.in_channels / p.groups);
}

// One panel (32 output channels of one group) is a weight of its own, so panels go in parallel.
template <typename T>
void pack_panels(const at::Tensor& weight, int64_t groups, at::Tensor& packed) {
  const int64_t out = weight.size(0), in = weight.size(1), kh = weight.size(2), kw = weight.size(3);
  const Strides strides = strides_of(weight);
  const T* source = weight.const_data_ptr<T>();
  T* target = packed.mutable_data_ptr<T>();
  if (packing_of(out, in, groups) == Packing::depthwise) {
    pack_weight<T>(source, strides, out, in, kh, kw, groups, target);
    return;
  }
  const int64_t per_group = out / groups, panels = (per_group + kPanel - 1) / kPanel;
  auto body = [&](int64_t begin, int64_t end) {
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t first = unit % panels * kPanel;
      pack_weight<T>(source + (unit / panels * per_group + first) * strides.n, strides,
                     std::min(kPanel, per_group - first), in, kh, kw, 1,
                     target + unit * kPanel * in * kh * kw);
    }
  };
  const Parallel threads = parallel(static_cast<double>(weight.numel()));
  threads.run(threads, groups * panels, &body,
              [](void* context, int64_t begin, int64_t end, int32_t) {
                (*static_cast<decltype(body)*>(context))(begin, end);
              });
}

template <typename T>
void run(const Conv2dParams& params, Conv2dImpl impl, const at::Tensor& input,
         const at::Tensor& packed, const std::optional<at::Tensor>& bias,
         const std::optional<at::Tensor>& residual, at::Tensor& output) {
  const Kernels<T>& kernels = active_kernels<T>();
  const Conv2dKernel<T>& kernel = impl == Conv2dImpl::depthwise ? kernels.depthwise : kernels.gemm;
  const Parallel threads = parallel(multiply_adds(params));
  // The allocator aligns to 64 bytes, which is what kernels ask for.
  const int64_t bytes = kernel.workspace_bytes(params, threads.threads);
  at::Tensor workspace;
  if (bytes > 0) workspace = at::empty({bytes}, input.options().dtype(at::kByte));
  at::Tensor plain_bias;
  if (bias) plain_bias = bias->contiguous();
  kernel.run(params, input.const_data_ptr<T>(), packed.const_data_ptr<T>(),
             bias ? plain_bias.const_data_ptr<T>() : nullptr,
             residual ? residual->const_data_ptr<T>() : nullptr, output.mutable_data_ptr<T>(),
             bytes > 0 ? workspace.mutable_data_ptr() : nullptr, threads);
}

}  // namespace

void check_capability() {
  const char* error = isa_error();
  TORCH_CHECK_VALUE(error == nullptr, error);
}

at::Tensor pack(const at::Tensor& weight, int64_t groups) {
  at::Tensor packed = at::empty(
      {packed_size(weight.size(0), weight.size(1), weight.size(2), weight.size(3), groups)},
      weight.options());
  if (dtype_of(weight) == DType::float32) {
    pack_panels<float>(weight, groups, packed);
  } else {
    pack_panels<double>(weight, groups, packed);
  }
  return packed;
}

std::optional<at::Tensor> convolve(const char* op, Conv2dParams params, const at::Tensor& input,
                                   const at::Tensor* weight, const at::Tensor* packed,
                                   const std::optional<at::Tensor>& bias,
                                   const std::optional<at::Tensor>& residual) {
  if (!input.device().is_cpu()) {
    declined(op, "zoo's kernels run on the CPU only");
    return std::nullopt;
  }
  check_capability();
  const DType dtype = dtype_of(input);
  const Conv2dImpl impl = select_conv2d(params, dtype);
  if (impl == Conv2dImpl::aten) {
    // The last reason before aten is that of the most general kernel.
    declined(op, kConv2dList[kConv2dListSize - 2].declines(params, dtype));
    return std::nullopt;
  }
  const bool pooled = params.pool != Pool::none;
  at::Tensor output =
      at::empty({params.batch, params.out_channels, pooled ? params.pool_h : params.out_h,
                 pooled ? params.pool_w : params.out_w},
                input.options(), weight ? output_format(input, *weight) : output_format(input));
  if (output.numel() == 0) return output;
  params.output = strides_of(output);
  const at::Tensor layout = packed ? *packed : pack(*weight, params.groups);
  if (dtype == DType::float32) {
    run<float>(params, impl, input, layout, bias, residual, output);
  } else {
    run<double>(params, impl, input, layout, bias, residual, output);
  }
  return output;
}

}  // namespace zoo::ops::cpu
