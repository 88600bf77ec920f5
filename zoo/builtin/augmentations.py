"""Augmentations of one image: torchvision's, with an optional generator.

They take and return a PIL image or a tensor ``(C, H, W)``, uint8 or float in [0, 1]. They are
of level ``"image"`` because a torchvision transform that is given a batch draws once for all of
its images. Without a generator they draw from torch's global one, as torchvision does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torchvision.transforms import InterpolationMode, v2


class Seeded:
    """A torchvision transform that draws from a generator of its own."""

    def __init__(self, transform: v2.Transform, generator: torch.Generator | None) -> None:
        self.transform = transform
        self.generator = generator

    def __call__(self, image: Any) -> Any:
        """Transform one image."""
        if self.generator is None:
            return self.transform(image)
        # torchvision draws from torch's global generator and takes no other, so this one's
        # next number seeds the global one, whose state is put back afterwards.
        seed = torch.randint(2**62, (), generator=self.generator, device=self.generator.device)
        state = torch.get_rng_state()
        torch.default_generator.manual_seed(int(seed))
        try:
            return self.transform(image)
        finally:
            torch.set_rng_state(state)

    def __repr__(self) -> str:
        return repr(self.transform)


def random_crop(
    size: int | Sequence[int] = 32,
    padding: int | Sequence[int] | None = 4,
    *,
    pad_if_needed: bool = False,
    fill: float | Sequence[float] = 0,
    padding_mode: str = "constant",
    generator: torch.Generator | None = None,
) -> Seeded:
    """Crop at a random place after padding. The defaults are the usual ones for CIFAR."""
    transform = v2.RandomCrop(
        size, padding, pad_if_needed=pad_if_needed, fill=fill, padding_mode=padding_mode
    )
    return Seeded(transform, generator)


def horizontal_flip(p: float = 0.5, *, generator: torch.Generator | None = None) -> Seeded:
    """Mirror left to right with probability ``p``."""
    return Seeded(v2.RandomHorizontalFlip(p), generator)


def rotation(
    degrees: float | Sequence[float] = 15,
    *,
    interpolation: str = "bilinear",
    expand: bool = False,
    fill: float | Sequence[float] = 0,
    generator: torch.Generator | None = None,
) -> Seeded:
    """Rotate by an angle drawn from (-degrees, degrees), or from the given range."""
    mode = InterpolationMode(interpolation)
    transform = v2.RandomRotation(degrees, interpolation=mode, expand=expand, fill=fill)
    return Seeded(transform, generator)


def color_jitter(
    brightness: float | Sequence[float] = 0.4,
    contrast: float | Sequence[float] = 0.4,
    saturation: float | Sequence[float] = 0.4,
    hue: float | Sequence[float] = 0.0,
    *,
    generator: torch.Generator | None = None,
) -> Seeded:
    """Change brightness, contrast, saturation and hue, in random order, by random factors.

    A factor ``f`` is drawn from [1 - f, 1 + f], hue from [-hue, hue]; a pair is the range itself.
    """
    return Seeded(v2.ColorJitter(brightness, contrast, saturation, hue), generator)
