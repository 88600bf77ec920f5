"""The convolutions on a weight that was packed beforehand: for inference.

A packed weight is a plain flat tensor in one of a few layouts, which are the same for every
instruction set (csrc/kernels/table.h). It goes with the plain weight's size, which the ops are
told; which layout it has, they tell by its number of elements.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from zoo.ops import _shapes
from zoo.ops._conv2d import Activation, Precision
from zoo.ops._conv2d_pool import Pool, pooled_sizes
from zoo.ops._introspection import conv2d_layout
from zoo.ops._library import fake, op
from zoo.ops._shapes import Ints
from zoo.ops._types import check_types

_conv2d_prepack = op("conv2d_prepack")
_conv2d_packed = op("conv2d_packed")
_conv2d_pool_packed = op("conv2d_pool_packed")

_LANES = 32  # kPanel in csrc/kernels/table.h


def conv2d_prepack(
    weight: Tensor,
    groups: int = 1,
    stride: Ints = 1,
    padding: Ints = 0,
    dilation: Ints = 1,
    *,
    input_size: Sequence[int] | None = None,
    precision: Precision = "default",
) -> Tensor:
    """``weight``, (O, C / groups, kernel_h, kernel_w), in a layout that the kernels read.

    With ``input_size``, (N, C, H, W), the layout is that of the kernel which is fastest for such
    an input, stride, padding and dilation. It then serves inputs of any size; Winograd's layouts
    (large float32 3x3 convolutions, unless ``precision`` is "exact") serve stride 1 and dilation
    1 only. Without ``input_size`` the layout serves every input, stride and dilation, and the other
    arguments but ``groups`` say nothing (they must be such as the convolutions take).

    Returns a flat tensor of the same dtype, for :func:`conv2d_packed` and
    :func:`conv2d_pool_packed`. It is not differentiable.
    """
    try:
        packed: Tensor = _conv2d_prepack(
            weight, groups, stride, padding, dilation, input_size, precision
        )
        return packed
    except Exception:
        check_types(conv2d_prepack, locals())
        raise


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
    precision: Precision = "default",
) -> Tensor:
    """:func:`zoo.ops.conv2d` with a weight from :func:`conv2d_prepack`. Inference only.

    ``input`` is (N, C, H, W); ``weight_size`` is the plain weight's (O, C / groups, kernel_h,
    kernel_w). The output is in input's memory format. Raises RuntimeError where an argument
    requires grad and gradients are on, and where the weight's layout does not serve the call: one
    of Winograd's with another stride or dilation than 1, or with ``precision="exact"``.
    """
    try:
        output: Tensor = _conv2d_packed(
            input,
            packed_weight,
            weight_size,
            bias,
            stride,
            padding,
            dilation,
            groups,
            activation,
            residual,
            precision,
        )
        return output
    except Exception:
        check_types(conv2d_packed, locals())
        raise


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
    precision: Precision = "default",
) -> Tensor:
    """:func:`zoo.ops.conv2d_pool` with a weight from :func:`conv2d_prepack`. Inference only.

    As :func:`conv2d_packed` otherwise.
    """
    try:
        output: Tensor = _conv2d_pool_packed(
            input,
            packed_weight,
            weight_size,
            bias,
            stride,
            padding,
            dilation,
            groups,
            activation,
            pool,
            pool_kernel,
            () if pool_stride is None else pool_stride,
            pool_padding,
            precision,
        )
        return output
    except Exception:
        check_types(conv2d_pool_packed, locals())
        raise


def _packed_sizes(size: Sequence[int], groups: int) -> dict[str, int]:
    """The number of elements in each layout that there is for the weight; the first serves all."""
    out, channels, kernel_h, kernel_w = size

    def padded(extent: int) -> int:
        return (extent + _LANES - 1) // _LANES * _LANES

    if channels == 1 and groups == out:
        odd = -(-out // _LANES) | 1  # panels, lest taps crowd each other out of the cache
        sizes = {"depthwise": kernel_h * kernel_w * odd * _LANES}
    else:
        sizes = {"gemm": groups * padded(out // groups) * kernel_h * kernel_w * channels}
    if groups == 1 and kernel_h == kernel_w == 3:
        sizes["winograd4"] = 36 * channels * padded(out)
        sizes["winograd2"] = 16 * channels * padded(out)
    return sizes


def _layout_of(op: str, packed: Tensor, size: Sequence[int], groups: int) -> str:
    """The name of a packed weight's layout, told by its size."""
    _shapes.check_weight_size(op, size, groups)
    sizes = _packed_sizes(size, groups)
    layout = next((name for name, count in sizes.items() if count == packed.numel()), "")
    _shapes.check(
        packed.dim() == 1 and layout != "",
        op,
        f"packed_weight must be what conv2d_prepack returns for a weight of shape {list(size)} "
        f"and groups={groups}: {next(iter(sizes.values()))} contiguous elements, not shape "
        f"{list(packed.shape)}",
    )
    _shapes.check(
        packed.is_contiguous(),
        op,
        "packed_weight is not contiguous; make it so with .contiguous()",
    )
    return layout


def _check_layout(op: str, layout: str, stride: Ints, dilation: Ints, precision: str) -> None:
    """Refuse a case that the layout does not serve."""
    if not layout.startswith("winograd"):
        return
    reason = None
    if _shapes.pair(op, "stride", stride, 1) != (1, 1):
        reason = "Winograd takes stride 1 only"
    elif _shapes.pair(op, "dilation", dilation, 1) != (1, 1):
        reason = "Winograd takes dilation 1 only"
    elif precision == "exact":
        reason = 'precision="exact" avoids Winograd'
    _shapes.check(
        reason is None,
        op,
        f"packed_weight is packed for Winograd, but {reason}; "
        "pack it with this call's stride, dilation and precision",
    )


@fake("conv2d_prepack")
def _(
    weight: Tensor,
    groups: int = 1,
    stride: Ints = 1,
    padding: Ints = 0,
    dilation: Ints = 1,
    *,
    input_size: Sequence[int] | None = None,
    precision: str = "default",
) -> Any:
    name = "conv2d_prepack"
    _shapes.check_weight_size(name, weight.shape, groups)
    _shapes.pair(name, "stride", stride, 1)
    _shapes.pair(name, "padding", padding, 0)
    _shapes.pair(name, "dilation", dilation, 1)
    sizes = _packed_sizes(weight.shape, groups)
    layout = next(iter(sizes))
    if input_size is not None and weight.device.type == "cpu":
        window = (stride, padding, dilation, groups)
        layout = conv2d_layout(input_size, weight.shape, *window, weight.dtype, precision)
    return weight.new_empty([sizes[layout]])


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
    precision: str = "default",
) -> Any:
    name = "conv2d_packed"
    layout = _layout_of(name, packed_weight, weight_size, groups)
    sizes = _shapes.conv2d_sizes(
        name, input, weight_size, bias, stride, padding, dilation, groups, residual
    )
    _shapes.check_same(name, "weight", packed_weight, input)
    _check_layout(name, layout, stride, dilation, precision)
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
    precision: str = "default",
) -> Any:
    name = "conv2d_pool_packed"
    layout = _layout_of(name, packed_weight, weight_size, groups)
    sizes = _shapes.conv2d_sizes(name, input, weight_size, bias, stride, padding, dilation, groups)
    sizes = pooled_sizes(name, sizes, pool_kernel, pool_stride, pool_padding)
    _shapes.check_same(name, "weight", packed_weight, input)
    _check_layout(name, layout, stride, dilation, precision)
    return _shapes.empty(sizes, input, like=(input,))
