"""``zoo.ops.conv2d_pool``: a convolution and the pool behind it in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor

from zoo.ops import _shapes
from zoo.ops._conv2d import Activation, Precision, named_padding
from zoo.ops._library import fake, op
from zoo.ops._shapes import Ints
from zoo.ops._types import check_types

Pool = Literal["max", "avg"]

_conv2d_pool = op("conv2d_pool")


def conv2d_pool(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Ints = 1,
    padding: Ints | str = 0,
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
    """``pool(activation(conv2d(input, weight) + bias))``.

    The convolution's full-size map never goes to memory, except where gradients are wanted and the
    pool is no 2x2 max-pool in channels_last: then the op is :func:`zoo.ops.conv2d` followed by the
    pool.

    Args:
        input: (N, C, H, W), or (C, H, W) for one image; only N may be 0.
        weight: (O, C / groups, kernel_h, kernel_w).
        bias: (O,).
        stride: as in :func:`zoo.ops.conv2d`, like padding, dilation, groups and activation.
        padding: see there.
        dilation: see there.
        groups: see there.
        activation: see there.
        pool: "max", which pads with -inf, or "avg", which pads with zeros that count.
        pool_kernel: the pool's window.
        pool_stride: how far it moves; None means as far as it is large.
        pool_padding: at most half of the kernel.
        precision: as in :func:`zoo.ops.conv2d`.

    Returns:
        (N, O, H', W'); in channels_last if input or weight is, otherwise contiguous.

    Raises:
        RuntimeError: shapes, dtypes or devices that do not fit.
        ValueError: an unknown activation, padding, pool or precision.
        TypeError: a number that is not whole, a name that is not a string.
    """
    try:
        if isinstance(padding, str):
            input, padding = named_padding(input, weight, stride, padding, dilation)
        single = input.dim() == 3
        output: Tensor = _conv2d_pool(
            input.unsqueeze(0) if single else input,
            weight,
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
        return output.squeeze(0) if single else output
    except Exception:
        check_types(conv2d_pool, locals())
        raise


def pooled_sizes(
    op: str, sizes: Sequence[int], pool_kernel: Ints, pool_stride: Ints, pool_padding: Ints
) -> list[int]:
    """The shape of the pooled output, given that of the convolution's."""
    kernel = _shapes.pair(op, "pool_kernel", pool_kernel, 1)
    window = _shapes.Window(
        kernel,
        _shapes.stride_or_kernel(op, "pool_stride", pool_stride, kernel),
        _shapes.pair(op, "pool_padding", pool_padding, 0),
        (1, 1),
    )
    return [*sizes[:2], *_shapes.pool_sizes(op, sizes[2], sizes[3], window)]


@fake("conv2d_pool")
def _(
    input: Tensor,
    weight: Tensor,
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
    name = "conv2d_pool"
    sizes = _shapes.conv2d_sizes(name, input, weight.shape, bias, stride, padding, dilation, groups)
    sizes = pooled_sizes(name, sizes, pool_kernel, pool_stride, pool_padding)
    _shapes.check_same(name, "weight", weight, input)
    return _shapes.empty(sizes, input, like=(input, weight))
