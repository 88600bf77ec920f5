"""What happens to images between a data set and a model, in training and in evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.data.cropping import EvalFit, RandomResizedCrop, check_interpolation
from zoo.data.normalize import normalize
from zoo.data.randomness import subkeys
from zoo.data.sources import Fit
from zoo.data.stages import Chosen, Stage, create_stage
from zoo.data.transforms import IMAGENET_MEAN, IMAGENET_STD, EvalTransform, per_channel
from zoo.errors import UsageError


@dataclass(frozen=True)
class Transform:
    """Prepares batches: augments, normalises, and makes soft targets where they are needed.

    Attributes:
        input_size: (channels, height, width) that the model takes.
        mean, std: a value per channel, for pixels in [0, 1].
        fit: brings images to the model's size, one by one.
        shift: what images that have this size already go through in its place, if anything.
        stages: augmentations, in their order.
        num_classes: columns of soft targets; None where targets stay indices.
        smoothing: share of each target's probability that is spread evenly over all classes.
        exact: whether normalisation is torchvision's to the bit, see :func:`normalize`.
    """

    input_size: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fit: Fit
    shift: Stage | None = None
    stages: tuple[Stage, ...] = ()
    num_classes: int | None = None
    smoothing: float = 0.0
    exact: bool = False

    def __call__(
        self, images: Tensor, targets: Tensor, keys: Tensor, *, fitted: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Prepare a batch.

        Args:
            images: ``(N, C, H, W)`` of the model's size, uint8, or float32 in [0, 1].
            targets: int64 ``(N,)``.
            keys: int64 ``(N,)``, the samples' random keys.
            fitted: whether the images went through ``fit``.

        Returns:
            images float32 ``(N, C, H, W)``; targets as they were, or float32 (N, num_classes).
        """
        if self.num_classes is not None:
            targets = _soft(targets, self.num_classes, self.smoothing)
        if len(images):
            own_keys = subkeys(keys, 1 + len(self.stages))
            if self.shift is not None and not fitted:
                images, targets = self.shift(images, targets, own_keys[0])
            for stage, stage_keys in zip(self.stages, own_keys[1:], strict=True):
                images, targets = stage(images, targets, stage_keys)
        return normalize(images, self.mean, self.std, exact=self.exact), targets


def _soft(targets: Tensor, classes: int, smoothing: float) -> Tensor:
    sure = F.one_hot(targets, classes).to(torch.float32)
    return sure.mul_(1 - smoothing).add_(smoothing / classes) if smoothing else sure


