"""Opening of image files as the 8-bit RGB or grey images that models are evaluated on."""

from __future__ import annotations

import warnings

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from zoo.names import one_line

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> what turns the image upright."""


class ImageError(Exception):
    """A file that is not a usable image; the message says why, without the file's name."""


def open_image(path: str, channels: int = 3) -> Image.Image:
    """Read an image upright, in 8 bits, without transparency.

    The EXIF orientation is applied; what is transparent shows white, as viewers have it; 16-bit
    grey is scaled to 8 bits; of an animation the first frame counts. Colour profiles are
    ignored, as in the evaluation of the models.

    Args:
        path: the file, in any format that Pillow reads.
        channels: 3 for RGB, 1 for grey.

    Raises:
        ImageError: the file cannot be read, is damaged or cut short, has pixels of no known
            range, or so many that Pillow takes it for a decompression bomb (over twice
            ``PIL.Image.MAX_IMAGE_PIXELS``, 179 million).
    """
    try:
        # By name Pillow maps some TIFFs into memory, and forgets to turn them.
        with open(path, "rb") as file, Image.open(file) as image:
            image.load()
            upright = _upright(image)
    except UnidentifiedImageError as error:
        raise ImageError("not an image, or damaged") from error
    except Image.DecompressionBombError as error:
        raise ImageError("too many pixels: possibly a decompression bomb") from error
    except OSError as error:
        raise ImageError(error.strerror or f"damaged: {one_line(error)}") from error
    except Exception as error:
        # A damaged file makes decoders raise nearly anything: struct.error, KeyError, ...
        raise ImageError(f"damaged: {type(error).__name__}: {one_line(error)}") from error
    return _flatten(upright).convert("L" if channels == 1 else "RGB")


def ignore_pillow_warnings() -> None:
    """Silence Pillow's warnings in this process from now on.

    It warns of odd metadata, and of large images at half the size that it refuses.
    ``warnings.catch_warnings`` would be no help to threads, which share the filters.
    """
    warnings.filterwarnings("ignore", module=r"PIL\.")


def _upright(image: Image.Image) -> Image.Image:
    """Turn an image as its EXIF orientation says.

    ``ImageOps.exif_transpose`` also rewrites the metadata, which fails where other entries in it
    are damaged.
    """
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:
        orientation = None  # pixels are shown as they lie, as viewers do
    return image.transpose(_TURNS[orientation]) if orientation in _TURNS else image.copy()


def _flatten(image: Image.Image) -> Image.Image:
    """Reduce depth to 8 bits and lay transparent images on white."""
    if image.mode.startswith("I"):
        wide = np.asarray(image).astype(np.int64)
        if wide.size and (wide.min() < 0 or wide.max() > 65535):
            raise ImageError(f"pixels of mode {image.mode} beyond 16 bits: convert it to 8 bits")
        return Image.fromarray(((wide * 255 + 32767) // 65535).astype(np.uint8))
    if image.mode == "F":
        raise ImageError("floating-point pixels have no agreed range: convert it to 8 bits")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image)
    return image
