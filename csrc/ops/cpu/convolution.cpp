#include "ops/cpu/convolution.h"

#include <ATen/ops/empty.h>

#include "kernels/dispatch.h"
#include "ops/arguments.h"
#include "ops/fallback.h"
#include "ops/parallel.h"

namespace zoo::ops::cpu {
namespace {

double multiply_adds(const Conv2dParams& p) {
  return static_cast<double>(p.batch) * p.out_channels * p.out_h * p.out_w * p.window.kernel_h *
         p.window.kernel_w * (p.in_channels / p.groups);
}

template <typename T>
void pack_parts(const at::Tensor& weight, Packing packing, const WeightSize& size, int64_t groups,
                at::Tensor& packed) {
  const Strides strides = strides_of(weight);
  const T* source = weight.const_data_ptr<T>();
  T* target = packed.mutable_data_ptr<T>();
  auto body = [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      pack_part<T>(packing, source, strides, size, groups, i, target);
    }
  };
  const Parallel threads = parallel(static_cast<double>(packed.numel()));
  threads.run(threads, packed_parts(packing, size, groups), &body,
              [](void* context, int64_t begin, int64_t end, int32_t) {
                (*static_cast<decltype(body)*>(context))(begin, end);
              });
}

template <typename T>
void run(const Conv2dParams& params, Conv2dImpl impl, const at::Tensor& input,
         const at::Tensor& packed, const std::optional<at::Tensor>& bias,
         const std::optional<at::Tensor>& residual, at::Tensor& output) {
  const Conv2dKernel<T>& kernel = kernel_of(active_kernels<T>(), impl);
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

at::Tensor pack(const at::Tensor& weight, Packing packing, int64_t groups) {
  const WeightSize size{weight.size(0), weight.size(1), weight.size(2), weight.size(3)};
  at::Tensor packed = at::empty({packed_size(packing, size, groups)}, weight.options());
  if (dtype_of(weight) == DType::float32) {
    pack_parts<float>(weight, packing, size, groups, packed);
  } else {
    pack_parts<double>(weight, packing, size, groups, packed);
  }
  return packed;
}

std::optional<at::Tensor> convolve(const char* op, Conv2dParams params, bool exact,
                                   const at::Tensor& input, const Weight& weight,
                                   const std::optional<at::Tensor>& bias,
                                   const std::optional<at::Tensor>& residual) {
  if (!input.device().is_cpu()) {
    declined(op, "no kernel for this device");
    return std::nullopt;
  }
  check_capability();
  const bool packed = weight.packing.has_value();
  const Conv2dWish wish{dtype_of(input), exact, packed};
  Conv2dImpl impl = select_conv2d(params, wish);
  if (impl == Conv2dImpl::aten && builtin_wins(params, wish) != nullptr) {
    if (may_prefer_aten()) return std::nullopt;
    impl = impl_of(packing_of(impl, params), params, wish);
  }
  if (impl == Conv2dImpl::aten) {
    // The last reason before aten is that of the most general kernel.
    declined(op, kConv2dList[kConv2dListSize - 2].declines(params, wish));
    return std::nullopt;
  }
  if (packed) {
    impl = impl_of(*weight.packing, params, wish);
    if (is_winograd(*weight.packing) && wish.dtype != DType::float32) {
      declined(op, "packed_weight is packed for Winograd, which is for float32 only");
      return std::nullopt;
    }
  }
  const bool pooled = params.pool != Pool::none;
  at::Tensor output = at::empty(
      {params.batch, params.out_channels, pooled ? params.pool_h : params.out_h,
       pooled ? params.pool_w : params.out_w},
      input.options(), packed ? output_format(input) : output_format(input, weight.tensor));
  if (output.numel() == 0) return output;
  params.output = strides_of(output);
  const at::Tensor layout =
      packed ? weight.tensor : pack(weight.tensor, packing_of(impl, params), params.groups);
  if (wish.dtype == DType::float32) {
    run<float>(params, impl, input, layout, bias, residual, output);
  } else {
    run<double>(params, impl, input, layout, bias, residual, output);
  }
  return output;
}

}  // namespace zoo::ops::cpu
