"""``zoo.ops.linear``, and ``linear_packed`` on a weight that was packed beforehand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from zoo.ops import _shapes
from zoo.ops._conv2d import Activation
from zoo.ops._conv2d_packed import conv2d_packed_op, conv2d_prepack
from zoo.ops._library import fake, op
from zoo.ops._shapes import named

_linear = op("linear")


def linear(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    activation: Activation = "none",
    residual: Tensor | None = None,
) -> Tensor:
    """activation(input @ weight.T + bias + residual).

    Args:
        input: (..., C); the other dimensions may be 0 or none.
        weight: (O, C).
        bias: (O,).
        activation: one of :data:`zoo.ops.ACTIVATIONS`.
        residual: (..., O), as the output.

    Returns:
        (..., O).

    Raises:
        RuntimeError: shapes, dtypes or devices that do not fit.
        ValueError: an unknown activation.
    """
    output: Tensor = _linear(
        input, weight, bias, activation=named("activation", activation), residual=residual
    )
    return output


@fake("linear")
def _(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    activation: str = "none",
    residual: Tensor | None = None,
) -> Any:
    return input.new_empty([*input.shape[:-1], weight.shape[0]])


def linear_prepack(weight: Tensor) -> Tensor:
    """``weight``, (O, C), in the layout of :func:`zoo.ops.conv2d_prepack`. Not differentiable.

    Raises RuntimeError where the weight has no two dimensions, or is empty.
    """
    _shapes.check(
        weight.dim() == 2,
        "linear_prepack",
        f"weight must have 2 dimensions (O, C), not {weight.dim()}; "
        f"its shape is {list(weight.shape)}",
    )
    return conv2d_prepack(weight[:, :, None, None])


def linear_packed(
    input: Tensor,
    packed_weight: Tensor,
    weight_size: Sequence[int],
    bias: Tensor | None = None,
    *,
    activation: Activation = "none",
) -> Tensor:
    """activation(input @ weight.T + bias), as one pass over the weight. Inference only.

    A linear layer is the convolution of maps of one pixel: this is
    :func:`zoo.ops.conv2d_packed` on them.

    Args:
        input: (..., C); the other dimensions may be 0 or none.
        packed_weight: from :func:`linear_prepack`.
        weight_size: the plain weight's (O, C).
        bias: (O,).
        activation: one of :data:`zoo.ops.ACTIVATIONS`.

    Returns:
        (..., O).

    Raises:
        RuntimeError: shapes, dtypes or devices that do not fit; an argument that requires grad
            while gradients are on.
        ValueError: an unknown activation.
    """
    out, channels = weight_size
    *batch, last = input.shape or (0,)
    _shapes.check(
        last == channels,
        "linear_packed",
        f"a weight of shape {list(weight_size)} takes (..., {channels}), "
        f"but input's shape is {list(input.shape)}",
    )
    pixels = input.reshape(math.prod(batch), channels, 1, 1)
    output: Tensor = conv2d_packed_op(
        pixels,
        packed_weight,
        (out, channels, 1, 1),
        bias,
        activation=named("activation", activation),
    )
    return output.reshape(*batch, out)
