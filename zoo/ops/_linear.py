"""``zoo.ops.linear``, and ``linear_packed`` on a weight that was packed beforehand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from zoo.ops import _shapes
from zoo.ops._conv2d import Activation
from zoo.ops._conv2d_packed import conv2d_prepack
from zoo.ops._library import fake, op
from zoo.ops._types import check_types

_linear = op("linear")
_linear_packed = op("linear_packed")


def in_words_of_linear(error: Exception) -> Exception:
    """The error of the convolution of one pixel that a linear layer is, as that layer's own."""
    text = str(error)
    if "conv2d" not in text or type(error) not in (RuntimeError, ValueError, NotImplementedError):
        return error
    return type(error)(text.replace("conv2d", "linear").replace(", 1, 1]", "]"))


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
    try:
        output: Tensor = _linear(input, weight, bias, activation, residual)
        return output
    except Exception as error:
        check_types(linear, locals())
        raise in_words_of_linear(error) from None


@fake("linear")
def _(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    activation: str = "none",
    residual: Tensor | None = None,
) -> Any:
    _shapes.check(
        weight.dim() == 2 and input.dim() >= 1 and input.shape[-1] == weight.shape[1],
        "linear",
        f"a weight of shape {list(weight.shape)} does not fit input's {list(input.shape)}; "
        "it must be (O, C) for an input of (..., C)",
    )
    sizes = [*input.shape[:-1], weight.shape[0]]
    if residual is not None:
        _shapes.check(
            list(residual.shape) == sizes,
            "linear",
            f"residual must have the output's shape {sizes}, not {list(residual.shape)}",
        )
    pixels = input.new_empty([math.prod(sizes[:-1]), weight.shape[1], 1, 1])
    try:
        _shapes.conv2d_sizes("conv2d", pixels, [*weight.shape, 1, 1], bias, 1, 0, 1, 1)
        if residual is not None:
            _shapes.check_same("conv2d", "residual", residual, input)
        _shapes.check_same("conv2d", "weight", weight, input)
    except RuntimeError as error:
        raise in_words_of_linear(error) from None
    return input.new_empty(sizes)


def linear_prepack(weight: Tensor) -> Tensor:
    """``weight``, (O, C), in the layout of :func:`zoo.ops.conv2d_prepack`. Not differentiable.

    Raises RuntimeError where the weight has no two dimensions, or is empty.
    """
    try:
        _shapes.check(
            weight.dim() == 2,
            "linear_prepack",
            f"weight must have 2 dimensions (O, C), not {weight.dim()}; "
            f"its shape is {list(weight.shape)}",
        )
        return conv2d_prepack(weight[:, :, None, None])
    except Exception as error:
        check_types(linear_prepack, locals())
        raise in_words_of_linear(error) from None


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
    try:
        output: Tensor = _linear_packed(input, packed_weight, weight_size, bias, activation)
        return output
    except Exception as error:
        check_types(linear_packed, locals())
        raise in_words_of_linear(error) from None
