"""Where a loader's images come from: a tensor in memory, files, or a data set's items."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import torch
from PIL import Image
from torch import Tensor

from zoo.data.images import ImageError, ignore_pillow_warnings
from zoo.errors import UsageError


class Fit(Protocol):
    """Brings one image to the model's size, ``(C, H, W)``, with the random numbers of a key."""

    def __call__(self, image: Any, key: int) -> Tensor:
        """Fit a PIL image, or a tensor ``(C, h, w)``, uint8 or float32 in [0, 1]."""

    def read(self, path: str, key: int) -> Tensor:
        """Fit the image in a file, uint8.

        Raises:
            ImageError: the file cannot be read.
        """


class Failure(NamedTuple):
    """A sample that cannot be read: its index in the data set, what to call it, and why."""

    sample: int
    name: str
    reason: str


class Source(Protocol):
    """Reads samples.

    Attributes:
        targets: int64 ``(N,)``, of all samples.
        fitted: whether images are fitted to the model's size, rather than of that size already.
    """

    targets: Tensor
    fitted: bool

    def read(self, indices: Tensor, keys: Tensor) -> tuple[Tensor, list[Failure]]:
        """Return images ``(n, C, H, W)`` of those that can be read, and the others.

        Images are uint8, or float32 in [0, 1], in memory that nobody else uses.
        """


def open_source(dataset: Any, fit: Fit, size: tuple[int, int, int]) -> Source:
    """Return the source of a data set for a model's input size (channels, height, width).

    Raises:
        UsageError: the data set is not as :class:`zoo.Dataset` says.
    """
    targets = getattr(dataset, "targets", None)
    if targets is None:
        targets = [int(dataset[index][1]) for index in range(len(dataset))]
    targets = torch.as_tensor(targets, dtype=torch.int64)
    images = getattr(dataset, "images", None)
    if isinstance(images, Tensor):
        if images.dtype not in (torch.uint8, torch.float32) or images.ndim != 4:
            raise UsageError(
                "the images of a data set must be uint8 or float32 (N, C, H, W), not "
                f"{images.dtype} {tuple(images.shape)}"
            )
        if images.shape[2:] == size[1:]:
            return _Memory(images, targets, size[0])
        return _Fitted(images, targets, fit, size)
    if hasattr(dataset, "paths"):
        return _Files(dataset.paths, targets, fit, size)
    return _Items(dataset, targets, fit, size)


class _Memory:
    """Images of the model's size, all in memory: a batch is one gather."""

    fitted = False

    def __init__(self, images: Tensor, targets: Tensor, channels: int) -> None:
        self.images = images
        self.targets = targets
        self.channels = channels

    def read(self, indices: Tensor, keys: Tensor) -> tuple[Tensor, list[Failure]]:
        return to_channels(self.images.index_select(0, indices), self.channels), []


class _Fitted:
    """Images that are brought to the model's size one by one."""

    fitted = True

    def __init__(self, images: Any, targets: Tensor, fit: Fit, size: tuple[int, int, int]) -> None:
        self.images = images
        self.targets = targets
        self.fit = fit
        self.size = size
        ignore_pillow_warnings()

    def read_one(self, index: int, key: int) -> Tensor:
        return self.fit(self.images[index], key)

    def name_of(self, index: int) -> str:
        return f"sample {index}"

    def read(self, indices: Tensor, keys: Tensor) -> tuple[Tensor, list[Failure]]:
        batch, failures = torch.empty(0, *self.size, dtype=torch.uint8), []
        row = 0
        for index, key in zip(indices.tolist(), keys.tolist(), strict=True):
            try:
                image = self.read_one(index, key)
            except ImageError as error:
                failures.append(Failure(index, self.name_of(index), str(error)))
                continue
            if row == 0:
                batch = torch.empty(len(indices), *image.shape, dtype=image.dtype)
            batch[row] = image
            row += 1
        return batch[:row], failures


class _Items(_Fitted):
    """A data set's own items."""

    def read_one(self, index: int, key: int) -> Tensor:
        return self.fit(self.images[index][0], key)


class _Files(_Fitted):
    """Image files, of which ``images`` are the paths."""

    def read_one(self, index: int, key: int) -> Tensor:
        return self.fit.read(self.images[index], key)

    def name_of(self, index: int) -> str:
        return str(self.images[index])


def to_channels(images: Tensor, channels: int) -> Tensor:
    """Return images ``(..., C, H, W)`` in grey (1 channel) or colour (3), whichever they are."""
    given = images.shape[-3]
    if given == channels:
        return images
    if given == 1:
        return images.expand(*images.shape[:-3], channels, *images.shape[-2:])
    if given == 3 and channels == 1:
        from torchvision.transforms.v2.functional import rgb_to_grayscale

        grey: Tensor = rgb_to_grayscale(images)
        return grey
    raise UsageError(f"images of {given} channels cannot be given to a model that takes {channels}")


def to_tensor(image: Any) -> Tensor:
    """Return a PIL image as uint8 ``(C, H, W)``; a tensor as it is."""
    if isinstance(image, Image.Image):
        from torchvision.transforms.v2.functional import pil_to_tensor

        tensor: Tensor = pil_to_tensor(image)
        return tensor
    return torch.as_tensor(image)
