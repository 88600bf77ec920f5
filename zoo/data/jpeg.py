"""Reading parts of image files for training: JPEG quickly, and no larger than needed."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import torch
from PIL import ExifTags, Image
from torch import Tensor
from torchvision.io import ImageReadMode, decode_jpeg

from zoo.data.images import open_image

Box = tuple[int, int, int, int]
"""Left, top, right, bottom, in pixels."""

Choose = Callable[[int, int], Box]
"""Says which part of an image of a width and height is wanted."""

# From this many pixels on libjpeg's decoding at a reduced scale is worth going through Pillow,
# which alone offers it. A half takes 0.8 of the time of the whole at 1000 x 750 pixels and 0.4 at
# 4000 x 3000, but 1.2 at 640 x 427.
LARGE = 2**19

_MODES = {1: ("L", ImageReadMode.GRAY), 3: ("RGB", ImageReadMode.RGB)}


def read_part(path: str, channels: int, size: tuple[int, int], choose: Choose) -> Tensor:
    """Read a part of an image file, uint8 ``(channels, h, w)``.

    Args:
        path: the file, in any format that Pillow reads.
        channels: 3 for RGB, 1 for grey.
        size: (height, width) that the part will be scaled to. It may come at a half, a quarter or
            an eighth of its scale, but never smaller than this for that reason.
        choose: says which part, once the size of the upright image is known.

    Raises:
        ImageError: the file cannot be read, or is damaged or cut short.
    """
    part = _read_jpeg(path, channels, size, choose)
    if part is None:
        whole = _pixels(open_image(path, channels))
        part = _cut(whole, choose(whole.shape[2], whole.shape[1]))
    return part


def _read_jpeg(path: str, channels: int, size: tuple[int, int], choose: Choose) -> Tensor | None:
    """Read an everyday JPEG; None of whatever :func:`open_image` has to look at."""
    mode, read_mode = _MODES[channels]
    try:
        with open(path, "rb") as file:
            data = file.read()
        image = Image.open(io.BytesIO(data))
        upright = image.getexif().get(ExifTags.Base.Orientation, 1) == 1
        if image.format != "JPEG" or image.mode not in ("L", "RGB") or not upright:
            return None
        width, height = image.size
        box = choose(width, height)
        scale = reduction(box, size) if width * height >= LARGE else 1
        if scale == 1:
            return _cut(
                decode_jpeg(torch.frombuffer(bytearray(data), dtype=torch.uint8), read_mode), box
            )
        image.draft(mode, (width // scale, height // scale))
        left, top, right, bottom = (round(edge / scale) for edge in box)
        return _cut(_pixels(image.convert(mode)), (left, top, right, bottom))
    except Exception:  # decoders raise nearly anything of a damaged file
        return None


def reduction(box: Box, size: tuple[int, int]) -> int:
    """Return 8, 4, 2 or 1: how much smaller the part can be and still have the size."""
    left, top, right, bottom = box
    height, width = size
    fits = (s for s in (8, 4, 2) if right - left >= s * width and bottom - top >= s * height)
    return next(fits, 1)


def _pixels(image: Image.Image) -> Tensor:
    pixels = torch.from_numpy(np.array(image))
    return pixels.unsqueeze(0) if pixels.ndim == 2 else pixels.permute(2, 0, 1)


def _cut(pixels: Tensor, box: Box) -> Tensor:
    left, top, right, bottom = box
    return pixels[:, top:bottom, left:right]
