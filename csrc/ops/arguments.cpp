#include "ops/arguments.h"

#include <ATen/ops/empty.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <array>
#include <limits>
#include <string>
#include <utility>

#include "kernels/pack.h"
#include "kernels/table.h"

namespace zoo::ops {
namespace {

constexpr std::array<std::pair<std::string_view, Activation>, 10> kActivations{{
    {"none", Activation::none},
    {"relu", Activation::relu},
    {"relu6", Activation::relu6},
    {"sigmoid", Activation::sigmoid},
    {"tanh", Activation::tanh},
    {"silu", Activation::silu},
    {"gelu", Activation::gelu},
    {"hardswish", Activation::hardswish},
    {"hardsigmoid", Activation::hardsigmoid},
    {"leaky_relu", Activation::leaky_relu},
}};

// Numbers beyond this are mistakes, and below it the sums in output_size cannot overflow.
constexpr int64_t kLargest = std::numeric_limits<int64_t>::max() / 8;

struct Pair {
  int64_t h, w;
};

Pair pair_of(const char* op, const char* what, at::IntArrayRef values, int64_t least) {
  TORCH_CHECK(values.size() == 1 || values.size() == 2, "zoo::", op, ": ", what,
              " must be one number or two, not ", values.size());
  const Pair pair{values.front(), values.back()};
  TORCH_CHECK(pair.h >= least && pair.w >= least, "zoo::", op, ": ", what, " must be at least ",
              least, ", not ", values);
  TORCH_CHECK(pair.h <= kLargest && pair.w <= kLargest, "zoo::", op, ": ", what,
              " is too large: ", values);
  return pair;
}

Window window_of(const char* op, Pair kernel, Pair stride, Pair padding, Pair dilation) {
  // The window's reach, dilation * (kernel - 1) + 1, must not overflow.
  TORCH_CHECK((kernel.h - 1) <= (kLargest - 1) / dilation.h &&
                  (kernel.w - 1) <= (kLargest - 1) / dilation.w,
              "zoo::", op, ": dilation times kernel size is too large");
  return {kernel.h, kernel.w, stride.h, stride.w, padding.h, padding.w, dilation.h, dilation.w};
}

int64_t output_size(int64_t size, int64_t kernel, int64_t stride, int64_t pad, int64_t dilation,
                    bool ceil_mode) {
  const int64_t room = size + 2 * pad - (dilation * (kernel - 1) + 1);
  if (room < 0 && !ceil_mode) return 0;
  const int64_t upward = ceil_mode ? stride - 1 : 0;
  if (room + upward < 0) return 0;
  const int64_t out = (room + upward) / stride + 1;
  // A window that would begin in the padding below or to the right does not count.
  return ceil_mode && (out - 1) * stride >= size + pad ? out - 1 : out;
}

Pair output_sizes(const char* op, int64_t h, int64_t w, const Window& window, bool ceil_mode) {
  const Pair out{
      output_size(h, window.kernel_h, window.stride_h, window.pad_h, window.dilation_h, ceil_mode),
      output_size(w, window.kernel_w, window.stride_w, window.pad_w, window.dilation_w, ceil_mode)};
  TORCH_CHECK(out.h > 0 && out.w > 0, "zoo::", op, ": the output would be empty: a window of ",
              window.kernel_h, "x", window.kernel_w, " with dilation ", window.dilation_h, "x",
              window.dilation_w, " does not fit a map of ", h, "x", w, " with padding ",
              window.pad_h, "x", window.pad_w);
  return out;
}

// What no memory holds is refused here: PyTorch's own words for it name neither op nor argument.
void check_elements(const char* op, const char* what, at::IntArrayRef size) {
  double elements = 1;
  for (const int64_t extent : size) elements *= static_cast<double>(extent);
  TORCH_CHECK(elements < kLargest / 16, "zoo::", op, ": ", what, " ", size,
              " is more than any memory holds; give smaller numbers");
}

void check_output(const char* op, int64_t batch, int64_t channels, const Pair& out) {
  check_elements(op, "an output of shape", {batch, channels, out.h, out.w});
}

// As PyTorch has it, which looks at the kernel without its dilation.
void check_pool_padding(const char* op, const Window& window) {
  TORCH_CHECK(window.pad_h <= window.kernel_h / 2 && window.pad_w <= window.kernel_w / 2,
              "zoo::", op, ": the pool's padding ", window.pad_h, "x", window.pad_w,
              " is more than half of its kernel ", window.kernel_h, "x", window.kernel_w,
              "; pad the input beforehand");
}

void check_input(const char* op, const at::Tensor& input) {
  check_dense(op, "input", input);
  TORCH_CHECK(input.dim() == 4, "zoo::", op, ": input must have 4 dimensions (N, C, H, W), not ",
              input.dim(), "; its shape is ", input.sizes());
  TORCH_CHECK(input.size(1) > 0 && input.size(2) > 0 && input.size(3) > 0, "zoo::", op,
              ": only the batch may be empty, but input's shape is ", input.sizes());
  TORCH_CHECK(input.size(2) <= kLargest && input.size(3) <= kLargest, "zoo::", op,
              ": input is too large: ", input.sizes());
}

}  // namespace

void check_dense(const char* op, const char* what, const at::Tensor& tensor) {
  TORCH_CHECK(tensor.layout() == at::kStrided, "zoo::", op, ": ", what,
              " must be a dense tensor, not ", tensor.layout(), "; convert it with .to_dense()");
}

void check_same(const char* op, const char* what, const at::Tensor& tensor,
                const at::Tensor& input) {
  check_dense(op, what, tensor);
  TORCH_CHECK(tensor.scalar_type() == input.scalar_type(), "zoo::", op, ": ", what, " is ",
              tensor.scalar_type(), " but input is ", input.scalar_type(),
              "; convert one with .to(dtype)");
  TORCH_CHECK(tensor.device() == input.device(), "zoo::", op, ": ", what, " is on ",
              tensor.device(), " but input is on ", input.device(), "; move one with .to(device)");
}

Activation parse_activation(std::string_view name) {
  for (const auto& [known, activation] : kActivations) {
    if (known == name) return activation;
  }
  std::string names;
  for (const auto& known : kActivations)
    names.append(names.empty() ? "" : ", ").append(known.first);
  TORCH_CHECK_VALUE(false, "unknown activation \"", name, "\"; known are ", names);
}

Pool parse_pool(std::string_view name) {
  TORCH_CHECK_VALUE(name == "max" || name == "avg", "unknown pool \"", name,
                    "\"; known are max, avg");
  return name == "max" ? Pool::max : Pool::avg;
}

bool parse_exact(std::string_view name) {
  TORCH_CHECK_VALUE(name == "default" || name == "exact", "unknown precision \"", name,
                    "\"; known are default, exact");
  return name == "exact";
}

DType dtype_of(const at::Tensor& tensor) {
  if (tensor.scalar_type() == at::kFloat) return DType::float32;
  if (tensor.scalar_type() == at::kDouble) return DType::float64;
  return DType::other;
}

Strides strides_of(const at::Tensor& tensor) {
  return {tensor.stride(0), tensor.stride(1), tensor.stride(2), tensor.stride(3)};
}

at::MemoryFormat output_format(const at::Tensor& input) {
  return input.suggest_memory_format() == at::MemoryFormat::ChannelsLast
             ? at::MemoryFormat::ChannelsLast
             : at::MemoryFormat::Contiguous;
}

at::MemoryFormat output_format(const at::Tensor& input, const at::Tensor& weight) {
  const auto format = output_format(input);
  return format == at::MemoryFormat::ChannelsLast ? format : output_format(weight);
}

void check_weight_size(const char* op, at::IntArrayRef size, int64_t groups) {
  TORCH_CHECK(size.size() == 4, "zoo::", op,
              ": weight must have 4 dimensions (O, C/groups, kernel_h, kernel_w), not ",
              size.size(), "; its shape is ", size);
  TORCH_CHECK(size[0] > 0 && size[1] > 0 && size[2] > 0 && size[3] > 0, "zoo::", op,
              ": weight must not be empty, but its shape is ", size);
  const double elements = static_cast<double>(size[0]) * size[1] * size[2] * size[3];
  TORCH_CHECK(elements < kLargest / kPanel, "zoo::", op, ": weight is too large: ", size);
  TORCH_CHECK(groups > 0, "zoo::", op, ": groups must be at least 1, not ", groups);
  TORCH_CHECK(size[0] % groups == 0, "zoo::", op, ": groups=", groups, " does not divide weight's ",
              size[0], " output channels");
}

const char* training_declines(const at::Tensor& input, const at::Tensor& weight,
                              const Conv2dArgs& args) {
#if defined(__x86_64__)
  if (!input.device().is_cpu()) return "zoo's kernels run on the CPU only";
  if (dtype_of(input) == DType::other) return "no kernel for this dtype";
  if (input.dim() != 4 || weight.dim() != 4) return "no kernel for so many dimensions";
  if (args.stride.empty() || args.padding.empty() || args.dilation.empty()) return "no window";
  for (int64_t axis = 0; axis < 2; ++axis) {
    const auto at = [&](at::IntArrayRef pair) { return axis == 0 ? pair.front() : pair.back(); };
    // Symbolic, where a graph is traced; weights have sizes all the same.
    const int64_t taps = weight.sym_size(2 + axis).guard_int(__FILE__, __LINE__);
    const int64_t stride = at(args.stride);
    if (stride > 1 && at(args.dilation) > 1) return "stride and dilation at once";
    // Where the input's gradient would begin beyond the first rows of the output's.
    if (at(args.padding) > at(args.dilation) * (taps - 1)) return "padding beyond the window";
  }
  return output_format(input, weight) == at::MemoryFormat::ChannelsLast
             ? nullptr
             : "the kernels for training take channels_last only";
#else
  return "no tuned kernel for this processor";
#endif
}

void check_weight(const char* op, const at::Tensor& input, const at::Tensor& weight) {
  check_same(op, "weight", weight, input);
}

Packing choose_packing(const char* op, at::IntArrayRef input_size, at::IntArrayRef weight_size,
                       const Conv2dArgs& args, DType dtype) {
  TORCH_CHECK(
      input_size.size() == 4 && *std::min_element(input_size.begin(), input_size.end()) >= 0,
      "zoo::", op, ": input_size must be four numbers (N, C, H, W), not ", input_size);
  check_elements(op, "input_size", input_size);
  // A meta tensor has a shape and no memory: the arguments get the checks of a real call.
  const at::Tensor input = at::empty(input_size, at::TensorOptions(at::kMeta));
  const Conv2dParams params = conv2d_params(op, input, weight_size, std::nullopt, args);
  const Conv2dWish wish{dtype, parse_exact(args.precision), /*prepacked=*/true};
  return zoo::packing_of(select_conv2d(params, wish), params);
}

Packing packing_of(const char* op, const at::Tensor& packed, at::IntArrayRef size, int64_t groups) {
  check_weight_size(op, size, groups);
  const WeightSize weight{size[0], size[1], size[2], size[3]};
  Packing packing = direct_packing(weight, groups);
  TORCH_CHECK(packed.dim() == 1 && recognise_packing(packed.numel(), weight, groups, &packing),
              "zoo::", op,
              ": packed_weight must be what conv2d_prepack returns for a weight of shape ", size,
              " and groups=", groups, ": ", packed_size(packing, weight, groups),
              " contiguous elements, not shape ", packed.sizes());
  TORCH_CHECK(packed.is_contiguous(), "zoo::", op,
              ": packed_weight is not contiguous; make it so with .contiguous()");
  return packing;
}

void check_packing(const char* op, Packing packing, const Conv2dParams& params, bool exact) {
  const char* reason = packing_declines(packing, params.window);
  if (reason == nullptr && exact && is_winograd(packing)) {
    reason = "precision=\"exact\" avoids Winograd";
  }
  TORCH_CHECK(reason == nullptr, "zoo::", op, ": packed_weight is packed for Winograd, but ",
              reason, "; pack it with this call's stride, dilation and precision");
}

Window conv2d_window(const char* op, at::IntArrayRef size, const Conv2dArgs& args) {
  return window_of(op, {size[2], size[3]}, pair_of(op, "stride", args.stride, 1),
                   pair_of(op, "padding", args.padding, 0),
                   pair_of(op, "dilation", args.dilation, 1));
}

Conv2dParams conv2d_params(const char* op, const at::Tensor& input, at::IntArrayRef size,
                           const std::optional<at::Tensor>& bias, const Conv2dArgs& args,
                           const std::optional<at::Tensor>& residual) {
  check_input(op, input);
  check_weight_size(op, size, args.groups);
  TORCH_CHECK(input.size(1) % args.groups == 0, "zoo::", op, ": groups=", args.groups,
              " does not divide input's ", input.size(1), " channels");
  TORCH_CHECK(input.size(1) / args.groups == size[1], "zoo::", op, ": a weight of shape ", size,
              " with groups=", args.groups, " takes ", size[1] * args.groups,
              " channels, but input has ", input.size(1));

  Conv2dParams params;
  params.batch = input.size(0);
  params.in_channels = input.size(1);
  params.in_h = input.size(2);
  params.in_w = input.size(3);
  params.out_channels = size[0];
  params.groups = args.groups;
  params.window = conv2d_window(op, size, args);
  params.activation = parse_activation(args.activation);
  const Pair out = output_sizes(op, params.in_h, params.in_w, params.window, false);
  check_output(op, params.batch, params.out_channels, out);
  params.out_h = out.h;
  params.out_w = out.w;
  params.input = strides_of(input);

  if (bias) {
    TORCH_CHECK(bias->dim() == 1 && bias->size(0) == size[0], "zoo::", op,
                ": bias must have shape [", size[0], "], not ", bias->sizes());
    check_same(op, "bias", *bias, input);
  }
  if (residual) {
    const std::array<int64_t, 4> expected{params.batch, params.out_channels, out.h, out.w};
    TORCH_CHECK(residual->sizes() == at::IntArrayRef(expected), "zoo::", op,
                ": residual must have the output's shape ", at::IntArrayRef(expected), ", not ",
                residual->sizes());
    check_same(op, "residual", *residual, input);
    params.residual = strides_of(*residual);
  }
  return params;
}

void add_pool(Conv2dParams& params, const char* op, const PoolArgs& args) {
  params.pool = parse_pool(args.pool);
  const Pair kernel = pair_of(op, "pool_kernel", args.kernel, 1);
  const Pair stride = args.stride.empty() ? kernel : pair_of(op, "pool_stride", args.stride, 1);
  params.pool_window =
      window_of(op, kernel, stride, pair_of(op, "pool_padding", args.padding, 0), {1, 1});
  check_pool_padding(op, params.pool_window);
  const Pair out = output_sizes(op, params.out_h, params.out_w, params.pool_window, false);
  params.pool_h = out.h;
  params.pool_w = out.w;
}

Pool2dParams pool2d_params(const char* op, const at::Tensor& input, at::IntArrayRef kernel_size,
                           at::IntArrayRef stride, at::IntArrayRef padding,
                           at::IntArrayRef dilation, bool ceil_mode) {
  check_input(op, input);
  const Pair kernel = pair_of(op, "kernel_size", kernel_size, 1);
  Pool2dParams params;
  params.batch = input.size(0);
  params.channels = input.size(1);
  params.in_h = input.size(2);
  params.in_w = input.size(3);
  params.window =
      window_of(op, kernel, stride.empty() ? kernel : pair_of(op, "stride", stride, 1),
                pair_of(op, "padding", padding, 0), pair_of(op, "dilation", dilation, 1));
  check_pool_padding(op, params.window);
  const Pair out = output_sizes(op, params.in_h, params.in_w, params.window, ceil_mode);
  check_output(op, params.batch, params.channels, out);
  params.out_h = out.h;
  params.out_w = out.w;
  params.input = strides_of(input);
  return params;
}

Pool2dParams adaptive_pool2d_params(const char* op, const at::Tensor& input,
                                    at::IntArrayRef output_size) {
  check_input(op, input);
  const Pair out = pair_of(op, "output_size", output_size, 1);
  Pool2dParams params;
  params.batch = input.size(0);
  params.channels = input.size(1);
  params.in_h = input.size(2);
  params.in_w = input.size(3);
  check_output(op, params.batch, params.channels, out);
  params.out_h = out.h;
  params.out_w = out.w;
  params.adaptive = params.in_h % out.h != 0 || params.in_w % out.w != 0;
  Window& w = params.window;
  w.kernel_h = w.stride_h = (params.in_h + out.h - 1) / out.h;
  w.kernel_w = w.stride_w = (params.in_w + out.w - 1) / out.w;
  params.input = strides_of(input);
  return params;
}

}  // namespace zoo::ops
