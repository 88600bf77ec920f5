"""timm's augmentations of a batch ``(N, C, H, W)``, uint8 or float in [0, 1].

None of them changes its arguments. Each factory takes ``generator``, without which Python's,
NumPy's and torch's global generators decide.
"""

from __future__ import annotations

from typing import Any

import torch
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.data.mixup import Mixup
from timm.data.random_erasing import RandomErasing
from torch import Tensor

from zoo_timm._random import drawn_from


def _as_float(images: Tensor) -> Tensor:
    """A new tensor in [0, 1]."""
    return images.clone() if images.is_floating_point() else images.float() / 255


def _as_before(images: Tensor, original: Tensor) -> Tensor:
    """Go back from [0, 1] to the original's dtype."""
    if original.is_floating_point():
        return images.clamp(0, 1)
    return (images * 255).round().clamp(0, 255).to(original.dtype)


class Erasing:
    """Random erasing of rectangles, each image its own."""

    def __init__(
        self,
        erase: RandomErasing,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        generator: torch.Generator | None,
    ) -> None:
        self.erase = erase
        self.mean = mean
        self.std = std
        self.generator = generator

    def __call__(self, images: Tensor) -> Tensor:
        """Erase in ``(N, C, H, W)``; pixels outside the rectangles stay as they are."""
        mean, std = (self._per_channel(values, images) for values in (self.mean, self.std))
        # timm erases normalised images: with zeros, which are the mean colour, or with noise.
        before = (_as_float(images) - mean) / std
        with drawn_from(self.generator):
            after = self.erase(before.clone())
        return torch.where(after == before, images, _as_before(after * std + mean, images))

    @staticmethod
    def _per_channel(values: tuple[float, ...], images: Tensor) -> Tensor:
        dtype = images.dtype if images.is_floating_point() else torch.float32
        tensor = torch.tensor(values, dtype=dtype, device=images.device)
        if len(values) != images.shape[1]:
            tensor = tensor.mean().expand(images.shape[1])
        return tensor.view(1, -1, 1, 1)


def random_erasing(
    probability: float = 0.25,
    mode: str = "pixel",
    *,
    min_area: float = 0.02,
    max_area: float = 1 / 3,
    min_aspect: float = 0.3,
    count: int = 1,
    mean: tuple[float, ...] = IMAGENET_DEFAULT_MEAN,
    std: tuple[float, ...] = IMAGENET_DEFAULT_STD,
    generator: torch.Generator | None = None,
) -> Erasing:
    """Random erasing (Zhong et al. 2017).

    Args:
        probability: of an image to be erased in.
        mode: "pixel" (noise), "rand" (one random colour a rectangle) or "const" (the mean).
        min_area, max_area: range of the erased area over the image's.
        min_aspect: least height over width of a rectangle; the most is its inverse.
        count: most rectangles an image; their areas are divided by their number.
        mean, std: the data set's statistics, of the noise and of the mean colour; where the
            images have another number of channels, the averages are taken.
        generator: decides where, and with what.
    """
    # Noise comes from the CPU, so that a seed gives the same noise on every device.
    erase = RandomErasing(
        probability,
        min_area=min_area,
        max_area=max_area,
        min_aspect=min_aspect,
        mode=mode,
        max_count=count,
        device="cpu",
    )
    return Erasing(erase, mean, std, generator)


class Mix:
    """Mixup, CutMix or both, by timm's ``Mixup``, on probabilities."""

    def __init__(self, generator: torch.Generator | None, **arguments: Any) -> None:
        self.arguments = arguments
        self.generator = generator

    def __call__(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Mix each image with the one at the mirrored place in the batch.

        Args:
            images: ``(N, C, H, W)``.
            targets: probabilities ``(N, num_classes)``.

        Returns:
            The mixed images and targets, of the same shapes and dtypes.
        """
        # timm takes even batches only. The middle of an odd one is its own mirror image, which
        # mixing leaves as it is.
        half = len(images) // 2
        pairs = torch.arange(len(images), device=images.device)
        pairs = torch.cat([pairs[:half], pairs[len(images) - half :]])
        mixed_images, mixed_targets = images.clone(), targets.clone()
        if half:
            mix = Mixup(
                **self.arguments,
                label_smoothing=0,
                num_classes=targets.shape[1],
                multi_label=True,  # the targets are not indices
            )
            with drawn_from(self.generator):
                some, labels = mix(_as_float(images[pairs]), targets[pairs])
            mixed_images[pairs] = _as_before(some, images)
            mixed_targets[pairs] = labels.to(targets.dtype)
        return mixed_images, mixed_targets


def mixup(
    alpha: float = 1.0,
    prob: float = 1.0,
    mode: str = "batch",
    *,
    generator: torch.Generator | None = None,
) -> Mix:
    """Mixup (Zhang et al. 2017): weighted averages of two images, and of their targets.

    Args:
        alpha: of the Beta distribution that the weight is drawn from.
        prob: probability of mixing at all.
        mode: what has a weight of its own: the "batch", each "pair" or each "elem" (image).
        generator: decides the weights.
    """
    return Mix(generator, mixup_alpha=alpha, cutmix_alpha=0.0, prob=prob, mode=mode)


def cutmix(
    alpha: float = 1.0,
    prob: float = 1.0,
    mode: str = "batch",
    *,
    minmax: tuple[float, float] | None = None,
    generator: torch.Generator | None = None,
) -> Mix:
    """CutMix (Yun et al. 2019): a rectangle of one image in the other, targets by area.

    Args:
        alpha: of the Beta distribution that the kept area is drawn from.
        prob: probability of mixing at all.
        mode: what has a rectangle of its own: the "batch", each "pair" or each "elem" (image).
        minmax: range of the rectangle's sides over the image's, in the place of alpha.
        generator: decides the rectangles.
    """
    return Mix(
        generator, mixup_alpha=0.0, cutmix_alpha=alpha, cutmix_minmax=minmax, prob=prob, mode=mode
    )


def mixup_cutmix(
    mixup_alpha: float = 0.8,
    cutmix_alpha: float = 1.0,
    prob: float = 1.0,
    switch_prob: float = 0.5,
    mode: str = "batch",
    *,
    generator: torch.Generator | None = None,
) -> Mix:
    """Mixup or CutMix by chance, as DeiT trains; ``switch_prob`` is the probability of CutMix."""
    return Mix(
        generator,
        mixup_alpha=mixup_alpha,
        cutmix_alpha=cutmix_alpha,
        prob=prob,
        switch_prob=switch_prob,
        mode=mode,
    )
