"""EfficientNet-Lite0: timm's network, and the translation of the packaged weights to it."""

from __future__ import annotations

from typing import Any

import timm
from timm.data import ImageNetInfo
from torch import Tensor, nn

import zoo


def create(*, num_classes: int, in_chans: int, **kwargs: Any) -> nn.Module:
    """Build the network with random weights; further arguments are timm's."""
    return timm.create_model(
        "tf_efficientnet_lite0",
        pretrained=False,
        num_classes=num_classes,
        in_chans=in_chans,
        **kwargs,
    )


_CLASSIFIER = ("classifier.weight", "classifier.bias")


def convert(state_dict: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Give the file's tensors the model's names.

    The file has other names but the same layers in the same order, so its tensors and the
    model's go together one to one. The classifier comes last in the file, whatever the model has
    in its place.

    Raises:
        zoo.WeightsError: the numbers of tensors differ.
    """
    names = [name for name in model.state_dict() if name not in _CLASSIFIER] + [*_CLASSIFIER]
    if len(names) != len(state_dict):
        raise zoo.WeightsError(
            f"efficientnet-lite/efficientnet_lite0: the file has {len(state_dict)} tensors, the "
            f"model {len(names)}; install a timm in the range that zoo-efficientnet-lite states"
        )
    return dict(zip(names, state_dict.values(), strict=True))


def labels() -> list[str]:
    """The names of the 1,000 ImageNet classes, in class-index order."""
    return ImageNetInfo("imagenet-1k").label_descriptions()
