"""The two kinds of data sets: images in memory, and image files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from zoo.data.images import open_image

Transform = Callable[[Any], Any]


class ImagesInMemory(Dataset[tuple[Any, int]]):
    """Images that fit in memory. An item is a tensor ``(C, H, W)``, transformed, and its class.

    Attributes:
        images: ``(N, C, H, W)``, uint8, or float32 in [0, 1].
        targets: class indices, int64 ``(N,)``.
        classes: the class names by index.
    """

    def __init__(
        self,
        images: Tensor,
        targets: Tensor,
        classes: Sequence[str],
        transform: Transform | None = None,
    ) -> None:
        self.images = images
        self.targets = targets
        self.classes = classes
        self.transform = transform

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image = self.images[index]
        return (self.transform(image) if self.transform else image), int(self.targets[index])


class ImageFiles(Dataset[tuple[Any, int]]):
    """Image files. An item is an upright RGB ``PIL.Image``, transformed, and its class.

    Attributes:
        paths: the files.
        targets: class indices, int64 ``(N,)``.
        classes: the class names by index.

    Raises:
        ImageError: from an item, where the file is damaged.
    """

    def __init__(
        self,
        paths: Sequence[str],
        targets: Sequence[int],
        classes: Sequence[str],
        transform: Transform | None = None,
    ) -> None:
        self.paths = paths
        self.targets = torch.tensor(targets, dtype=torch.int64)
        self.classes = classes
        self.transform = transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image: Image.Image = open_image(self.paths[index])
        return (self.transform(image) if self.transform else image), int(self.targets[index])
