"""Pictures of an evaluation as data URLs: thumbnails, and confusion matrices of many classes."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from zoo.data.images import ImageError, open_image

_THUMBNAIL = 192  # pixels of the longer side
_ORDERED = 2000  # most classes that are put in order
_MAP = 256  # most pixels of a heat map's side
_TINY = 64  # images up to this side are kept as they are, without loss


def thumbnail(dataset: Any, index: int) -> str | None:
    """An image of a data set; None where it cannot be read."""
    paths = getattr(dataset, "paths", None)
    if paths is None:
        image = _of_tensor(dataset.images[index])
    else:
        try:
            image = open_image(paths[index])
        except ImageError:
            return None
    if max(image.size) <= _TINY:
        return _url(image, "PNG")
    image.thumbnail((_THUMBNAIL, _THUMBNAIL))
    return _url(image, "JPEG", quality=85)


def map_step(classes: int) -> int:
    """How many classes a pixel of a heat map stands for, so that none is too small to be seen."""
    return -(-classes // _MAP)


def heat_map(confusion: Tensor, order: np.ndarray[Any, Any]) -> str:
    """A confusion matrix as pixels: right predictions blue, wrong ones red.

    Their opacity grows with their share of the class's images, by its square root, so that rare
    confusions show on any background. Of several classes in a pixel the largest share counts.

    Args:
        confusion: int64 ``(classes, classes)``. order: of the classes.
    """
    counts = confusion.numpy()[np.ix_(order, order)].astype(float)
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    step = map_step(len(counts))
    share = np.pad(share, (0, -len(counts) % step))
    blocks = len(share) // step
    right = np.diag(share).reshape(blocks, step).max(1)
    share = share.reshape(blocks, step, blocks, step).max((1, 3))
    np.fill_diagonal(share, right)
    pixels = np.empty((blocks, blocks, 4), np.uint8)
    pixels[..., :3] = (225, 65, 50)
    pixels[range(blocks), range(blocks), :3] = (45, 120, 220)
    # From a fifth on, where there is anything: less could not be seen.
    pixels[..., 3] = np.round(255 * np.where(share > 0, 0.2 + 0.8 * np.sqrt(share), 0))
    return _url(Image.fromarray(pixels, "RGBA"), "PNG")


def similarity_order(confusion: Tensor) -> np.ndarray[Any, Any]:
    """An order in which classes that are taken for each other are near: along a Fiedler vector.

    Of thousands of classes, which would take minutes, it is theirs.
    """
    if len(confusion) > _ORDERED:
        return np.arange(len(confusion))
    counts = confusion.numpy().astype(float)
    np.fill_diagonal(counts, 0)
    # Each pair a little, so that the classes hang together.
    weights = counts + counts.T + 1e-3 / len(counts)
    np.fill_diagonal(weights, 0)
    scale = 1 / np.sqrt(weights.sum(1))
    _, vectors = np.linalg.eigh(np.eye(len(counts)) - scale[:, None] * weights * scale)
    order: np.ndarray[Any, Any] = np.argsort(scale * vectors[:, 1], kind="stable")
    return order


def _of_tensor(image: Tensor) -> Image.Image:
    """``(C, H, W)``, uint8 or float in [0, 1]."""
    if image.is_floating_point():
        image = image.mul(255).round().clamp(0, 255).byte()
    array = image.permute(1, 2, 0).numpy()
    return Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)


def _url(image: Image.Image, kind: str, **options: Any) -> str:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    data = base64.b64encode(stream.getvalue()).decode()
    return f"data:image/{kind.lower()};base64,{data}"
