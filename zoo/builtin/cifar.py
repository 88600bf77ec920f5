"""The plugin ``cifar``: small models for 32x32 images, without pretrained weights."""

from __future__ import annotations

from typing import Any

import zoo

zoo_api = ">=1,<2"

# Per-channel statistics of CIFAR-10's training images.
_CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)
_CIFAR10_STD = (0.2470, 0.2435, 0.2616)

_COMMON: dict[str, Any] = {
    "input_size": (3, 32, 32),
    "interpolation": "bilinear",
    "crop_pct": 1.0,
    "num_classes": 10,
    "native_for": ("cifar10", "cifar100"),
    "capabilities": ("features", "img_size"),
    "license": "Apache-2.0",
}


def _resnet(depth: int, params: int, macs: int) -> zoo.Architecture:
    return zoo.Architecture(
        f"resnet{depth}",
        factory="zoo.builtin.cifar_resnet:create",
        family="cifar_resnet",
        mean=_CIFAR10_MEAN,
        std=_CIFAR10_STD,
        params=params,
        macs=macs,
        cam_target="layer3",
        paper="https://arxiv.org/abs/1512.03385",
        default_kwargs={"depth": depth},
        **_COMMON,
    )


@zoo.hookimpl
def zoo_architectures() -> list[zoo.Architecture]:
    """The tutorial CNN and the CIFAR ResNets of He et al."""
    return [
        zoo.Architecture(
            "small_cnn",
            factory="zoo.builtin.small_cnn:SmallCNN",
            family="small_cnn",
            # The tutorial scales pixels to [0, 1] and does nothing more.
            mean=(0.0, 0.0, 0.0),
            std=(1.0, 1.0, 1.0),
            params=127_562,
            macs=4_000_768,
            cam_target="conv2",
            **_COMMON,
        ),
        _resnet(20, params=269_722, macs=40_551_040),
        _resnet(56, params=853_018, macs=125_485_696),
    ]
