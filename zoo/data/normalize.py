"""Pixels to the numbers that models take."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def normalize(
    pixels: Tensor, mean: Sequence[float], std: Sequence[float], *, exact: bool = True
) -> Tensor:
    """Return ``(pixels - mean) / std`` as a new float32 tensor of the same shape.

    Args:
        pixels: ``(..., C, H, W)``, uint8, or float in [0, 1].
        mean, std: a value per channel, for pixels in [0, 1].
        exact: step by step, as torchvision does, so that published results are repeated to the
            bit. Otherwise the constants are put together beforehand, which saves half of the time
            and changes the last bits, by less than 1e-6.
    """
    white = 1.0 if pixels.is_floating_point() else 255.0
    values = pixels.to(torch.float32, copy=True)
    if exact:
        values.div_(white).sub_(_per_channel(mean)).div_(_per_channel(std))
    else:
        values.sub_(_per_channel([white * m for m in mean]))
        values.mul_(_per_channel([1 / (white * s) for s in std]))
    return values


def _per_channel(values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).view(-1, 1, 1)
