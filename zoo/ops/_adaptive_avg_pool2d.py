"""``zoo.ops.adaptive_avg_pool2d``: PyTorch's average pooling to a given size."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from zoo.ops import _shapes
from zoo.ops._library import fake, op
from zoo.ops._shapes import Ints
from zoo.ops._types import check_types

_adaptive_avg_pool2d = op("adaptive_avg_pool2d")


Sizes = int | list[int | None] | tuple[int | None, int | None]


def adaptive_avg_pool2d(input: Tensor, output_size: Sizes) -> Tensor:
    """Means over windows that cover the map, as :func:`torch.nn.functional.adaptive_avg_pool2d`.

    Output row y of H' is the mean of rows floor(y H / H') to ceil((y + 1) H / H'), likewise
    columns; a size of 1 is global average pooling.

    Args:
        input: (N, C, H, W), or (C, H, W) for one image; only N may be 0.
        output_size: H' and W', at least 1; one number for both, None for the input's own.

    Returns:
        (N, C, H', W') in input's memory format.

    Raises:
        RuntimeError: shapes that do not fit, or a size below 1.
    """
    try:
        single = input.dim() == 3
        sizes: Any = output_size
        if isinstance(output_size, list | tuple) and None in output_size:
            count = len(output_size)
            _shapes.check(
                count == 2, "adaptive_avg_pool2d", f"output_size must be two numbers, not {count}"
            )
            pairs = zip(output_size, input.shape[-2:], strict=True)
            sizes = [own if size is None else size for size, own in pairs]
        output: Tensor = _adaptive_avg_pool2d(input.unsqueeze(0) if single else input, sizes)
        return output.squeeze(0) if single else output
    except Exception:
        check_types(adaptive_avg_pool2d, locals())
        raise


@fake("adaptive_avg_pool2d")
def _(input: Tensor, output_size: Ints) -> Any:
    name = "adaptive_avg_pool2d"
    _shapes.check_input(name, input)
    height, width = _shapes.pair(name, "output_size", output_size, 1)
    return _shapes.empty([*input.shape[:2], height, width], input, like=(input,))
