"""The plugin ``timm``: models, weights, losses and augmentations of pytorch-image-models."""

from __future__ import annotations

from typing import Literal

import zoo

zoo_api = ">=1,<2"

_TWO_WAY = "https://staff.aist.go.jp/takumi.kobayashi/publication/2023/CVPR2023.pdf"


def _url(paper: str) -> str:
    return paper if paper.startswith("https:") else f"https://arxiv.org/abs/{paper}"


@zoo.hookimpl
def zoo_architectures() -> list[zoo.Catalog]:
    """All of timm's architectures and weights, through an index."""
    return [zoo.Catalog("timm", builder="zoo_timm.index:build", depends=("timm",))]


@zoo.hookimpl
def zoo_losses() -> list[zoo.Loss]:
    """timm's criteria for single-label and multi-label classification."""

    def loss(name: str, attribute: str, target: str | tuple[str, ...], paper: str) -> zoo.Loss:
        return zoo.Loss(
            name, f"timm.loss:{attribute}", target, license="Apache-2.0", paper=_url(paper)
        )

    any_target = ("index", "soft", "multihot")
    return [
        loss("label_smoothing_cross_entropy", "LabelSmoothingCrossEntropy", "index", "1512.00567"),
        loss("soft_target_cross_entropy", "SoftTargetCrossEntropy", "soft", "1710.09412"),
        loss("binary_cross_entropy", "BinaryCrossEntropy", any_target, "2110.00476"),
        loss("jsd_cross_entropy", "JsdCrossEntropy", "index", "1912.02781"),
        loss("asymmetric_single_label", "AsymmetricLossSingleLabel", "index", "2009.14119"),
        loss("asymmetric_multi_label", "AsymmetricLossMultiLabel", "multihot", "2009.14119"),
        loss("poly_cross_entropy", "PolyCrossEntropy", ("index", "soft"), "2204.12511"),
        loss("poly_binary_cross_entropy", "PolyBinaryCrossEntropy", "multihot", "2204.12511"),
        loss("two_way", "TwoWayLoss", "multihot", _TWO_WAY),
        loss("zlpr", "ZlprLoss", "multihot", "2208.02955"),
        loss("distribution_balanced", "DistributionBalancedLoss", "multihot", "2007.09654"),
    ]


@zoo.hookimpl
def zoo_augmentations() -> list[zoo.Augmentation]:
    """timm's augmentations of single images and of batches."""

    def image(name: str, paper: str) -> zoo.Augmentation:
        factory = f"zoo_timm.image_augmentations:{name}"
        return zoo.Augmentation(name, factory, license="Apache-2.0", paper=_url(paper))

    def batch(name: str, targets: Literal["unchanged", "soft"], paper: str) -> zoo.Augmentation:
        factory = f"zoo_timm.batch_augmentations:{name}"
        return zoo.Augmentation(
            name, factory, "batch", targets, license="Apache-2.0", paper=_url(paper)
        )

    return [
        image("auto_augment", "1805.09501"),
        image("rand_augment", "1909.13719"),
        image("augmix", "1912.02781"),
        image("three_augment", "2204.07118"),
        image("random_resized_crop", "1409.4842"),
        batch("random_erasing", "unchanged", "1708.04896"),
        batch("mixup", "soft", "1710.09412"),
        batch("cutmix", "soft", "1905.04899"),
        batch("mixup_cutmix", "soft", "2012.12877"),
    ]
