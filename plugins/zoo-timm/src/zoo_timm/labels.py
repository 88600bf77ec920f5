"""Class names of the ImageNet subsets that timm's weights were trained on.

Each function returns the names in class-index order: WordNet lemmas, e.g. ``"daisy"``.
"""

from __future__ import annotations

from timm.data import ImageNetInfo


def imagenet_1k() -> list[str]:
    """The 1,000 classes of ILSVRC 2012."""
    return ImageNetInfo("imagenet-1k").label_descriptions()


def imagenet_12k() -> list[str]:
    """timm's 11,821 classes of ImageNet-22k that have enough images."""
    return ImageNetInfo("imagenet-12k").label_descriptions()


def imagenet_22k() -> list[str]:
    """The 21,841 classes of the autumn 2011 release."""
    return ImageNetInfo("imagenet-22k").label_descriptions()


def imagenet_22k_ms() -> list[str]:
    """Microsoft's 21,842: the ImageNet-1k classes first."""
    return ImageNetInfo("imagenet-22k-ms").label_descriptions()


def imagenet_21k_goog() -> list[str]:
    """Google's 21,843: the autumn 2011 release and two classes more."""
    return ImageNetInfo("imagenet-21k-goog").label_descriptions()


def imagenet_21k_miil() -> list[str]:
    """The 11,221 classes of ImageNet-21k-P (Ridnik et al. 2021)."""
    return ImageNetInfo("imagenet-21k-miil").label_descriptions()
