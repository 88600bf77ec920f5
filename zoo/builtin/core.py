"""The plugin ``zoo``: everyday losses, augmentations, backends and data sets."""

from __future__ import annotations

from typing import Literal

import zoo

zoo_api = ">=1,<2"

_TORCH_LICENSE = "BSD-3-Clause"


@zoo.hookimpl
def zoo_losses() -> list[zoo.Loss]:
    """Cross-entropy (with ``label_smoothing``) and mean squared error."""
    return [
        zoo.Loss(
            "cross_entropy",
            factory="torch.nn:CrossEntropyLoss",
            target=("index", "soft"),
            license=_TORCH_LICENSE,
        ),
        zoo.Loss(
            "mse",
            factory="zoo.builtin.losses:MSELoss",
            target=("index", "soft", "multihot"),
            license="Apache-2.0",
            paper="https://arxiv.org/abs/2006.07322",
        ),
    ]


@zoo.hookimpl
def zoo_augmentations() -> list[zoo.Augmentation]:
    """torchvision's transforms of one image, and zoo's own of batches."""

    def image(name: str) -> zoo.Augmentation:
        factory = f"zoo.builtin.augmentations:{name}"
        return zoo.Augmentation(name, factory, license=_TORCH_LICENSE)

    def batch(
        name: str,
        factory: str,
        paper: str | None = None,
        targets: Literal["unchanged", "soft"] = "unchanged",
    ) -> zoo.Augmentation:
        return zoo.Augmentation(
            name,
            f"zoo.builtin.batch_augmentations:{factory}",
            level="batch",
            targets=targets,
            license="Apache-2.0",
            paper=paper and f"https://arxiv.org/abs/{paper}",
            per_sample=True,
        )

    return [
        *map(image, ("random_crop", "horizontal_flip", "rotation", "color_jitter")),
        batch("batch_crop", "BatchCrop"),
        batch("batch_flip", "BatchFlip"),
        batch("batch_rotation", "BatchRotation"),
        batch("batch_color_jitter", "BatchColorJitter"),
        batch("cutout", "Cutout", "1708.04552"),
        batch("erasing", "Erasing", "1708.04896"),
        batch("mixup", "mixup", "1710.09412", "soft"),
        batch("cutmix", "cutmix", "1905.04899", "soft"),
        batch("mixup_cutmix", "mixup_cutmix", "2012.12877", "soft"),
    ]


@zoo.hookimpl
def zoo_backends() -> list[zoo.Backend]:
    """zoo's own plans, and PyTorch's ways."""
    return [
        zoo.Backend(
            "zoo",
            prepare="zoo.compiler:prepare",
            dynamic=True,
            license="Apache-2.0",
            summary="zoo's plans: the whole network in one call of its own kernels",
        ),
        zoo.Backend(
            "eager",
            prepare="zoo.backends.pytorch:eager",
            dynamic=True,
            license=_TORCH_LICENSE,
            summary="PyTorch as it is, in channels_last",
        ),
        zoo.Backend(
            "inductor",
            prepare="zoo.backends.pytorch:inductor",
            license=_TORCH_LICENSE,
            summary="torch.compile, parameters frozen or not, channels_last; needs a C++ compiler",
        ),
        zoo.Backend(
            "aotinductor",
            prepare="zoo.backends.pytorch:aotinductor",
            auto=False,
            license=_TORCH_LICENSE,
            summary="the exported graph by AOTInductor, frozen, in channels_last; needs a C++ "
            "compiler, and a minute for a large network",
        ),
    ]


@zoo.hookimpl
def zoo_datasets() -> list[zoo.Dataset]:
    """Digits, which come with scikit-learn; CIFAR; ImageNet; and one's own images."""
    return [
        zoo.Dataset(
            "digits",
            factory="zoo.builtin.digits:Digits",
            num_classes=10,
            input_size=(1, 8, 8),
            mean=(0.3054,),
            std=(0.3761,),
            recipe="digits",
            license="CC-BY-4.0",
            source="https://archive.ics.uci.edu/dataset/80",
        ),
        zoo.Dataset(
            "cifar10",
            factory="zoo.builtin.cifar_data:CIFAR10",
            num_classes=10,
            input_size=(3, 32, 32),
            mean=(0.4914, 0.4822, 0.4465),
            std=(0.2470, 0.2435, 0.2616),
            recipe="cifar10",
            source="https://www.cs.toronto.edu/~kriz/cifar.html",
        ),
        zoo.Dataset(
            "cifar100",
            factory="zoo.builtin.cifar_data:CIFAR100",
            num_classes=100,
            input_size=(3, 32, 32),
            mean=(0.5071, 0.4865, 0.4409),
            std=(0.2673, 0.2564, 0.2762),
            recipe="cifar10",
            source="https://www.cs.toronto.edu/~kriz/cifar.html",
        ),
        zoo.Dataset(
            "imagenet",
            factory="zoo.builtin.imagenet:ImageNet",
            num_classes=1000,
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
            splits=("train", "val"),
            recipe="imagenet",
            license="LicenseRef-ImageNet-terms-of-access",
            source="https://image-net.org/download.php",
        ),
        zoo.Dataset(
            "folder",
            factory="zoo.data.datasets.folder:Folder",
            splits=("train", "val", "validation", "test"),
            source="a folder per class, in ROOT or in ROOT/SPLIT",
        ),
        zoo.Dataset(
            "csv",
            factory="zoo.data.datasets.csv_file:CsvFile",
            splits=("train", "val", "validation", "test"),
            source="a .csv file of the columns path and label; split too",
        ),
    ]
