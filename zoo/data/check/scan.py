"""Looks at every image of a data set once, and keeps what checks are made of."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import ExifTags, Image
from torch import Tensor

from zoo.data.images import ImageError, open_image
from zoo.errors import UsageError

THUMBNAIL = 16  # pixels a side
_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class Look:
    """What an image is like.

    Attributes:
        size: (width, height) in pixels, upright.
        mode: Pillow's name of the file's mode: ``"RGB"``, ``"L"``, ``"P"``, ``"I;16"``, ...
        turned: whether EXIF had it turned upright.
        digest: of its size and 8-bit pixels.
        thumbnail: 16x16 grey pixels, row by row.
        mean, square: means over its pixels of each channel in [0, 1], and of its square.
    """

    size: tuple[int, int]
    mode: str
    turned: bool
    digest: bytes
    thumbnail: bytes
    mean: tuple[float, ...]
    square: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Sample:
    """An image of a split: its number there, its class and file, and its look or what is wrong."""

    split: str
    index: int
    target: int
    path: str | None
    look: Look | None
    error: str | None


def scan(
    datasets: Mapping[str, Any], progress: Callable[[int], None] = lambda images: None
) -> list[Sample]:
    """Look at every image of some splits.

    Args:
        datasets: by split, with ``targets`` and ``images`` or ``paths`` (see
            :class:`zoo.Dataset`).
        progress: called with the number of images done since the last call.

    Raises:
        UsageError: images in memory have other than one or three channels.
    """
    samples = []
    with ThreadPoolExecutor() as pool:
        for split, dataset in datasets.items():
            targets = dataset.targets.tolist()
            paths = getattr(dataset, "paths", None)
            # Threads decode files side by side; on pixels in memory they would only wait in turn.
            apply: Any = map if paths is None else pool.map
            for start in range(0, len(targets), _AT_ONCE):
                numbers = range(start, min(start + _AT_ONCE, len(targets)))
                with warnings.catch_warnings():
                    # Pillow warns of odd metadata, and of large images at half the size it refuses.
                    warnings.simplefilter("ignore")
                    looks = list(apply(lambda n, of=dataset: _look_at(of, n), numbers))
                for number, look in zip(numbers, looks, strict=True):
                    samples.append(
                        Sample(
                            split,
                            number,
                            targets[number],
                            None if paths is None else paths[number],
                            None if isinstance(look, str) else look,
                            look if isinstance(look, str) else None,
                        )
                    )
                progress(len(numbers))
    return samples


def picture(dataset: Any, index: int) -> Image.Image:
    """Return an image of a data set, RGB or grey.

    Raises:
        ImageError: it cannot be read.
        UsageError: it has other than one or three channels.
    """
    if getattr(dataset, "images", None) is None:
        return open_image(dataset.paths[index])
    image: Tensor = dataset.images[index]
    if image.is_floating_point() and not image.isfinite().all():
        raise ImageError("holds values that are not finite")
    if image.shape[0] not in (1, 3):
        raise UsageError(f"images of {image.shape[0]} channels cannot be shown: 1 or 3 can")
    if image.is_floating_point():
        image = image.mul(255).round().byte()
    return Image.fromarray(image.permute(1, 2, 0).squeeze(2).numpy())


def _look_at(dataset: Any, index: int) -> Look | str:
    """Look at one image; return what is wrong with it if it cannot be read."""
    try:
        image = picture(dataset, index)
        images = getattr(dataset, "images", None)
        if images is not None:
            moments = _moments(images[index]) if images.is_floating_point() else None
            return _look(image, image.mode, False, moments)
        with Image.open(dataset.paths[index]) as file:
            return _look(image, file.mode, _is_turned(file))
    except ImageError as error:
        return str(error)


def _look(
    image: Image.Image,
    mode: str,
    turned: bool,
    moments: tuple[tuple[float, ...], tuple[float, ...]] | None = None,
) -> Look:
    digest = hashlib.blake2b(f"{image.size} {image.mode}".encode(), digest_size=16)
    digest.update(image.tobytes())
    small = image.convert("L").resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BILINEAR)
    mean, square = moments or _moments_of_histogram(image)
    return Look(image.size, mode, turned, digest.digest(), small.tobytes(), mean, square)


def _moments_of_histogram(image: Image.Image) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Exact, and quicker than going through the pixels in floating point."""
    counts = np.array(image.histogram(), dtype=np.float64).reshape(-1, 256)
    levels = np.arange(256) / 255
    shares = counts / counts.sum(1, keepdims=True)
    return tuple((shares @ levels).tolist()), tuple((shares @ levels**2).tolist())


def _moments(image: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    wide = image.double()
    return tuple(wide.mean((1, 2)).tolist()), tuple(wide.square().mean((1, 2)).tolist())


def _is_turned(file: Image.Image) -> bool:
    try:
        return bool(file.getexif().get(ExifTags.Base.Orientation, 1) != 1)
    except Exception:  # damaged metadata turn nothing
        return False


def readable(samples: Sequence[Sample]) -> Iterator[tuple[int, Look]]:
    """Yield the numbers and looks of the samples that can be read."""
    for number, sample in enumerate(samples):
        if sample.look is not None:
            yield number, sample.look
