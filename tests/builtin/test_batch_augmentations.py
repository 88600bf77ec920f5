"""The plugin ``zoo``'s augmentations of batches."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional as F

import zoo
from zoo.data.randomness import sample_keys, uniform

MOVING = ("batch_crop", "batch_flip", "cutout", "erasing")
UNCHANGED = (*MOVING, "batch_rotation", "batch_color_jitter")
MIXES = ("mixup", "cutmix", "mixup_cutmix")
CLASSES = 5


def create(name: str, **arguments: Any):
    return zoo.create_augmentation(f"zoo/{name}", **arguments)


def keys(samples: int, seed: int = 0) -> torch.Tensor:
    return sample_keys(seed, 0, torch.arange(samples))


def batch(samples: int, channels: int = 3, height: int = 32, width: int = 32, dtype=torch.uint8):
    generator = torch.Generator().manual_seed(samples)
    shape = (samples, channels, height, width)
    pixels = torch.randint(256, shape, generator=generator, dtype=torch.uint8)
    return pixels if dtype == torch.uint8 else pixels.to(dtype) / 255


def soft_targets(samples: int) -> torch.Tensor:
    return torch.eye(CLASSES)[torch.arange(samples) % CLASSES]


def call(name: str, augmentation, images: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    if name in MIXES:
        return augmentation(images, soft_targets(len(images)), keys=keys)[0]
    return augmentation(images, keys=keys)


@pytest.mark.parametrize("name", UNCHANGED + MIXES)
@given(
    samples=st.integers(1, 9),
    channels=st.sampled_from([1, 2, 3]),
    height=st.integers(1, 20),
    width=st.integers(1, 20),
    dtype=st.sampled_from([torch.uint8, torch.float32]),
    seed=st.integers(0, 2**62),
)
@settings(max_examples=25, deadline=None)
def test_shape_dtype_and_range(name, samples, channels, height, width, dtype, seed) -> None:
    images = batch(samples, channels, height, width, dtype)
    before = images.clone()
    result = call(name, create(name), images, keys(samples, seed))
    assert result.shape == images.shape
    assert result.dtype == (dtype if name in MOVING else torch.float32)
    assert result.min() >= 0
    assert result.max() <= (1 if result.is_floating_point() else 255)
    assert torch.equal(images, before)


@pytest.mark.parametrize("name", UNCHANGED)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_an_image_depends_on_its_own_key_alone(name, dtype) -> None:
    images, all_keys = batch(16, dtype=dtype), keys(16)
    augmentation = create(name)
    together = augmentation(images, keys=all_keys)
    some = torch.tensor([11, 3])
    torch.testing.assert_close(augmentation(images[some], keys=all_keys[some]), together[some])
    assert not torch.equal(augmentation(images, keys=keys(16, seed=1)), together)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_crops_are_those_of_torchvision_at_the_drawn_places(dtype) -> None:
    images, all_keys = batch(64, dtype=dtype), keys(64)
    for size in ((32, 32), (20, 28)):
        result = create("batch_crop", padding=4, size=size)(images, keys=all_keys)
        tops, lefts = uniform(all_keys, 2)
        places = set()
        for image, out, down, right in zip(images, result, tops, lefts, strict=True):
            top, left = int(down * (41 - size[0])), int(right * (41 - size[1]))
            places.add((top, left))
            assert torch.equal(out, F.crop(F.pad(image, [4]), top, left, *size))
        assert len(places) > 30


def test_all_places_are_as_likely() -> None:
    pixel = torch.zeros(9000, 1, 3, 3, dtype=torch.uint8)
    pixel[:, 0, 1, 1] = 1
    counts = create("batch_crop", padding=1)(pixel, keys=keys(9000)).sum(0)[0]
    assert counts.sum() == 9000
    assert (counts - 1000).abs().max() < 150


def test_padding_is_filled() -> None:
    white = create("batch_crop", padding=4, fill=1.0)
    assert (white(torch.full((8, 3, 8, 8), 255, dtype=torch.uint8), keys=keys(8)) == 255).all()
    assert (white(torch.ones(8, 3, 8, 8), keys=keys(8)) == 1).all()


def test_a_window_that_does_not_fit() -> None:
    with pytest.raises(zoo.UsageError, match="8x8 pixels padded by 1 hold no window of 11x8"):
        create("batch_crop", padding=1, size=(11, 8))(batch(1, 3, 8, 8), keys=keys(1))


def test_half_of_the_images_are_flipped() -> None:
    images = batch(4000, 1, 2, 5)
    flipped = images.flip(-1)
    result = create("batch_flip")(images, keys=keys(4000))
    is_flipped = (result == flipped).flatten(1).all(1)
    assert ((result == images).flatten(1).all(1) | is_flipped).all()
    assert 0.46 < is_flipped.float().mean() < 0.54
    assert torch.equal(create("batch_flip", p=1.0)(images, keys=keys(4000)), flipped)
    assert torch.equal(create("batch_flip", p=0.0)(images, keys=keys(4000)), images)


@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
@pytest.mark.parametrize("size", [(32, 32), (17, 40)])
def test_rotations_are_those_of_torchvision(interpolation, size) -> None:
    images, all_keys = batch(16, 3, *size, dtype=torch.float32), keys(16)
    rotate = create("batch_rotation", degrees=40, interpolation=interpolation)
    result = rotate(images, keys=all_keys)
    angles = (80 * uniform(all_keys, 1)[0] - 40).tolist()
    mode = F.InterpolationMode(interpolation)
    for image, out, angle in zip(images, result, angles, strict=True):
        expected = F.rotate(image, angle, mode)
        # Where a place lies between pixels to within rounding, nearest is either.
        assert ((out - expected).abs() < 1e-4).float().mean() > 0.995


def test_corners_are_filled() -> None:
    rotate = create("batch_rotation", degrees=(45, 45), fill=0.25)
    turned = rotate(torch.ones(1, 1, 20, 20), keys=keys(1))[0, 0]
    assert float(turned[0, 0]) == 0.25
    assert float(turned[10, 10]) == 1
    assert 0.25 <= turned.min() < turned.max() <= 1
    even = rotate(torch.full((1, 1, 20, 20), 0.25), keys=keys(1))
    assert (even == 0.25).all()


def test_a_quarter_turn() -> None:
    images = batch(3, dtype=torch.float32)
    turned = create("batch_rotation", degrees=(90, 90))(images, keys=keys(3))
    torch.testing.assert_close(turned, images.rot90(1, (2, 3)), rtol=0, atol=1e-5)


OFF = {"brightness": 0, "contrast": 0, "saturation": 0}


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("channels", [1, 3])
def test_factors_mean_what_they_mean_in_torchvision(number, channels) -> None:
    name = list(OFF)[number]
    images, all_keys = batch(16, channels, dtype=torch.float32), keys(16)
    result = create("batch_color_jitter", **OFF | {name: 0.6})(images, keys=all_keys)
    factors = (0.4 + 1.2 * uniform(all_keys, 4)[number]).tolist()
    adjust = getattr(F, f"adjust_{name}")
    # torchvision's weights of a grey add up to 0.9999.
    expected = torch.stack([adjust(image, f) for image, f in zip(images, factors, strict=True)])
    torch.testing.assert_close(result, expected, rtol=0, atol=2e-4)


def test_factors_follow_each_other_as_in_torchvision_where_nothing_is_clamped() -> None:
    images, all_keys = 0.4 + 0.2 * batch(16, dtype=torch.float32), keys(16)
    jitter = create("batch_color_jitter", brightness=0.2, contrast=0.2, saturation=0.2)
    factors = (0.8 + 0.4 * uniform(all_keys, 4)[:3]).tolist()
    expected = []
    for image, brightness, contrast, saturation in zip(images, *factors, strict=True):
        changed = F.adjust_brightness(F.adjust_saturation(image, saturation), brightness)
        expected.append(F.adjust_contrast(changed, contrast))
    result = jitter(images, keys=all_keys)
    torch.testing.assert_close(result, torch.stack(expected), rtol=0, atol=2e-4)
    as_bytes = (255 * images).round().to(torch.uint8)
    torch.testing.assert_close(jitter(as_bytes, keys=all_keys), result, rtol=0, atol=4e-3)


def test_hue_turns_colours_and_leaves_greys() -> None:
    third = {**OFF, "hue": (1 / 3, 1 / 3)}
    primary = torch.eye(3).view(3, 3, 1, 1) * 0.3 + 0.3
    turned = create("batch_color_jitter", **third)(primary, keys=keys(3))
    # Red becomes green, green blue, and blue red.
    assert turned.flatten(1).argmax(1).tolist() == [1, 2, 0]
    grey = torch.full((1, 3, 2, 2), 0.6)
    changed = create("batch_color_jitter", **third)(grey, keys=keys(1))
    torch.testing.assert_close(changed, grey, rtol=0, atol=1e-3)
    circle = create("batch_color_jitter", **{**OFF, "hue": (1.0, 1.0)})
    images = batch(4, dtype=torch.float32)
    torch.testing.assert_close(circle(images, keys=keys(4)), images, rtol=0, atol=1e-5)


def test_cutout_blanks_squares() -> None:
    images = torch.full((500, 3, 32, 32), 7, dtype=torch.uint8)
    cut = create("cutout", size=8, fill=(1.0, 0.0, 0.0))(images, keys=keys(500))
    blank = (cut != 7).any(1)
    assert torch.equal(cut[:, 0], torch.where(blank, 255, 7).to(torch.uint8))
    assert torch.equal(cut[:, 1], torch.where(blank, 0, 7).to(torch.uint8))
    rows, columns = blank.any(2).sum(1), blank.any(1).sum(1)
    assert torch.equal(blank.sum((1, 2)), rows * columns)
    assert int(rows.max()) == int(columns.max()) == 8
    assert int(rows.min()) >= 4
    whole = create("cutout", p=0.0)(images, keys=keys(500))
    assert torch.equal(whole, images)


@pytest.mark.parametrize("mode", ["pixel", "rand", "const"])
def test_erasing(mode) -> None:
    images = torch.full((2000, 3, 40, 30), 3, dtype=torch.uint8)
    mean, std = (0.6, 0.5, 0.4), (0.1, 0.1, 0.1)
    erase = create("erasing", p=0.5, mode=mode, mean=mean, std=std)
    result = erase(images, keys=keys(2000))
    erased = (result != 3).any(1)
    some = erased.flatten(1).any(1)
    assert 0.45 < some.float().mean() < 0.55
    area = erased.sum((1, 2))[some] / 1200
    assert 0.01 < area.min() < 0.04
    assert 0.28 < area.max() < 0.36
    assert float(area.mean()) == pytest.approx((0.02 + 1 / 3) / 2, abs=0.02)
    rows, columns = erased.any(2).sum(1), erased.any(1).sum(1)
    assert (erased.sum((1, 2)) >= 0.95 * rows * columns).all()
    shape = torch.log(rows[some] / columns[some])
    assert float(shape.mean()) == pytest.approx(0, abs=0.1)
    colours = result.permute(0, 2, 3, 1)[erased] / 255
    torch.testing.assert_close(colours.mean(0), torch.tensor(mean), rtol=0, atol=0.02)
    spread = 0.0 if mode == "const" else 0.1
    torch.testing.assert_close(colours.std(0), torch.full((3,), spread), rtol=0, atol=0.02)
    first = int(some.nonzero()[0])
    distinct = len(result[first].permute(1, 2, 0)[erased[first]].unique(dim=0))
    assert (distinct > 1) == (mode == "pixel")


def test_several_rectangles_share_the_area() -> None:
    images = torch.full((500, 1, 64, 64), 1.0)
    erase = create("erasing", p=1.0, count=3, mode="const", mean=(0.0,), scale=(0.3, 0.3))
    area = (erase(images, keys=keys(500)) == 0).float().mean((1, 2, 3))
    assert float(area.max()) == pytest.approx(0.3, abs=0.02)
    with pytest.raises(zoo.UsageError, match="mode 'noise' is not one of pixel, rand, const"):
        create("erasing", mode="noise")


@pytest.mark.parametrize("name", MIXES)
@given(samples=st.integers(1, 17), seed=st.integers(0, 2**62), alpha=st.floats(0.05, 5))
@settings(max_examples=25, deadline=None)
def test_images_and_targets_are_mixed_alike(name, samples, seed, alpha) -> None:
    """An image that is its class's number shows its own target."""
    alphas = ("mixup_alpha", "cutmix_alpha") if name == "mixup_cutmix" else ("alpha",)
    mix = create(name, **dict.fromkeys(alphas, alpha))
    targets = torch.eye(samples)
    images = targets.view(samples, samples, 1, 1).expand(-1, -1, 24, 24).contiguous()
    mixed, soft = mix(images, targets, keys=keys(samples, seed))
    torch.testing.assert_close(soft.sum(1), torch.ones(samples))
    torch.testing.assert_close(mixed.mean((2, 3)), soft, rtol=0, atol=1e-5)
    partners = torch.arange(samples) ^ 1
    if samples % 2:
        partners[-1] = samples - 1
        torch.testing.assert_close(mixed[-1], images[-1])
    outside = soft.clone()
    rows = torch.arange(samples)
    outside[rows, rows] = outside[rows, partners] = 0
    assert (outside == 0).all()
    if name == "cutmix":
        assert ((mixed == 0) | (mixed == 1)).all()


