"""timm's augmentations through zoo, against the contract of :class:`zoo.Augmentation`."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torchvision.transforms.v2.functional import to_pil_image
from zoo_timm import zoo_augmentations

import zoo

SPECS = {spec.name: spec for spec in zoo_augmentations()}
IMAGE = [name for name, spec in SPECS.items() if spec.level == "image"]
MIXES = [name for name, spec in SPECS.items() if spec.targets == "soft"]
ARGUMENTS = {"random_resized_crop": {"size": 32}}
each_dtype = pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])


def create(name: str, seed: int | None = None, **kwargs):
    if seed is not None:
        kwargs["generator"] = torch.Generator().manual_seed(seed)
    return zoo.create_augmentation(f"timm/{name}", **ARGUMENTS.get(name, {}), **kwargs)


def pixels(dtype: torch.dtype, *shape: int) -> torch.Tensor:
    values = torch.randint(256, shape, dtype=torch.uint8)
    return values if dtype == torch.uint8 else values.to(dtype) / 255


def soft_targets(samples: int, classes: int = 5) -> torch.Tensor:
    return torch.eye(classes)[torch.arange(samples) % classes]


def call(name: str, augmentation, images: torch.Tensor) -> torch.Tensor:
    """The images that come out, whatever the kind of augmentation."""
    if name in IMAGE:
        return torch.stack([augmentation(image) for image in images])
    if name in MIXES:
        return augmentation(images, soft_targets(len(images)))[0]
    return augmentation(images)


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("channels", [1, 3])
@each_dtype
def test_shape_dtype_and_range_stay(name, channels, dtype) -> None:
    images = pixels(dtype, 8, channels, 32, 32)
    before, augmentation = images.clone(), create(name)
    for _ in range(4):
        result = call(name, augmentation, images)
        assert result.shape == images.shape
        assert result.dtype == dtype
        assert result.min() >= 0
        assert result.max() <= (255 if dtype == torch.uint8 else 1)
    assert torch.equal(images, before)


@pytest.mark.parametrize("name", SPECS)
def test_a_generator_decides(name) -> None:
    images = pixels(torch.uint8, 8, 3, 32, 32)
    first, second, other = create(name, seed=1), create(name, seed=1), create(name, seed=2)
    results = [call(name, first, images) for _ in range(4)]
    for result in results:
        torch.rand(3), np.random.rand(3), random.random()  # the global generators have no say
        assert torch.equal(call(name, second, images), result)
    assert any(not torch.equal(results[0], result) for result in results[1:])
    assert any(not torch.equal(call(name, other, images), result) for result in results)


@pytest.mark.parametrize("name", SPECS)
def test_global_generators_are_left_alone(name) -> None:
    images, augmentation = pixels(torch.uint8, 4, 3, 32, 32), create(name, seed=1)

    def draws() -> list[float]:
        return [random.random(), float(np.random.rand()), float(torch.rand(()))]

    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(3)
    expected = draws()
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(3)
    call(name, augmentation, images)
    assert draws() == expected


@pytest.mark.parametrize("name", IMAGE)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_pil_images_stay_pil_images(name, mode) -> None:
    image = to_pil_image(pixels(torch.uint8, 3, 32, 32)).convert(mode)
    result = create(name)(image)
    assert result.size == (32, 32)
    assert result.mode == mode


@pytest.mark.parametrize(
    ("name", "policy"),
    [("auto_augment", "v9"), ("rand_augment", "v0"), ("rand_augment", "rand-x3"), ("augmix", "")],
)
def test_unknown_policies_name_an_example(name, policy) -> None:
    with pytest.raises(zoo.UsageError, match="an example is '"):
        create(name, policy=policy)


@pytest.mark.parametrize("mode", ["pixel", "rand", "const"])
@each_dtype
def test_erasing_leaves_the_rest_bit_for_bit(mode, dtype) -> None:
    images = pixels(dtype, 16, 3, 32, 32)
    result = create("random_erasing", seed=0, probability=1.0, mode=mode)(images)
    changed = (result != images).any(1)
    assert changed.flatten(1).any(1).all()
    for one in changed:
        rows, columns = one.any(1).nonzero().flatten(), one.any(0).nonzero().flatten()
        area = (rows.max() - rows.min() + 1) * (columns.max() - columns.min() + 1)
        assert area <= 32 * 32 * 0.36  # a third, up to rounding of the sides
    never = create("random_erasing", probability=0.0, mode=mode)
    assert torch.equal(never(images), images)


def test_erasing_with_a_constant_fills_with_the_mean_colour() -> None:
    images = pixels(torch.float32, 4, 3, 32, 32)
    result = create("random_erasing", seed=0, probability=1.0, mode="const")(images)
    erased = result.permute(0, 2, 3, 1)[(result != images).all(1)]
    torch.testing.assert_close(erased, torch.tensor([[0.485, 0.456, 0.406]]).expand_as(erased))


@pytest.mark.parametrize("name", MIXES)
@pytest.mark.parametrize("mode", ["batch", "pair", "elem"])
@pytest.mark.parametrize("samples", [0, 1, 2, 7, 8])
@each_dtype
def test_mixed_targets_stay_probabilities(name, mode, samples, dtype) -> None:
    images, targets = pixels(dtype, samples, 3, 16, 16), soft_targets(samples)
    given = targets.clone()
    for _ in range(5):
        mixed, soft = create(name, mode=mode)(images, targets)
        assert mixed.shape == images.shape
        assert soft.shape == targets.shape
        assert soft.dtype == targets.dtype
        assert soft.min() >= 0 if samples else True
        torch.testing.assert_close(soft.sum(1), torch.ones(samples))
    assert torch.equal(targets, given)


@pytest.mark.parametrize("samples", [6, 7])
def test_mixup_mixes_images_as_it_mixes_targets(samples) -> None:
    """Image i is constant i: so what is mixed in can be read off the pixels."""
    images = torch.arange(samples).view(-1, 1, 1, 1).expand(-1, 3, 4, 4) / samples
    targets = torch.eye(samples)
    mixed, soft = create("mixup", seed=0)(images, targets)
    assert not torch.equal(mixed, images)
    torch.testing.assert_close(mixed[:, 0, 0, 0], (soft * images[:, 0, 0, 0]).sum(1))


@pytest.mark.parametrize("samples", [6, 7])
def test_cutmix_weighs_targets_by_area(samples) -> None:
    images = torch.arange(samples).view(-1, 1, 1, 1).expand(-1, 3, 32, 32) / samples
    mixed, soft = create("cutmix", seed=1)(images, torch.eye(samples))
    assert not torch.equal(mixed, images)
    for i in range(samples):
        for j in range(samples):
            share = (mixed[i, 0] == images[j, 0, 0, 0]).float().mean()
            torch.testing.assert_close(soft[i, j], share)


@pytest.mark.parametrize("name", ["auto_augment", "rand_augment", "augmix"])
def test_posterizing_keeps_a_bit(name) -> None:
    transform = create(name).transform
    policies = getattr(transform, "policy", ())
    ops = [*getattr(transform, "ops", ()), *(op for policy in policies for op in policy)]
    bits = [op.level_fn(10, {})[0] for op in ops if op.name.startswith("Posterize")]
    assert all(1 <= kept <= 8 for kept in bits)