def train_transform(
    input_size: tuple[int, int, int] = (3, 224, 224),
    *,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    interpolation: str = "bilinear",
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    crop_padding: int | None = None,
    hflip: float = 0.5,
    color_jitter: float | Sequence[float] = 0.0,
    aa: str | None = None,
    augment: Sequence[Chosen] = (),
    reprob: float = 0.0,
    remode: str = "pixel",
    recount: int = 1,
    mixup: float = 0.0,
    cutmix: float = 0.0,
    mixup_prob: float = 1.0,
    mixup_switch_prob: float = 0.5,
    smoothing: float = 0.0,
    num_classes: int | None = None,
    no_aug: bool = False,
) -> Transform:
    """Return the preparation of training images; the names are timm's.

    In this order: the crop, flip, colour jitter, ``aa``, ``augment``, erasing, mixup and CutMix,
    normalisation. Images in memory that have the model's size are shifted; all others are
    cropped at random and resized.

    Args:
        input_size: (channels, height, width) that the model takes.
        mean, std: a value per channel, for pixels in [0, 1].
        interpolation: ``"bilinear"``, ``"bicubic"`` or ``"nearest"``, of the resized crop.
        scale, ratio: of the random resized crop: its area over the image's, width over height.
        crop_padding: pixels by which images are shifted; by default an eighth of their height.
        hflip: probability of mirroring left to right.
        color_jitter: range of brightness, contrast and saturation, or a range for each of them,
            and hue.
        aa: a policy of AutoAugment, RandAugment, AugMix or 3-Augment in timm's words, such as
            ``"rand-m9-mstd0.5-inc1"``; needs the plugin ``timm``.
        augment: further augmentations of the registry: names, or (name, arguments).
        reprob, remode, recount: probability, mode and most rectangles of random erasing.
        mixup, cutmix: alpha of either, 0 for none; both switch by ``mixup_switch_prob``.
        mixup_prob: probability of an image to be mixed at all.
        smoothing: share of the targets' probability that is spread over all classes.
        num_classes: needed by whatever makes soft targets.
        no_aug: images as in evaluation, with a ``crop_pct`` of 1, and targets as they are.

    Raises:
        UnknownName, AmbiguousName: an augmentation that is not known.
        UsageError: an argument is out of range, or missing.
    """
    if no_aug:
        return eval_transform(
            input_size, mean=mean, std=std, interpolation=interpolation, crop_pct=1.0
        )
    if not 0 <= smoothing < 1:
        raise UsageError(f"smoothing must be from 0 to below 1, not {smoothing}")
    mean, std = _statistics(mean, std, input_size[0])
    chosen: list[Chosen] = []
    if hflip:
        chosen.append(("zoo/batch_flip", {"p": hflip}))
    if jitter := _jitter(color_jitter):
        chosen.append(("zoo/batch_color_jitter", jitter))
    if aa:
        chosen.append((_policy(aa), {} if aa == "3a" else {"policy": aa}))
    chosen += augment
    if reprob:
        erasing = {"p": reprob, "mode": remode, "count": recount, "mean": mean, "std": std}
        chosen.append(("zoo/erasing", erasing))
    if mixup or cutmix:
        alphas = {"mixup_alpha": mixup, "cutmix_alpha": cutmix}
        chances = {"prob": mixup_prob, "switch_prob": mixup_switch_prob}
        chosen.append(("zoo/mixup_cutmix", alphas | chances))
    stages = tuple(map(create_stage, chosen))
    soft = [stage.name for stage in stages if stage.soft] + ["smoothing"] * (smoothing > 0)
    if soft and num_classes is None:
        raise UsageError(f"{', '.join(soft)}: soft targets need num_classes")
    padding = input_size[1] // 8 if crop_padding is None else crop_padding
    return Transform(
        input_size,
        mean,
        std,
        RandomResizedCrop(input_size, scale, ratio, check_interpolation(interpolation)),
        create_stage(("zoo/batch_crop", {"padding": padding})) if padding else None,
        stages,
        num_classes if soft else None,
        smoothing,
    )


def eval_transform(
    input_size: tuple[int, int, int] = (3, 224, 224),
    *,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    interpolation: str = "bicubic",
    crop_pct: float = 0.875,
    **config: Any,
) -> Transform:
    """Return the preparation of images for evaluation: that of :class:`EvalTransform`.

    Images in memory that have the model's size are only normalised. The arguments are entries of
    a model's ``pretrained_cfg``, of which all others are accepted too.

    Raises:
        UsageError: a setting that is not known.
    """
    config |= {"input_size": input_size, "interpolation": interpolation, "crop_pct": crop_pct}
    transform = EvalTransform.from_config(config | {"mean": mean, "std": std})
    return Transform(input_size, transform.mean, transform.std, EvalFit(transform), exact=True)


def _statistics(
    mean: Sequence[float], std: Sequence[float], channels: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if min(std) <= 0:
        raise UsageError(f"std must be above 0, not {tuple(std)}")
    return per_channel(mean, channels, "mean"), per_channel(std, channels, "std")


def _jitter(setting: float | Sequence[float]) -> dict[str, float]:
    """Read ranges of brightness, contrast, saturation and hue, {} if nothing is to be changed."""
    values = [setting] * 3 if isinstance(setting, int | float) else list(setting)
    if len(values) > 4 or any(value < 0 for value in values):
        raise UsageError(f"color_jitter takes up to four numbers from 0, not {setting}")
    values += [0.0] * (4 - len(values))
    names = ("brightness", "contrast", "saturation", "hue")
    return dict(zip(names, values, strict=True)) if any(values) else {}


def _policy(aa: str) -> str:
    """Return the augmentation that a policy in timm's words is for."""
    if aa == "3a":
        return "timm/three_augment"
    kind = {"rand": "rand_augment", "augmix": "augmix"}.get(aa.partition("-")[0], "auto_augment")
    return f"timm/{kind}"
