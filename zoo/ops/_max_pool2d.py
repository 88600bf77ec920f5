"""``zoo.ops.max_pool2d``: PyTorch's max pooling."""

from __future__ import annotations

from typing import Any, Literal, overload

import torch
from torch import Tensor

from zoo.ops import _shapes
from zoo.ops._library import fake, op
from zoo.ops._shapes import Ints
from zoo.ops._types import check_types

_max_pool2d = op("max_pool2d")
_max_pool2d_with_indices = op("max_pool2d_with_indices")


@overload
def max_pool2d(
    input: Tensor,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
    return_indices: Literal[False] = False,
) -> Tensor: ...


@overload
def max_pool2d(
    input: Tensor,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
    *,
    return_indices: Literal[True],
) -> tuple[Tensor, Tensor]: ...


def max_pool2d(
    input: Tensor,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """The maximum of each window, as :func:`torch.nn.functional.max_pool2d`.

    Args:
        input: (N, C, H, W), or (C, H, W) for one image; only N may be 0.
        kernel_size: the window; one number or (vertical, horizontal), like the next three.
        stride: how far it moves; None means as far as it is large.
        padding: rows and columns of -inf on each side, at most half of the kernel.
        dilation: the distance between the window's elements.
        ceil_mode: also pool windows that reach beyond the padding below or to the right.
        return_indices: return the pair (output, indices); an index is row * W + column (int64).

    Returns:
        (N, C, H', W') in input's memory format. NaN wins over every number.

    Raises:
        RuntimeError: shapes that do not fit.
    """
    try:
        single = input.dim() == 3
        images = input.unsqueeze(0) if single else input
        window = (kernel_size, () if stride is None else stride, padding, dilation, ceil_mode)
        output: Tensor
        if return_indices:
            output, indices = _max_pool2d_with_indices(images, *window)
            return (output.squeeze(0), indices.squeeze(0)) if single else (output, indices)
        output = _max_pool2d(images, *window)
        return output.squeeze(0) if single else output
    except Exception:
        check_types(max_pool2d, locals())
        raise


@fake("max_pool2d")
def _(
    input: Tensor,
    kernel_size: Ints,
    stride: Ints = (),
    padding: Ints = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
) -> Any:
    return _shapes.pool2d_output(
        "max_pool2d", input, kernel_size, stride, padding, dilation, ceil_mode
    )


@fake("max_pool2d_with_indices")
def _(
    input: Tensor,
    kernel_size: Ints,
    stride: Ints = (),
    padding: Ints = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
) -> Any:
    output = _shapes.pool2d_output(
        "max_pool2d", input, kernel_size, stride, padding, dilation, ceil_mode
    )
    return output, torch.empty_like(output, dtype=torch.int64)
