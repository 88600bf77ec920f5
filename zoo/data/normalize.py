"""Pixels to the numbers that models take."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def normalize(pixels: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Return ``(pixels - mean) / std`` as a new float32 tensor of the same shape.

    Args:
        pixels: ``(..., C, H, W)``, uint8, or float in [0, 1].
        mean, std: a value per channel, for pixels in [0, 1].
    """
    # Step by step, as torchvision does: folding the steps into one would change the last bit, and
    # published results are repeated to the bit.
    values = pixels.to(torch.float32, copy=True)
    if not pixels.is_floating_point():
        values.div_(255)
    if any(mean):
        values.sub_(torch.tensor(mean).view(-1, 1, 1))
    if any(value != 1 for value in std):
        values.div_(torch.tensor(std).view(-1, 1, 1))
    return values