def test_probabilities_of_mixing() -> None:
    images, targets = torch.rand(4000, 1, 6, 6), torch.eye(2).repeat(2000, 1)
    mix = create("mixup_cutmix", mixup_alpha=1.0, cutmix_alpha=1.0, prob=0.6, switch_prob=0.25)
    mixed, soft = mix(images, targets, keys=keys(4000))
    same = (mixed == images).flatten(1)
    by_mixup = ~same.any(1)
    assert float(by_mixup.float().mean()) == pytest.approx(0.6 * 0.75, abs=0.03)
    # CutMix leaves an image whole where its rectangle has no pixels.
    assert 0.4 - 0.03 < float(same.all(1).float().mean()) < 0.4 + 0.6 * 0.25
    weights = soft[by_mixup, 0]
    assert float(weights.var()) == pytest.approx(1 / 12, abs=0.01)
    assert float(weights.mean()) == pytest.approx(0.5, abs=0.02)


def test_mixing_needs_an_alpha() -> None:
    for name, arguments in (
        ("mixup", {"alpha": 0}),
        ("mixup_cutmix", {"mixup_alpha": 0, "cutmix_alpha": 0}),
        ("cutmix", {"alpha": -1}),
    ):
        with pytest.raises(zoo.UsageError, match="alpha above 0"):
            create(name, **arguments)


def test_ranges_are_kept() -> None:
    white = torch.full((3000, 3, 2, 2), 0.5)
    jitter = create("batch_color_jitter", **OFF | {"brightness": (0.5, 1.5)})
    factors = jitter(white, keys=keys(3000))[:, 0, 0, 0] / 0.5
    assert 0.5 <= factors.min() < 0.51
    assert 1.49 < factors.max() <= 1.5
    assert float(factors.var()) == pytest.approx(1 / 12, abs=0.01)
    assert math.isclose(float(factors.mean()), 1, abs_tol=0.02)
