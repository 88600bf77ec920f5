"""Batches of image files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms.v2 import functional as F

from zoo.data.cropping import RandomResizedCrop
from zoo.data.images import ImageError, open_image
from zoo.data.jpeg import read_part
from zoo.data.loader import Loader
from zoo.data.pipeline import eval_transform, train_transform
from zoo.data.transforms import EvalTransform
from zoo.errors import UsageError, ZooError

SIZE = (3, 32, 32)
PLAIN: dict[str, Any] = {"mean": (0, 0, 0), "std": (1, 1, 1)}


def picture(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """Smooth, so that decoders and scalings of one image stay near each other."""
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / width * 9 + i) * np.cos(y / height * 7 - i) for i in range(3)]
    pixels = (127.5 + 127.5 * np.stack(waves, -1)).astype(np.uint8)
    return Image.fromarray(pixels).convert(mode)


class Files(torch.utils.data.Dataset):
    classes = ("a", "b")

    def __init__(self, paths: list[Path]) -> None:
        self.paths = [str(path) for path in paths]
        self.targets = torch.arange(len(paths)) % 2

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return open_image(self.paths[index]), int(self.targets[index])


@pytest.fixture
def odd_files(tmp_path: Path) -> list[Path]:
    """What comes along besides plain JPEG."""
    turned = Image.Exif()
    turned[0x0112] = 6
    saved = {
        "grey.jpg": picture(90, 60, "L"),
        "cmyk.jpg": picture(90, 60, "CMYK"),
        "alpha.png": picture(90, 60, "RGBA"),
        "palette.gif": picture(90, 60).quantize(16),
        "tiny.jpg": picture(1, 1),
        "thin.jpg": picture(300, 2),
    }
    for name, image in saved.items():
        image.save(tmp_path / name)
    picture(90, 60).save(tmp_path / "turned.jpg", exif=turned)
    return [tmp_path / name for name in (*saved, "turned.jpg")]


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{number}.jpg" for number in range(12)]
    for number, path in enumerate(paths):
        picture(100 + 5 * number, 90).save(path, quality=95)
    return paths


@pytest.mark.parametrize("channels", [1, 3])
def test_a_part_is_that_of_the_opened_image(odd_files, photos, channels) -> None:
    for path in odd_files + photos[:2]:
        whole = torch.from_numpy(np.array(open_image(str(path), channels)))
        whole = whole.permute(2, 0, 1) if channels == 3 else whole[None]
        seen = []

        def choose(width: int, height: int, seen=seen) -> tuple[int, int, int, int]:
            seen.append((width, height))
            return width // 3, height // 4, width, max(1, height // 2)

        part = read_part(str(path), channels, (8, 8), choose)
        height, width = whole.shape[1:]
        assert set(seen) == {(width, height)}
        left, top, right, bottom = choose(width, height)
        expected = whole[:, top:bottom, left:right]
        if path.suffix == ".jpg" and path.stem not in ("cmyk", "turned"):
            # Decoders may round differently, and grey may come from luma or from colours.
            torch.testing.assert_close(part, expected, rtol=0, atol=3)
        else:
            assert torch.equal(part, expected)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("side", "scale"), [(700, 1), (500, 2), (200, 4), (100, 8), (20, 8)])
def test_large_photographs_are_decoded_at_a_reduced_scale(tmp_path, channels, side, scale) -> None:
    path = str(tmp_path / "large.jpg")
    picture(1501, 1003).save(path, quality=95)
    box = (200, 3, 1201, 1003)
    part = read_part(path, channels, (side, side), lambda width, height: box)
    assert part.shape == (channels, *(round((b - a) / scale) for a, b in ((3, 1003), (200, 1201))))
    # It begins and ends with a pixel of the reduced scale.
    left, top, right, bottom = (scale * round(edge / scale) for edge in box)
    whole = F.pil_to_tensor(open_image(path, channels))[:, top:bottom, left:right]
    expected = F.resize(whole, list(part.shape[1:]), antialias=True)
    torch.testing.assert_close(part[:, 1:-1, 1:-1], expected[:, 1:-1, 1:-1], rtol=0, atol=5)


def test_training_images_are_torchvisions_resized_crops(photos) -> None:
    crop = RandomResizedCrop(SIZE)
    transform = train_transform(SIZE, hflip=0, **PLAIN)
    seen: dict[int, tuple[int, int, int, int]] = {}

    class Recording(RandomResizedCrop):
        def box(self, width: int, height: int, key: int) -> tuple[int, int, int, int]:
            seen[key] = super().box(width, height, key)
            return seen[key]

    object.__setattr__(transform, "fit", Recording(SIZE))
    (batch,) = Loader(Files(photos), 12, transform=transform)
    assert len(seen) == 12
    for key, image, path in zip(seen, batch.images, photos, strict=True):
        whole = F.pil_to_tensor(open_image(str(path)))
        left, top, right, bottom = crop.box(whole.shape[2], whole.shape[1], key)
        expected = F.resized_crop(
            whole, top, left, bottom - top, right - left, [32, 32], antialias=True
        )
        torch.testing.assert_close(image * 255, expected.float(), rtol=0, atol=4)


@given(
    width=st.integers(1, 400),
    height=st.integers(1, 400),
    key=st.integers(-(2**63), 2**63 - 1),
    low=st.floats(0.01, 1),
    ratio=st.sampled_from([(3 / 4, 4 / 3), (1.0, 1.0), (2.0, 3.0)]),
)
def test_boxes_lie_within_the_image(width, height, key, low, ratio) -> None:
    crop = RandomResizedCrop(SIZE, (low, 1.0), ratio)
    left, top, right, bottom = crop.box(width, height, key)
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    assert crop.box(width, height, key) == (left, top, right, bottom)


def test_areas_and_shapes_of_boxes_are_those_asked_for() -> None:
    crop = RandomResizedCrop(SIZE, (0.1, 0.5), (0.5, 2.0))
    boxes = torch.tensor([crop.box(1000, 1000, 977 * key) for key in range(3000)]).double()
    left, top, right, bottom = boxes.unbind(1)
    area, shape = (right - left) * (bottom - top) / 1e6, torch.log2((right - left) / (bottom - top))
    for values, low, high in ((area, 0.1, 0.5), (shape, -1.0, 1.0)):
        assert low - 0.01 < values.min() < low + 0.01
        assert high - 0.01 < values.max() < high + 0.01
        assert float(values.mean()) == pytest.approx((low + high) / 2, abs=0.02 * (high - low))
    middle = ((left + right).mean() / 2, (top + bottom).mean() / 2)
    assert float(middle[0]) == pytest.approx(500, abs=10)
    assert float(middle[1]) == pytest.approx(500, abs=10)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("crop_mode", ["center", "squash", "border"])
def test_evaluation_equals_the_evaluation_of_one_image(odd_files, photos, workers, crop_mode):
    config = {"input_size": SIZE, "crop_pct": 0.9, "crop_mode": crop_mode, "resize_size": None}
    reference = EvalTransform.from_config(config)
    files = [path for path in odd_files + photos if path.stem != "thin"]
    for batch in Loader(Files(files), 4, transform=eval_transform(**config), workers=workers):
        for image, index in zip(batch.images, batch.indices, strict=True):
            assert torch.equal(image, reference(open_image(str(files[index]))))


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
def test_every_interpolation_and_odd_file_trains(odd_files, interpolation) -> None:
    for size in (SIZE, (1, 16, 24)):
        transform = train_transform(size, interpolation=interpolation)
        (batch,) = Loader(Files(odd_files), 16, transform=transform)
        assert batch.images.shape == (len(odd_files), *size)
        assert batch.images.isfinite().all()


def damage(paths: list[Path]) -> list[Path]:
    """Damage three files, each in its way, and name them."""
    paths[1].write_bytes(paths[1].read_bytes()[:300])
    paths[4].write_text("no image")
    paths[7].unlink()
    return [paths[1], paths[4], paths[7]]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("train", [False, True])
def test_unreadable_files_are_skipped_and_named_once(photos, capsys, workers, train) -> None:
    bad = damage(photos)
    transform = train_transform(SIZE) if train else eval_transform(SIZE)
    loader = Loader(Files(photos), 5, transform=transform, workers=workers, on_error="skip")
    for _ in range(2):
        batches = list(loader)
        assert [len(batch.images) for batch in batches] == [3, 4, 2]
        indices = torch.cat([batch.indices for batch in batches])
        assert indices.tolist() == [0, 2, 3, 5, 6, 8, 9, 10, 11]
        assert torch.cat([batch.targets for batch in batches]).tolist() == (indices % 2).tolist()
    assert set(loader.skipped) == {1, 4, 7}
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    for path, line in zip(bad, lines, strict=True):
        assert line.startswith(f"zoo: {path}: ")
        assert line.endswith("; left out")


def test_the_others_are_as_without_the_unreadable_ones(photos) -> None:
    transform = train_transform(SIZE, color_jitter=0.3)
    (whole,) = Loader(Files(photos), 12, transform=transform)
    damage(photos)
    (rest,) = Loader(Files(photos), 12, transform=transform, on_error="skip")
    torch.testing.assert_close(rest.images, whole.images[rest.indices])


def test_a_batch_may_have_nothing_left(photos) -> None:
    for path in photos:
        path.write_bytes(b"")
    transform = train_transform(SIZE, mixup=1.0, num_classes=2, reprob=1.0)
    batches = list(Loader(Files(photos), 8, transform=transform, on_error="skip"))
    assert [tuple(batch.images.shape) for batch in batches] == [(0, *SIZE)] * 2
    assert [tuple(batch.targets.shape) for batch in batches] == [(0, 2)] * 2


@pytest.mark.parametrize("workers", [0, 2])
def test_unreadable_files_are_fatal_unless_told_otherwise(photos, workers) -> None:
    damage(photos)
    loader = Loader(Files(photos), 4, transform=train_transform(SIZE), workers=workers)
    with pytest.raises(ZooError, match=rf"^{photos[1]}: .*; mend or remove it") as caught:
        list(loader)
    assert "\n" not in str(caught.value)


def test_a_thin_image_that_would_become_gigabytes(tmp_path) -> None:
    picture(60_000, 1).save(tmp_path / "thin.png")
    loader = Loader(Files([tmp_path / "thin.png"]), 1, transform=eval_transform((3, 512, 512)))
    with pytest.raises(ZooError, match="too thin"):
        list(loader)
    with pytest.raises(ImageError, match="No such file"):
        read_part(str(tmp_path / "none.jpg"), 3, (8, 8), lambda width, height: (0, 0, 1, 1))


def test_unknown_interpolation() -> None:
    with pytest.raises(UsageError, match="interpolation 'cubic' is not one of nearest, bilinear"):
        train_transform(SIZE, interpolation="cubic")


@settings(deadline=None, max_examples=30)
@given(width=st.integers(1, 60), height=st.integers(1, 60), dtype=st.sampled_from(["u", "f"]))
def test_images_in_memory_of_another_size(width, height, dtype) -> None:
    assume((height, width) != SIZE[1:])
    pixels = F.pil_to_tensor(picture(width, height))[None]
    data = Files([])
    del data.paths
    data.images = pixels if dtype == "u" else pixels.float() / 255
    data.targets = torch.zeros(1, dtype=torch.int64)
    (trained,) = Loader(data, 1, transform=train_transform(SIZE, **PLAIN))
    (evaluated,) = Loader(data, 1, transform=eval_transform(SIZE, **PLAIN))
    for batch in (trained, evaluated):
        assert batch.images.shape == (1, *SIZE)
        assert 0 <= batch.images.min() <= batch.images.max() <= 1
    reference = EvalTransform.from_config({"input_size": SIZE, **PLAIN})
    assert torch.equal(evaluated.images[0], reference(picture(width, height)))
