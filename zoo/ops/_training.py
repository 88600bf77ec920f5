"""What the ops of the backward passes do to shapes.

They have no public names: :func:`zoo.ops.conv2d`, :func:`zoo.ops.conv2d_pool` and
:func:`zoo.ops.conv2d_batch_norm` call them where they are differentiated (csrc/ops/autograd).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from zoo.ops import _shapes
from zoo.ops._conv2d_pool import pooled_sizes
from zoo.ops._library import fake
from zoo.ops._shapes import Ints


@fake("conv2d_max_pool2")
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
    precision: str = "default",
) -> Any:
    window = (stride, padding, dilation, groups)
    name = "conv2d_pool"  # which is the one that people call
    sizes = _shapes.conv2d_sizes(name, input, weight.shape, bias, *window)
    n, channels, height, width = pooled_sizes(name, sizes, 2, (), 0)
    output = _rows((n, channels, height, width), input)
    places = (n, height, width, (channels + 7) // 8 * 2)
    return output, input.new_empty(places, dtype=torch.uint8)


def _rows(size: Sequence[int], like: Tensor) -> Tensor:
    """A map in channels_last."""
    return torch.empty(
        tuple(size), dtype=like.dtype, device=like.device, memory_format=torch.channels_last
    )


def _gradients(
    mask: Sequence[bool], input: Tensor, weight: Tensor, *per_channel: Any
) -> list[Tensor | None]:
    """Of the input, the weight, and as many vectors as there are ``per_channel``; None where the
    mask does not want it."""
    made: list[Tensor | None] = [None] * (2 + len(per_channel))
    if mask[0]:
        made[0] = _rows(input.shape, input)
    if mask[1]:
        made[1] = torch.empty_like(weight)
    for i in range(2, len(made)):
        if mask[i]:
            made[i] = input.new_empty(weight.shape[0])
    return made


@fake("conv2d_backward")
def _(
    grad: Tensor,
    output: Tensor | None,
    input: Tensor,
    weight: Tensor,
    stride: Ints,
    padding: Ints,
    dilation: Ints,
    groups: int,
    *,
    activation: str,
    precision: str,
    output_mask: Sequence[bool],
) -> Any:
    made = _gradients(output_mask, input, weight, "bias")
    return (*made, _rows(grad.shape, grad) if output_mask[3] else None)


@fake("conv2d_max_pool2_backward")
def _(
    grad: Tensor,
    output: Tensor | None,
    where: Tensor,
    input: Tensor,
    weight: Tensor,
    stride: Ints,
    padding: Ints,
    dilation: Ints,
    groups: int,
    *,
    activation: str,
    precision: str,
    output_mask: Sequence[bool],
) -> Any:
    return tuple(_gradients(output_mask, input, weight, "bias"))


@fake("conv2d_batch_norm_backward")
def _(
    grad: Tensor,
    output: Tensor | None,
    map: Tensor,
    mean: Tensor,
    variance: Tensor,
    input: Tensor,
    weight: Tensor,
    stride: Ints,
    padding: Ints,
    dilation: Ints,
    groups: int,
    *,
    bn_weight: Tensor | None,
    bn_bias: Tensor | None,
    eps: float,
    activation: str,
    precision: str,
    output_mask: Sequence[bool],
) -> Any:
    made = _gradients(output_mask, input, weight, "bn_weight", "bn_bias")
    return (*made, _rows(grad.shape, grad) if output_mask[4] else None)
