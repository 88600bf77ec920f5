"""``zoo.ops.avg_pool2d``: PyTorch's average pooling."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from zoo.ops import _shapes
from zoo.ops._library import fake, op
from zoo.ops._shapes import Ints
from zoo.ops._types import check_types

_avg_pool2d = op("avg_pool2d")


def avg_pool2d(
    input: Tensor,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The mean of each window, as :func:`torch.nn.functional.avg_pool2d`.

    Args:
        input: (N, C, H, W), or (C, H, W) for one image; only N may be 0.
        kernel_size: the window; one number or (vertical, horizontal), like the next two.
        stride: how far it moves; None means as far as it is large.
        padding: rows and columns of zeros on each side, at most half of the kernel.
        ceil_mode: also pool windows that reach beyond the padding below or to the right.
        count_include_pad: whether the zeros of the padding count in the mean.
        divisor_override: divide the sum by this instead of the number of elements; not 0.

    Returns:
        (N, C, H', W') in input's memory format.

    Raises:
        RuntimeError: shapes that do not fit, or a divisor of 0.
    """
    try:
        single = input.dim() == 3
        output: Tensor = _avg_pool2d(
            input.unsqueeze(0) if single else input,
            kernel_size,
            () if stride is None else stride,
            padding,
            ceil_mode,
            count_include_pad,
            divisor_override,
        )
        return output.squeeze(0) if single else output
    except Exception:
        check_types(avg_pool2d, locals())
        raise


@fake("avg_pool2d")
def _(
    input: Tensor,
    kernel_size: Ints,
    stride: Ints = (),
    padding: Ints = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Any:
    _shapes.check(divisor_override != 0, "avg_pool2d", "divisor_override must not be 0")
    return _shapes.pool2d_output("avg_pool2d", input, kernel_size, stride, padding, 1, ceil_mode)
