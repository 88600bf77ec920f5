"""``zoo.ops.conv2d_batch_norm``: a convolution and the training BatchNorm behind it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from zoo.ops import _shapes
from zoo.ops._conv2d import Activation, Precision, named_padding
from zoo.ops._introspection import ACTIVATIONS
from zoo.ops._library import fake, op
from zoo.ops._shapes import Ints, named
from zoo.ops._types import check_types

_conv2d_batch_norm = op("conv2d_batch_norm")


def conv2d_batch_norm(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Ints = 1,
    padding: Ints | str = 0,
    dilation: Ints = 1,
    groups: int = 1,
    *,
    bn_weight: Tensor | None = None,
    bn_bias: Tensor | None = None,
    eps: float = 1e-5,
    activation: Activation = "none",
    residual: Tensor | None = None,
    precision: Precision = "default",
) -> tuple[Tensor, Tensor, Tensor]:
    """``activation(batch_norm(conv2d(input, weight) + bias) + residual)``, as in training.

    The BatchNorm uses the statistics of this batch. They are returned too, for the running ones,
    which are the caller's to keep (:class:`zoo.nn.FusedConv2d` does).

    Args:
        input: (N, C, H, W), or (C, H, W) for one image; floating-point.
        weight: (O, C / groups, kernel_h, kernel_w), of input's dtype and device.
        bias: (O,). It moves the mean alone: its gradient is zero, up to rounding.
        stride: as in :func:`zoo.ops.conv2d`, like padding, dilation, groups and precision.
        padding: see there.
        dilation: see there.
        groups: see there.
        bn_weight: (O,), the BatchNorm's factor; of input's dtype, or float32 where that is half
            precision. None for 1.
        bn_bias: (O,), its summand, of bn_weight's dtype. None for 0.
        eps: what it adds to the variance; at least 0.
        activation: one of :data:`zoo.ops.ACTIVATIONS`.
        residual: of the output's shape, dtype and device; added before the activation.
        precision: see :func:`zoo.ops.conv2d`.

    Returns:
        The output (N, O, H', W'), of the dtype and in the memory format of
        :func:`zoo.ops.conv2d`'s; and, not differentiable, mean and biased variance (O,) over
        images and pixels of the convolution's output, in the dtype of bn_weight, or without it
        input's, but at least float32.

    Raises:
        RuntimeError: shapes, dtypes or devices that do not fit.
        ValueError: an unknown activation, padding or precision; a single value per channel, which
            has no variance; an eps that is not at least 0.
        TypeError: a number that is not whole, a name that is not a string.
    """
    try:
        if isinstance(padding, str):
            input, padding = named_padding(input, weight, stride, padding, dilation)
        if input.dim() == 3:
            lifted = residual.unsqueeze(0) if residual is not None else None
            output, mean, variance = conv2d_batch_norm(
                input.unsqueeze(0),
                weight,
                bias,
                stride,
                padding,
                dilation,
                groups,
                bn_weight=bn_weight,
                bn_bias=bn_bias,
                eps=eps,
                activation=activation,
                residual=lifted,
                precision=precision,
            )
            return output.squeeze(0), mean, variance
        _check(
            input, weight, bias, stride, padding, dilation, groups, bn_weight, bn_bias, eps,
            activation, residual, precision,
        )  # fmt: skip
        output, _, mean, variance = _conv2d_batch_norm(
            input,
            weight,
            bias,
            stride,
            padding,
            dilation,
            groups,
            bn_weight,
            bn_bias,
            eps,
            activation,
            residual,
            precision,
        )
        return output, mean, variance
    except Exception:
        check_types(conv2d_batch_norm, locals())
        raise


def _check(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Ints,
    padding: Ints,
    dilation: Ints,
    groups: int,
    bn_weight: Tensor | None,
    bn_bias: Tensor | None,
    eps: float,
    activation: str,
    residual: Tensor | None,
    precision: str,
) -> None:
    name = "conv2d_batch_norm"
    if named("activation", activation) not in ACTIVATIONS:
        raise ValueError(f'unknown activation "{activation}"; known are {", ".join(ACTIVATIONS)}')
    if named("precision", precision) not in ("default", "exact"):
        raise ValueError(f'unknown precision "{precision}"; known are default, exact')
    if not eps >= 0:  # NaN neither
        raise ValueError(f"eps must be at least 0, not {eps}")
    # Autocast casts input, weight, bias and residual: their dtypes are its concern there.
    n, channels, height, width = _shapes.conv2d_sizes(
        name, input, weight.shape, None, stride, padding, dilation, groups
    )
    for what, vector in (("bias", bias), ("bn_weight", bn_weight), ("bn_bias", bn_bias)):
        if vector is not None:
            _shapes.check(
                list(vector.shape) == [channels],
                name,
                f"{what} must have shape [{channels}], not {list(vector.shape)}",
            )
    if residual is not None:
        sizes = [n, channels, height, width]
        _shapes.check(
            list(residual.shape) == sizes,
            name,
            f"residual must have the output's shape {sizes}, not {list(residual.shape)}",
        )
    if n * height * width <= 1:
        raise ValueError(
            "conv2d_batch_norm needs more than one value per channel, but the convolution's "
            f"output has shape {[n, channels, height, width]}: give more images, or larger ones"
        )


@fake("conv2d_batch_norm")
def _(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Ints = 1,
    padding: Ints = 0,
    dilation: Ints = 1,
    groups: int = 1,
    *,
    bn_weight: Tensor | None = None,
    bn_bias: Tensor | None = None,
    eps: float = 1e-5,
    activation: str = "none",
    residual: Tensor | None = None,
    precision: str = "default",
) -> Any:
    name = "conv2d_batch_norm"
    window = (stride, padding, dilation, groups)
    sizes = _shapes.conv2d_sizes(name, input, weight.shape, bias, *window, residual)
    _shapes.check_same(name, "weight", weight, input)
    for what, vector in (("bn_weight", bn_weight), ("bn_bias", bn_bias)):
        if vector is not None:
            _shapes.check_device(name, what, vector, input)
    output = _shapes.empty(sizes, input, like=(input, weight))
    wide = torch.promote_types(input.dtype, torch.float32)
    mean = input.new_empty(sizes[1], dtype=wide if bn_weight is None else bn_weight.dtype)
    return output, torch.empty_like(output), mean, torch.empty_like(mean)
