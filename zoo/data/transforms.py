"""The preprocessing with which a model was evaluated: resize, crop, normalise."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from zoo.data.images import ImageError
from zoo.data.normalize import normalize
from zoo.errors import UsageError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "hamming": Image.Resampling.HAMMING,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}

_MAX_RESIZED = 2**28
"""Most pixels of a resized image: 1 x 100000 would become 256 x 25.6 million."""


@dataclass(frozen=True, slots=True)
class EvalTransform:
    """Turns an 8-bit image into a normalised tensor; the arithmetic is timm's and torchvision's.

    Attributes:
        channels: 3 (RGB) or 1 (grey), the mode the image has to have.
        crop: (height, width) of the result.
        resize: (height, width) that the image is scaled to before the crop, as ``crop_mode`` says.
        mean, std: a value per channel, for pixels in [0, 1].
        interpolation: a Pillow filter in lower case.
        crop_mode: ``"center"`` scales until the image covers ``resize``, keeping its proportions,
            and crops; ``"squash"`` scales to exactly ``resize`` and crops; ``"border"`` scales
            until the image fits in ``resize`` and pads with the mean colour.
    """

    channels: int
    crop: tuple[int, int]
    resize: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bicubic"
    crop_mode: str = "center"

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> EvalTransform:
        """Read a model's ``pretrained_cfg``. What it leaves out is as for ImageNet in timm.

        The image is resized to ``resize_size`` where given, else to ``crop / crop_pct``.

        Raises:
            UsageError: a channel count other than 1 and 3, or a setting that is not known.
        """
        channels, height, width = config.get("input_size") or (3, 224, 224)
        if channels not in (1, 3):
            raise UsageError(
                f"the model takes {channels} channels: image files give 3 (RGB) or 1 (grey)"
            )
        interpolation = config.get("interpolation") or "bicubic"
        if interpolation not in _RESAMPLING:
            raise UsageError(
                f"interpolation {interpolation!r} is not one of {', '.join(_RESAMPLING)}"
            )
        crop_mode = config.get("crop_mode") or "center"
        if crop_mode not in ("center", "squash", "border"):
            raise UsageError(f"crop mode {crop_mode!r} is not one of center, squash, border")
        crop_pct = config.get("crop_pct") or 0.875
        size = config.get("resize_size")
        resize = (
            (size, size) if size else (math.floor(height / crop_pct), math.floor(width / crop_pct))
        )
        return cls(
            channels=channels,
            crop=(height, width),
            resize=resize,
            mean=per_channel(config.get("mean") or IMAGENET_MEAN, channels, "mean"),
            std=per_channel(config.get("std") or IMAGENET_STD, channels, "std"),
            interpolation=interpolation,
            crop_mode=crop_mode,
        )

    def __call__(self, image: Image.Image) -> torch.Tensor:
        """Return the image as float32 (channels, height, width), normalised.

        Raises:
            ImageError: the image is so thin that resizing it would take gigabytes.
        """
        return normalize(self.pixels(image), self.mean, self.std)

    def pixels(self, image: Image.Image) -> torch.Tensor:
        """Return the image resized and cropped, uint8 (channels, height, width).

        Raises:
            ImageError: the image is so thin that resizing it would take gigabytes.
        """
        width, height = self._scaled(*image.size)
        if width * height > _MAX_RESIZED:
            raise ImageError(f"too thin: {image.width} x {image.height} pixels")
        image = image.resize((width, height), _RESAMPLING[self.interpolation])
        pixels = torch.from_numpy(np.array(self._cropped(image)))
        if self.channels == 1:
            pixels = pixels.unsqueeze(-1)
        return pixels.permute(2, 0, 1)

    def _scaled(self, width: int, height: int) -> tuple[int, int]:
        to_height, to_width = self.resize
        if self.crop_mode == "squash":
            return to_width, to_height
        if self.crop_mode == "center" and to_height == to_width:
            # torchvision's rule: the short side is exact, the long one rounded down.
            if width <= height:
                return to_width, int(to_width * height / width)
            return int(to_height * width / height), to_height
        pick = max if self.crop_mode == "border" else min
        ratio = pick(height / to_height, width / to_width)
        return max(1, round(width / ratio)), max(1, round(height / ratio))

    def _cropped(self, image: Image.Image) -> Image.Image:
        height, width = self.crop
        fill: Any = 0
        if self.crop_mode == "border":
            colour = tuple(round(255 * value) for value in self.mean)
            fill = colour if self.channels == 3 else colour[0]
        # Pasting at a negative offset crops, at a positive one pads.
        canvas = Image.new(image.mode, (width, height), fill)
        canvas.paste(image, (_offset(image.width, width), _offset(image.height, height)))
        return canvas


def _offset(size: int, target: int) -> int:
    """Where a side starts on its canvas, with torchvision's roundings for crop and padding."""
    return (target - size) // 2 if target > size else -round((size - target) / 2)


def per_channel(values: Any, channels: int, name: str) -> tuple[float, ...]:
    """Fit a mean or std to the number of channels."""
    given = tuple(float(value) for value in values)
    if len(given) == channels:
        return given
    if len(given) == 1:
        return given * channels
    if channels == 1:
        # A model of RGB statistics that was adapted to grey input.
        return (sum(given) / len(given),)
    raise UsageError(f"{name} has {len(given)} values for {channels} channels")
