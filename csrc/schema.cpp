// The table of contents: every operator that zoo adds to PyTorch, with its defaults.
// An op's other layers are found by its name: ops/*/NAME.cpp, zoo/ops/NAME.py, kernels/.
#include <torch/library.h>

TORCH_LIBRARY(zoo, m) {
  // activation(conv2d(input, weight) + bias + residual); precision "exact" avoids Winograd
  m.def(
      "conv2d(Tensor input, Tensor weight, Tensor? bias=None, SymInt[2] stride=1, "
      "SymInt[2] padding=0, SymInt[2] dilation=1, SymInt groups=1, *, str activation=\"none\", "
      "Tensor? residual=None, str precision=\"default\") -> Tensor");

  // pool(activation(conv2d(input, weight) + bias)); an empty pool_stride means pool_kernel
  m.def(
      "conv2d_pool(Tensor input, Tensor weight, Tensor? bias=None, SymInt[2] stride=1, "
      "SymInt[2] padding=0, SymInt[2] dilation=1, SymInt groups=1, *, str activation=\"none\", "
      "str pool=\"max\", SymInt[2] pool_kernel=2, SymInt[2] pool_stride=[], "
      "SymInt[2] pool_padding=0, str precision=\"default\") -> Tensor");

  // Training: activation(batch_norm(conv2d(input, weight) + bias) + residual) by the batch's own
  // statistics; the map that was normalised, and its channels' mean and biased variance.
  m.def(
      "conv2d_batch_norm(Tensor input, Tensor weight, Tensor? bias=None, SymInt[2] stride=1, "
      "SymInt[2] padding=0, SymInt[2] dilation=1, SymInt groups=1, *, Tensor? bn_weight=None, "
      "Tensor? bn_bias=None, float eps=1e-5, str activation=\"none\", Tensor? residual=None, "
      "str precision=\"default\") -> (Tensor output, Tensor map, Tensor mean, Tensor variance)");
  // conv2d_pool with a 2x2 max-pool, and where in its window each maximum was (kernels/table.h)
  m.def(
      "conv2d_max_pool2(Tensor input, Tensor weight, Tensor? bias=None, SymInt[2] stride=1, "
      "SymInt[2] padding=0, SymInt[2] dilation=1, SymInt groups=1, *, str activation=\"none\", "
      "str precision=\"default\") -> (Tensor output, Tensor where)");

  // Their gradients and conv2d's, for activations whose derivative follows from the output (of
  // conv2d_batch_norm, without output: any); output_mask says which are wanted.
  m.def(
      "conv2d_backward(Tensor grad, Tensor? output, Tensor input, Tensor weight, SymInt[2] stride, "
      "SymInt[2] padding, SymInt[2] dilation, SymInt groups, *, str activation, str precision, "
      "bool[4] output_mask) -> (Tensor input, Tensor weight, Tensor bias, Tensor residual)");
  m.def(
      "conv2d_max_pool2_backward(Tensor grad, Tensor? output, Tensor where, Tensor input, "
      "Tensor weight, SymInt[2] stride, SymInt[2] padding, SymInt[2] dilation, SymInt groups, *, "
      "str activation, str precision, bool[3] output_mask) "
      "-> (Tensor input, Tensor weight, Tensor bias)");
  m.def(
      "conv2d_batch_norm_backward(Tensor grad, Tensor? output, Tensor map, Tensor mean, "
      "Tensor variance, Tensor input, Tensor weight, SymInt[2] stride, SymInt[2] padding, "
      "SymInt[2] dilation, SymInt groups, *, Tensor? bn_weight, Tensor? bn_bias, float eps, "
      "str activation, str precision, bool[5] output_mask) -> (Tensor input, Tensor weight, "
      "Tensor bn_weight, Tensor bn_bias, Tensor residual)");

  // Inference only: the weight in a layout that the kernels read (csrc/kernels/table.h), as a flat
  // tensor, and the two ops above on it. input_size chooses the fastest layout for such an input;
  // without it, the layout is one for every input, stride and dilation. weight_size is the size of
  // the plain weight.
  m.def(
      "conv2d_prepack(Tensor weight, SymInt groups=1, SymInt[2] stride=1, SymInt[2] padding=0, "
      "SymInt[2] dilation=1, *, SymInt[]? input_size=None, str precision=\"default\") -> Tensor");
  m.def(
      "conv2d_packed(Tensor input, Tensor packed_weight, SymInt[4] weight_size, Tensor? bias=None, "
      "SymInt[2] stride=1, SymInt[2] padding=0, SymInt[2] dilation=1, SymInt groups=1, *, "
      "str activation=\"none\", Tensor? residual=None, str precision=\"default\") -> Tensor");
  m.def(
      "conv2d_pool_packed(Tensor input, Tensor packed_weight, SymInt[4] weight_size, "
      "Tensor? bias=None, SymInt[2] stride=1, SymInt[2] padding=0, SymInt[2] dilation=1, "
      "SymInt groups=1, *, str activation=\"none\", str pool=\"max\", SymInt[2] pool_kernel=2, "
      "SymInt[2] pool_stride=[], SymInt[2] pool_padding=0, str precision=\"default\") -> Tensor");

  // PyTorch's own pools; an empty stride means kernel_size
  m.def(
      "max_pool2d(Tensor input, SymInt[2] kernel_size, SymInt[2] stride=[], SymInt[2] padding=0, "
      "SymInt[2] dilation=1, bool ceil_mode=False) -> Tensor");
  m.def(
      "max_pool2d_with_indices(Tensor input, SymInt[2] kernel_size, SymInt[2] stride=[], "
      "SymInt[2] padding=0, SymInt[2] dilation=1, bool ceil_mode=False) -> (Tensor, Tensor)");
  m.def(
      "avg_pool2d(Tensor input, SymInt[2] kernel_size, SymInt[2] stride=[], SymInt[2] padding=0, "
      "bool ceil_mode=False, bool count_include_pad=True, int? divisor_override=None) -> Tensor");
  m.def("adaptive_avg_pool2d(Tensor input, SymInt[2] output_size) -> Tensor");

  // activation(input * scale + shift); scale and shift broadcast to input's shape
  m.def(
      "scale_shift(Tensor input, Tensor? scale=None, Tensor? shift=None, *, "
      "str activation=\"none\") -> Tensor");
  // activation(input @ weight.T + bias + residual)
  m.def(
      "linear(Tensor input, Tensor weight, Tensor? bias=None, *, str activation=\"none\", "
      "Tensor? residual=None) -> Tensor");
  // The same with a weight of conv2d_prepack, whose own size is (O, C): conv2d_packed on pixels
  m.def(
      "linear_packed(Tensor input, Tensor packed_weight, SymInt[2] weight_size, "
      "Tensor? bias=None, *, str activation=\"none\") -> Tensor");
}
