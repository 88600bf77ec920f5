"""``zoo.ops.scale_shift``: a multiplication, an addition and an activation in one pass."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from zoo.ops import _shapes
from zoo.ops._conv2d import Activation
from zoo.ops._library import fake, op
from zoo.ops._types import check_types

_scale_shift = op("scale_shift")


def scale_shift(
    input: Tensor,
    scale: Tensor | None = None,
    shift: Tensor | None = None,
    *,
    activation: Activation = "none",
) -> Tensor:
    """activation(input * scale + shift): normalisations, gates and residual sums.

    Args:
        input: any shape; kernels take up to four dimensions.
        scale: broadcasts to input's shape, with its dtype and device; None means 1.
        shift: likewise; None means 0.
        activation: one of :data:`zoo.ops.ACTIVATIONS`.

    Returns:
        A tensor of input's shape and memory format.

    Raises:
        RuntimeError: shapes, dtypes or devices that do not fit.
        ValueError: an unknown activation.
    """
    try:
        output: Tensor = _scale_shift(input, scale, shift, activation)
        return output
    except Exception:
        check_types(scale_shift, locals())
        raise


@fake("scale_shift")
def _(
    input: Tensor,
    scale: Tensor | None = None,
    shift: Tensor | None = None,
    *,
    activation: str = "none",
) -> Any:
    for what, operand in (("scale", scale), ("shift", shift)):
        if operand is not None:
            _shapes.check_same("scale_shift", what, operand, input)
            try:
                operand.expand(input.shape)
            except RuntimeError:
                text = f"{what} of shape {list(operand.shape)} does not broadcast to input's"
                raise RuntimeError(f"zoo::scale_shift: {text} {list(input.shape)}") from None
    return torch.empty_like(input)
