"""``zoo.ops.conv2d``: convolution with bias, residual and activation in one pass."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from zoo.ops import _shapes
from zoo.ops._library import fake, op
from zoo.ops._shapes import Ints
from zoo.ops._types import check_types

Activation = Literal[
    "none",
    "relu",
    "relu6",
    "sigmoid",
    "tanh",
    "silu",
    "gelu",
    "hardswish",
    "hardsigmoid",
    "leaky_relu",
]

Precision = Literal["default", "exact"]

_conv2d = op("conv2d")


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Ints = 1,
    padding: Ints | str = 0,
    dilation: Ints = 1,
    groups: int = 1,
    *,
    activation: Activation = "none",
    residual: Tensor | None = None,
    precision: Precision = "default",
) -> Tensor:
    """``activation(conv2d(input, weight) + bias + residual)``.

    Args:
        input: (N, C, H, W), or (C, H, W) for one image; only N may be 0.
        weight: (O, C / groups, kernel_h, kernel_w), of input's dtype and device.
        bias: (O,).
        stride: how far the window moves; one number or (vertical, horizontal), like the next two.
        padding: rows and columns of zeros on each side; or "valid" (none) or "same" (the output is
            as large as the input; stride 1 only), as in :func:`torch.nn.functional.conv2d`.
        dilation: the distance between the taps of the window.
        groups: channels fall into so many groups that do not mix.
        activation: one of :data:`zoo.ops.ACTIVATIONS`. gelu is the exact one (by erf), leaky_relu
            has slope 0.01.
        residual: of the output's shape; added before the activation.
        precision: "default" lets large float32 3x3 convolutions run Winograd's method, with errors
            of up to 4e-6 of the output's maximum; "exact" sums the products themselves.

    Returns:
        (N, O, H', W') with H' = (H + 2 padding - dilation (kernel_h - 1) - 1) // stride + 1; in
        channels_last if input or weight is, otherwise contiguous.

    Raises:
        RuntimeError: shapes, dtypes or devices that do not fit.
        ValueError: an unknown activation, padding or precision.
        TypeError: a number that is not whole, a name that is not a string.
    """
    try:
        if isinstance(padding, str):
            input, padding = named_padding(input, weight, stride, padding, dilation)
        if input.dim() == 3:
            lifted = residual.unsqueeze(0) if residual is not None else None
            return conv2d(
                input.unsqueeze(0),
                weight,
                bias,
                stride,
                padding,
                dilation,
                groups,
                activation=activation,
                residual=lifted,
                precision=precision,
            ).squeeze(0)
        output: Tensor = _conv2d(
            input,
            weight,
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
        check_types(conv2d, locals())
        raise


def named_padding(
    input: Tensor, weight: Tensor, stride: Ints, padding: str, dilation: Ints
) -> tuple[Tensor, Ints]:
    """What "valid" or "same" means in numbers, and the input, padded where sides differ."""
    if padding == "valid":
        return input, 0
    if padding != "same":
        raise ValueError(f'unknown padding "{padding}"; known are numbers, "valid" and "same"')
    if _shapes.pair("conv2d", "stride", stride, 1) != (1, 1):
        raise ValueError('padding="same" needs stride 1; give the padding in numbers')
    vertical, horizontal = _shapes.pair("conv2d", "dilation", dilation, 1)
    total_h = vertical * (weight.shape[-2] - 1)
    total_w = horizontal * (weight.shape[-1] - 1)
    # Even windows need one row or column more below or to the right.
    odd_h, odd_w = total_h % 2, total_w % 2
    if odd_h or odd_w:
        input = torch.nn.functional.pad(input, (0, odd_w, 0, odd_h))
    return input, (total_h // 2, total_w // 2)


@fake("conv2d")
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
    residual: Tensor | None = None,
    precision: str = "default",
) -> Any:
    sizes = _shapes.conv2d_sizes(
        "conv2d", input, weight.shape, bias, stride, padding, dilation, groups, residual
    )
    _shapes.check_same("conv2d", "weight", weight, input)
    return _shapes.empty(sizes, input, like=(input, weight))
