"""Opening of images in every mode, and of files that are none."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from zoo.data.images import ImageError, open_image


def _gradient() -> Image.Image:
    ramp = np.linspace(0, 255, 64 * 48).reshape(48, 64)
    return Image.fromarray(np.stack([ramp, ramp[::-1], ramp[:, ::-1]], -1).astype(np.uint8))


def _pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    upright = _gradient()
    methods = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(methods[orientation]) if orientation in methods else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "photo.png"
    stored.save(path, exif=exif)
    assert np.array_equal(_pixels(open_image(str(path))), _pixels(upright))


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_exif_orientation_of_plain_tiffs(tmp_path: Path, mode: str) -> None:
    """Pillow turns TIFFs itself, but for uncompressed ones that it maps into memory."""
    upright = _gradient().convert(mode)
    exif = Image.Exif()
    exif[0x0112] = 6
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "photo.tif", exif=exif)
    shown = open_image(str(tmp_path / "photo.tif"))
    assert np.array_equal(_pixels(shown), _pixels(upright.convert("RGB")))


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [("L", "png"), ("1", "png"), ("P", "png"), ("P", "gif"), ("CMYK", "jpg"), ("CMYK", "tif"),
     ("LA", "png"), ("RGBA", "png"), ("RGBA", "webp"), ("YCbCr", "jpg")],
)  # fmt: skip
@pytest.mark.parametrize("channels", [1, 3])
def test_every_mode_comes_out_as_rgb_or_grey(
    tmp_path: Path, mode: str, suffix: str, channels: int
) -> None:
    path = tmp_path / f"image.{suffix}"
    source = _gradient().convert(mode)
    source.save(path)
    image = open_image(str(path), channels)
    assert image.mode == ("RGB" if channels == 3 else "L")
    assert image.size == source.size
    expected = _pixels(source.convert("RGB").convert(image.mode))
    assert np.abs(_pixels(image) - expected).mean() < 6  # lossy formats


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bit_grey_is_scaled(tmp_path: Path, suffix: str) -> None:
    wide = np.linspace(0, 65535, 64 * 48).reshape(48, 64).astype(np.uint16)
    path = tmp_path / f"grey16.{suffix}"
    Image.fromarray(wide).save(path)
    assert np.array_equal(_pixels(open_image(str(path), 1)), np.rint(wide / 257).astype(int))


def test_what_is_transparent_shows_white(tmp_path: Path) -> None:
    pixels = np.zeros((4, 4, 4), np.uint8)
    pixels[:2, :, 3] = 255
    path = tmp_path / "logo.png"
    Image.fromarray(pixels).save(path)
    shown = _pixels(open_image(str(path)))
    assert (shown[:2] == 0).all()
    assert (shown[2:] == 255).all()


def test_transparent_palette_shows_white(tmp_path: Path) -> None:
    path = tmp_path / "logo.gif"
    image = Image.new("P", (4, 4), 0)
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((0, 0), 1)
    image.save(path, transparency=0)
    shown = _pixels(open_image(str(path)))
    assert shown[0, 0].tolist() == [200, 100, 50]
    assert shown[1, 1].tolist() == [255, 255, 255]


def test_first_frame_of_an_animation(tmp_path: Path) -> None:
    path = tmp_path / "moving.gif"
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    assert open_image(str(path)).getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones((4, 4), np.float32), "floating-point"),
        (np.full((4, 4), 70000, np.int32), "16 bits"),
    ],
)
def test_pixels_without_agreed_range_are_refused(
    tmp_path: Path, array: np.ndarray, message: str
) -> None:
    path = tmp_path / "image.tif"
    Image.fromarray(array).save(path)
    with pytest.raises(ImageError, match=message):
        open_image(str(path))


def test_damaged_and_missing_files(tmp_path: Path) -> None:
    stream = io.BytesIO()
    _gradient().save(stream, "JPEG")
    whole = stream.getvalue()
    contents = {
        "text.jpg": b"hello",
        "empty.jpg": b"",
        "cut.jpg": whole[: len(whole) // 2],
        "head.jpg": whole[:20],
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ImageError):
            open_image(str(tmp_path / name))
    with pytest.raises(ImageError, match="No such file"):
        open_image(str(tmp_path / "missing.jpg"))


def test_decompression_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bomb.png"
    Image.new("L", (64, 64)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ImageError, match="bomb"):
        open_image(str(path))


def _encoded(kind: str) -> bytes:
    stream = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "described"
    image = _gradient().resize((24, 18))
    image.save(stream, kind, **({} if kind in ("GIF", "BMP", "PPM") else {"exif": exif}))
    return stream.getvalue()


WHOLE = {kind: _encoded(kind) for kind in ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM")}


@pytest.mark.filterwarnings("ignore")  # Pillow's, about damaged metadata
@given(
    kind=st.sampled_from(sorted(WHOLE)),
    changes=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=6),
    cut=st.integers(0, 2000) | st.none(),
)
@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_damaged_files_are_images_or_image_errors(
    tmp_path_factory: pytest.TempPathFactory,
    kind: str,
    changes: list[tuple[int, int]],
    cut: int | None,
) -> None:
    content = bytearray(WHOLE[kind])
    for position, value in changes:
        content[position % len(content)] = value
    path = tmp_path_factory.getbasetemp() / "damaged.img"
    path.write_bytes(content[:cut])
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000_000)  # headers may claim gigabytes
            image = open_image(str(path))
    except ImageError as error:
        assert "\n" not in str(error)  # noqa: PT017
        assert str(error)  # noqa: PT017
    else:
        assert image.mode == "RGB"


def _with_orientation(kind: str) -> bytes:
    stream = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x011A] = 72.0  # resolution, a fraction
    _gradient().save(stream, kind, exif=exif)
    return stream.getvalue()


def test_damaged_metadata_leaves_the_pixels(tmp_path: Path) -> None:
    path = tmp_path / "photo.webp"
    path.write_bytes(_with_orientation("WEBP").replace(b"MM\0*", b"MM\1*"))
    assert open_image(str(path)).size == (64, 48)


def test_orientation_counts_although_other_metadata_is_damaged(tmp_path: Path) -> None:
    content = _with_orientation("JPEG")
    entry = content.index(bytes([0x01, 0x1A, 0x00, 0x05]))
    damaged = content[:entry] + bytes([0x01, 0x1A, 0x00, 0x02]) + content[entry + 4 :]
    path = tmp_path / "photo.jpg"
    path.write_bytes(damaged)
    with Image.open(path) as image, pytest.raises((TypeError, AttributeError, struct.error)):
        ImageOps.exif_transpose(image)
    assert open_image(str(path)).size == (48, 64)
