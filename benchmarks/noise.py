"""A plugin with a data set of noise, 32x32 in colour, to time training on."""

from __future__ import annotations

import zoo

IMAGES = 6_400


@zoo.hookimpl
def zoo_datasets() -> list[zoo.Dataset]:
    return [zoo.Dataset("colour32", "noise:colour32", num_classes=10, input_size=(3, 32, 32))]


def colour32(*, split, transform=None):
    import torch

    from zoo.data.datasets.base import ImagesInMemory

    generator = torch.Generator().manual_seed(0)
    count = IMAGES if split == "train" else 256
    images = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=generator)
    targets = torch.randint(0, 10, (count,), generator=generator)
    return ImagesInMemory(images, targets, tuple("0123456789"), transform)
