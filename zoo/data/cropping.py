"""Bringing one image to the model's size: at random for training, as evaluated otherwise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from zoo.data.images import open_image
from zoo.data.jpeg import Box, read_part
from zoo.data.randomness import uniform
from zoo.data.sources import to_channels, to_tensor
from zoo.data.transforms import EvalTransform
from zoo.errors import UsageError

_ATTEMPTS = 10


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
                left, top = int(right * (width - wide + 1)), int(down * (height - tall + 1))
                return left, top, left + wide, top + tall
        # No luck: the largest part in the middle whose shape is within the range.
        shape = min(max(width / height, self.ratio[0]), self.ratio[1])
        wide, tall = min(width, round(height * shape)), min(height, round(width / shape))
        wide, tall = max(1, wide), max(1, tall)
        left, top = (width - wide) // 2, (height - tall) // 2
        return left, top, left + wide, top + tall

    def __call__(self, image: Any, key: int) -> Tensor:
        """Return ``(C, H, W)``, of a tensor in its dtype, of a PIL image in uint8."""
        image = to_channels(to_tensor(image), self.size[0])
        left, top, right, bottom = self.box(image.shape[2], image.shape[1], key)
        return self._scaled(image[:, top:bottom, left:right])

    def read(self, path: str, key: int) -> Tensor:
        """Return uint8 ``(C, H, W)`` of a file.

        Raises:
            ImageError: the file cannot be read.
        """
        channels, height, width = self.size
        part = read_part(path, channels, (height, width), lambda w, h: self.box(w, h, key))
        return self._scaled(part)

    def _scaled(self, part: Tensor) -> Tensor:
        # PyTorch has quick kernels for uint8 with the channels last, as decoders deliver them.
        batch = part.unsqueeze(0).contiguous(memory_format=torch.channels_last)
        size = list(self.size[1:])
        if self.interpolation == "nearest":
            scaled = F.interpolate(batch, size, mode="nearest-exact")
        else:
            scaled = F.interpolate(
                batch, size, mode=self.interpolation, antialias=True, align_corners=False
            )
        if scaled.is_floating_point():
            scaled.clamp_(0, 1)  # cubic weights overshoot; in uint8 PyTorch clamps
        return scaled[0]


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

    def read(self, path: str, key: int) -> Tensor:
        """Return uint8 ``(C, H, W)`` of a file, to the bit what the transform makes of it.

        Raises:
            ImageError: the file cannot be read.
        """
        return self.transform.pixels(open_image(path, self.transform.channels))


def check_interpolation(interpolation: str) -> str:
    """Return the filter for random crops; the nearest to Lanczos that tensors have is bicubic."""
    known = {"nearest": "nearest", "bilinear": "bilinear", "bicubic": "bicubic"}
    known["lanczos"] = "bicubic"
    if interpolation not in known:
        raise UsageError(f"interpolation {interpolation!r} is not one of {', '.join(known)}")
    return known[interpolation]
