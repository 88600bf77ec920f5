"""The convolutions on a weight that was packed beforehand: for inference.

A packed weight is a plain flat tensor in a layout that is the same for every instruction set
(csrc/kernels/table.h). It goes with the plain weight's size, which the ops are told.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from zoo.ops import _shapes
from zoo.ops._conv2d import Activation
from zoo.ops._conv2d_pool import Pool, pool_options, pooled_sizes
from zoo.ops._library import fake, op
from zoo.ops._shapes import Ints, window_options

_conv2d_prepack = op("conv2d_prepack")
conv2d_packed_op = op("conv2d_packed")
conv2d_pool_packed_op = op("conv2d_pool_packed")

_LANES = 32  # kPanel in csrc/kernels/table.h


def conv2d_prepack(weight: Tensor, groups: int = 1) -> Tensor:
    """``weight``, (O, C / groups, kernel_h, kernel_w), in the layout that the kernels read.

    Returns a flat tensor of the same dtype, for :func:`conv2d_packed` and
    :func:`conv2d_pool_packed`. It is not differentiable.
    """
    packed: Tensor = _conv2d_prepack(weight, groups)
    return packed


def conv2d_packed(
    input: Tensor,
    packed_weight: Tensor,
    weight_size: Sequence[int],
    bias: Tensor | None = None,
    stride: Ints = 1,
    padding: Ints = 0,
    dilation: Ints = 1,
    groups: int = 1,
    *,
    activation: Activation = "none",
    residual: Tensor | None = None,
) -> Tensor:
    """:func:`zoo.ops.conv2d` with a weight from :func:`conv2d_prepack`. Inference only.

    ``input`` is (N, C, H, W); ``weight_size`` is the plain weight's (O, C / groups, kernel_h,
    kernel_w). The output is in input's memory format. Raises RuntimeError where an argument
    requires grad and gradients are on.
    """
    output: Tensor = conv2d_packed_op(
        input,
        packed_weight,
        weight_size,
        bias,
        **window_options(stride, padding, dilation, groups),
        activation=activation,
        residual=residual,
    )
    return output


def conv2d_pool_packed(
    input: Tensor,
    packed_weight: Tensor,
    weight_size: Sequence[int],
    bias: Tensor | None = None,
    stride: Ints = 1,
    padding: Ints = 0,
    dilation: Ints = 1,
    groups: int = 1,
    *,
    activation: Activation = "none",
    pool: Pool = "max",
    pool_kernel: Ints = 2,
    pool_stride: Ints | None = None,
    pool_padding: Ints = 0,
) -> Tensor:
    """:func:`zoo.ops.conv2d_pool` with a weight from :func:`conv2d_prepack`. Inference only.

    As :func:`conv2d_packed` otherwise.
    """
    output: Tensor = conv2d_pool_packed_op(
        input,
        packed_weight,
        weight_size,
        bias,
        **window_options(stride, padding, dilation, groups),
        activation=activation,
        pool=pool,
        **pool_options(pool_kernel, pool_stride, pool_padding),
    )
    return output


def _packed_size(size: Sequence[int], groups: int) -> int:
    out, channels, kernel_h, kernel_w = size

    def padded(extent: int) -> int:
        return (extent + _LANES - 1) // _LANES * _LANES

    if channels == 1 and groups == out:
        return kernel_h * kernel_w * padded(out)
    return groups * padded(out // groups) * kernel_h * kernel_w * channels


def _check_packed(op: str, packed: Tensor, size: Sequence[int], groups: int) -> None:
    _shapes.check_weight_size(op, size, groups)
    expected = _packed_size(size, groups)
    _shapes.check(
        packed.dim() == 1 and packed.numel() == expected and packed.is_contiguous(),
        op,
        f"packed_weight must be what conv2d_prepack returns for a weight of shape {list(size)} "
        f"and groups={groups}: {expected} contiguous elements, not shape {list(packed.shape)}",
    )


@fake("conv2d_prepack")
def _(weight: Tensor, groups: int = 1) -> Any:
    _shapes.check_weight_size("conv2d_prepack", weight.shape, groups)
    return weight.new_empty([_packed_size(weight.shape, groups)])


@fake("conv2d_packed")
def _(
    input: Tensor,
    packed_weight: Tensor,
    weight_size: Sequence[int],
    bias: Tensor | None = None,
    stride: Ints = 1,
    padding: Ints = 0,
    dilation: Ints = 1,
    groups: int = 1,
    *,
    activation: str = "none",
    residual: Tensor | None = None,
) -> Any:
    name = "conv2d_packed"
    _check_packed(name, packed_weight, weight_size, groups)
    sizes = _shapes.conv2d_sizes(
        name, input, weight_size, bias, stride, padding, dilation, groups, residual
    )
    _shapes.check_same(name, "weight", packed_weight, input)
    return _shapes.empty(sizes, input, like=(input,))


@fake("conv2d_pool_packed")
def _(
    input: Tensor,
    packed_weight: Tensor,
    weight_size: Sequence[int],
    bias: Tensor | None = None,
    stride: Ints = 1,
    padding: Ints = 0,
    dilation: Ints = 1,
    groups: int = 1,
    *,
    activation: str = "none",
    pool: str = "max",
    pool_kernel: Ints = 2,
    pool_stride: Ints = (),
    pool_padding: Ints = 0,
) -> Any:
    name = "conv2d_pool_packed"
    _check_packed(name, packed_weight, weight_size, groups)
    sizes = _shapes.conv2d_sizes(name, input, weight_size, bias, stride, padding, dilation, groups)
    sizes = pooled_sizes(name, sizes, pool_kernel, pool_stride, pool_padding)
    _shapes.check_same(name, "weight", packed_weight, input)
    return _shapes.empty(sizes, input, like=(input,))
