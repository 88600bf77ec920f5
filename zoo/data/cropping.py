"""Bringing one image to the model's size: at random for training, as evaluated otherwise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from zoo.data.randomness import uniform
from zoo.data.sources import to_channels, to_tensor
from zoo.data.transforms import EvalTransform
from zoo.errors import UsageError

_ATTEMPTS = 10

Box = tuple[int, int, int, int]
"""Left, top, width, height, in pixels."""


@dataclass(frozen=True)
class RandomResizedCrop:
    """Cut a part of random area and shape out of an image and scale it (Szegedy et al. 2014).

    Attributes:
        size: (channels, height, width) of the result.
        scale: range of the part's area over the image's.
        ratio: range of the part's width over its height.
        interpolation: ``"nearest"``, ``"bilinear"`` or ``"bicubic"``.
    """

    size: tuple[int, int, int]
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    interpolation: str = "bilinear"

    def box(self, width: int, height: int, key: int) -> Box:
        """Draw the part of an image of this size, by the rule of torchvision and timm."""
        draws = uniform(torch.tensor([key]), 2 * _ATTEMPTS + 2).flatten().tolist()
        right, down = draws[-2:]
        low, high = map(math.log, self.ratio)
        for area, shape in zip(draws[0:-2:2], draws[1:-2:2], strict=True):
            area = width * height * (self.scale[0] + area * (self.scale[1] - self.scale[0]))
            shape = math.exp(low + shape * (high - low))
            wide, tall = round(math.sqrt(area * shape)), round(math.sqrt(area / shape))
            if 0 < wide <= width and 0 < tall <= height:
                return int(right * (width - wide + 1)), int(down * (height - tall + 1)), wide, tall
        # No luck: the largest part in the middle whose shape is within the range.
        shape = min(max(width / height, self.ratio[0]), self.ratio[1])
        wide, tall = min(width, round(height * shape)), min(height, round(width / shape))
        wide, tall = max(1, wide), max(1, tall)
        return (width - wide) // 2, (height - tall) // 2, wide, tall

    def __call__(self, image: Any, key: int) -> Tensor:
        """Return ``(C, H, W)``, of a tensor in its dtype, of a PIL image in uint8."""
        image = to_channels(to_tensor(image), self.size[0])
        left, top, width, height = self.box(image.shape[2], image.shape[1], key)
        return self.scaled(image[:, top : top + height, left : left + width])

    def scaled(self, part: Tensor) -> Tensor:
        """Scale ``(C, h, w)`` to ``(C, H, W)``, with antialiasing."""
        size = list(self.size[1:])
        if self.interpolation == "nearest":
            return F.interpolate(part[None], size, mode="nearest-exact")[0]
        scaled = F.interpolate(
            part[None], size, mode=self.interpolation, antialias=True, align_corners=False
        )[0]
        # Cubic weights overshoot, in uint8 within PyTorch's own clamping.
        return scaled.clamp_(0, 1) if scaled.is_floating_point() else scaled


@dataclass(frozen=True)
class EvalFit:
    """Resize and crop an image as for evaluation, whatever the key."""

    transform: EvalTransform

    def __call__(self, image: Any, key: int) -> Tensor:
        """Return uint8 ``(C, H, W)``."""
        if not isinstance(image, Image.Image):
            from torchvision.transforms.v2.functional import to_dtype, to_pil_image

            pixels = to_dtype(to_tensor(image), torch.uint8, scale=True)
            image = to_pil_image(to_channels(pixels, self.transform.channels))
        mode = "L" if self.transform.channels == 1 else "RGB"
        return self.transform.pixels(image if image.mode == mode else image.convert(mode))


def check_interpolation(interpolation: str) -> str:
    """Return the filter for random crops; the nearest to Lanczos that tensors have is bicubic."""
    known = {"nearest": "nearest", "bilinear": "bilinear", "bicubic": "bicubic"}
    known["lanczos"] = "bicubic"
    if interpolation not in known:
        raise UsageError(f"interpolation {interpolation!r} is not one of {', '.join(known)}")
    return known[interpolation]
