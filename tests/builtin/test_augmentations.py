"""The plugin ``zoo``'s augmentations."""

from __future__ import annotations

import pytest
import torch
from torchvision.transforms.v2.functional import to_pil_image

import zoo

NAMES = ("random_crop", "horizontal_flip", "rotation", "color_jitter")
each_augmentation = pytest.mark.parametrize("name", NAMES)


def create(name: str, seed: int | None = None, **kwargs):
    if seed is not None:
        kwargs["generator"] = torch.Generator().manual_seed(seed)
    return zoo.create_augmentation(f"zoo/{name}", **kwargs)


def image(dtype: torch.dtype, channels: int = 3) -> torch.Tensor:
    pixels = torch.randint(256, (channels, 32, 32), dtype=torch.uint8)
    return pixels if dtype == torch.uint8 else pixels.to(dtype) / 255


@each_augmentation
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("channels", [1, 3])
def test_shape_dtype_and_range_stay(name, dtype, channels) -> None:
    augmentation, given = create(name), image(dtype, channels)
    before = given.clone()
    for _ in range(20):
        result = augmentation(given)
        assert result.shape == given.shape
        assert result.dtype == dtype
        assert result.min() >= 0
        assert result.max() <= (255 if dtype == torch.uint8 else 1)
    assert torch.equal(given, before)


@each_augmentation
def test_a_generator_decides(name) -> None:
    given = image(torch.uint8)
    first, second = create(name, seed=1), create(name, seed=1)
    results = [first(given) for _ in range(20)]
    torch.manual_seed(5)
    for result in results:
        torch.rand(3)  # the global generator has no say
        assert torch.equal(second(given), result)
    assert any(not torch.equal(results[0], result) for result in results[1:])
    other = create(name, seed=2)
    assert any(not torch.equal(other(given), result) for result in results)


@each_augmentation
def test_the_global_generator_is_left_alone(name) -> None:
    augmentation, given = create(name, seed=1), image(torch.uint8)
    torch.manual_seed(5)
    expected = torch.rand(4)
    torch.manual_seed(5)
    augmentation(given)
    assert torch.equal(torch.rand(4), expected)


@each_augmentation
def test_pil_images_stay_pil_images(name) -> None:
    result = create(name)(to_pil_image(image(torch.uint8)))
    assert result.size == (32, 32)
    assert result.mode == "RGB"


def test_flip_is_a_mirror_image() -> None:
    given = image(torch.uint8)
    assert torch.equal(create("horizontal_flip", p=1)(given), given.flip(-1))
    assert torch.equal(create("horizontal_flip", p=0)(given), given)


def test_crop_is_a_window_of_the_padded_image() -> None:
    given = image(torch.uint8)
    padded = torch.nn.functional.pad(given, (4, 4, 4, 4))
    windows = padded.unfold(1, 32, 1).unfold(2, 32, 1).permute(1, 2, 0, 3, 4).reshape(-1, 3, 32, 32)
    crop = create("random_crop", seed=0)
    for _ in range(20):
        assert (windows == crop(given)).flatten(1).all(1).any()


def test_rotation_by_a_fixed_angle() -> None:
    given = image(torch.float32)
    turned = create("rotation", degrees=(90, 90), interpolation="nearest")(given)
    assert torch.equal(turned, given.rot90(1, (1, 2)))
