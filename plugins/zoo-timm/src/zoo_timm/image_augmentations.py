"""timm's augmentations of one image.

They take a PIL image or a tensor ``(C, H, W)`` with 1 or 3 channels, uint8 or float in [0, 1],
and return the same kind. timm works on PIL images of 8 bits a channel, so a float image comes
back with 256 levels. Each factory takes ``generator``, without which Python's and NumPy's
global generators decide.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from PIL import Image
from timm.data.auto_augment import (
    augment_and_mix_transform,
    auto_augment_transform,
    rand_augment_transform,
)
from timm.data.transforms import RandomResizedCropAndInterpolation
from torchvision.transforms.v2 import functional as F

import zoo
from zoo_timm._random import drawn_from


class ImageAugmentation:
    """A transform of PIL images that takes tensors too and draws from a given generator."""

    def __init__(
        self, transform: Callable[[Any], Any], generator: torch.Generator | None = None
    ) -> None:
        self.transform = transform
        self.generator = generator

    def __call__(self, image: Any) -> Any:
        """Transform one image."""
        with drawn_from(self.generator):
            if isinstance(image, torch.Tensor):
                picture = F.to_pil_image(F.to_dtype(image, torch.uint8, scale=True))
                result = F.pil_to_tensor(self._augment(picture))
                return F.to_dtype(result, image.dtype, scale=True).to(image.device)
            return self._augment(image)

    def _augment(self, image: Image.Image) -> Image.Image:
        # timm fills with a colour of three channels, which only an RGB image has.
        return self.transform(image.convert("RGB")).convert(image.mode)

    def __repr__(self) -> str:
        return repr(self.transform)


def _keep_a_bit(transform: Any) -> Any:
    """Let posterizing keep at least one bit: timm also draws none, which Pillow 13 refuses."""
    policies = getattr(transform, "policy", ())
    for op in [*getattr(transform, "ops", ()), *(op for policy in policies for op in policy)]:
        if op.name.startswith("Posterize"):
            bits = op.level_fn
            op.level_fn = lambda level, hparams, bits=bits: (max(1, bits(level, hparams)[0]),)
    return transform


def _parse(parser: Callable[[str], Any], policy: str, example: str) -> Any:
    try:
        return _keep_a_bit(parser(policy))
    except (AssertionError, ValueError) as error:
        raise zoo.UsageError(
            f"'{policy}' is not a policy that timm knows; an example is '{example}'"
        ) from error


def auto_augment(
    policy: str = "original-mstd0.5", *, generator: torch.Generator | None = None
) -> ImageAugmentation:
    """AutoAugment. The policy is timm's string: "original", "originalr", "v0", "v0r" or "3a"."""
    return ImageAugmentation(_parse(auto_augment_transform, policy, "original-mstd0.5"), generator)


def rand_augment(
    policy: str = "rand-m9-mstd0.5-inc1", *, generator: torch.Generator | None = None
) -> ImageAugmentation:
    """RandAugment. The policy is timm's string: m is magnitude, n the number of operations."""
    return ImageAugmentation(
        _parse(rand_augment_transform, policy, "rand-m9-mstd0.5-inc1"), generator
    )


def augmix(
    policy: str = "augmix-m3-w3", *, generator: torch.Generator | None = None
) -> ImageAugmentation:
    """AugMix. The policy is timm's string: m is severity, w the chains' number, d their length."""
    return ImageAugmentation(_parse(augment_and_mix_transform, policy, "augmix-m3-w3"), generator)


def three_augment(*, generator: torch.Generator | None = None) -> ImageAugmentation:
    """3-Augment of DeiT III: solarise, grey or blur, each image one of them."""
    return ImageAugmentation(auto_augment_transform("3a"), generator)


def random_resized_crop(
    size: int | tuple[int, int] = 224,
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    interpolation: str = "bilinear",
    *,
    generator: torch.Generator | None = None,
) -> ImageAugmentation:
    """Crop a part of random area and shape, and resize it to ``size``.

    Args:
        size: side or (height, width) of the result, in pixels.
        scale: range of the part's area over the image's.
        ratio: range of the part's width over its height.
        interpolation: "nearest", "bilinear", "bicubic" or "random" (bilinear or bicubic).
        generator: decides the part.
    """
    transform = RandomResizedCropAndInterpolation(size, scale, ratio, interpolation)
    return ImageAugmentation(transform, generator)
