"""Composing what happens to images in training."""

from __future__ import annotations

import pytest
import torch

import zoo
from zoo.data.pipeline import Transform, eval_transform, train_transform
from zoo.data.randomness import sample_keys, subkeys

SIZE = (3, 16, 16)
PLAIN = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


def names(transform: Transform) -> list[str]:
    return [stage.name for stage in transform.stages]


def keys(samples: int) -> torch.Tensor:
    return sample_keys(0, 0, torch.arange(samples))


def images(samples: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (samples, *SIZE), generator=generator, dtype=torch.uint8)


def targets(samples: int) -> torch.Tensor:
    return torch.arange(samples) % 4


def test_the_order_of_augmentations() -> None:
    transform = train_transform(
        SIZE,
        color_jitter=0.4,
        augment=["zoo/cutout", ("zoo/batch_rotation", {"degrees": 5})],
        reprob=0.2,
        mixup=0.2,
        num_classes=4,
    )
    assert names(transform) == [
        "zoo/batch_flip",
        "zoo/batch_color_jitter",
        "zoo/cutout",
        "zoo/batch_rotation",
        "zoo/erasing",
        "zoo/mixup_cutmix",
    ]
    assert transform.shift is not None
    assert transform.shift.augmentation.padding == 2
    assert transform.stages[3].augmentation.degrees == 5


@pytest.mark.parametrize(
    ("policy", "name"),
    [
        ("rand-m9-mstd0.5-inc1", "timm/rand_augment"),
        ("augmix-m3-w3", "timm/augmix"),
        ("original-mstd0.5", "timm/auto_augment"),
        ("v0", "timm/auto_augment"),
        ("3a", "timm/three_augment"),
    ],
)
def test_policies_of_timm(policy, name) -> None:
    pytest.importorskip("zoo_timm")
    transform = train_transform(SIZE, aa=policy, **PLAIN)
    assert names(transform) == ["zoo/batch_flip", name]
    first, _ = transform(images(6), targets(6), keys(6))
    again, _ = transform(images(6), targets(6), keys(6))
    assert torch.equal(first, again)
    # Each image by its own key, whatever its batch.
    alone, _ = transform(images(6)[4:], targets(6)[4:], keys(6)[4:])
    assert torch.equal(alone, first[4:])


def test_an_unknown_policy() -> None:
    pytest.importorskip("zoo_timm")
    with pytest.raises(zoo.UsageError, match="'rund-m9' is not a policy that timm knows"):
        train_transform(SIZE, aa="rund-m9")


def test_images_of_the_models_size_are_shifted_unless_fitted() -> None:
    transform = train_transform(SIZE, hflip=0, **PLAIN)
    given = images(8)
    fitted, _ = transform(given, targets(8), keys(8), fitted=True)
    torch.testing.assert_close(fitted, given.float() / 255)
    shifted, _ = transform(given, targets(8), keys(8))
    crop = zoo.create_augmentation("zoo/batch_crop", padding=2)
    expected = crop(given, keys=subkeys(keys(8), 1)[0])
    torch.testing.assert_close(shifted, expected.float() / 255)
    still = train_transform(SIZE, hflip=0, crop_padding=0, **PLAIN)
    assert torch.equal(still(given, targets(8), keys(8))[0], fitted)


def test_every_stage_draws_anew() -> None:
    """Two flips undo each other for a quarter of the images, not for all."""
    transform = train_transform(SIZE, crop_padding=0, augment=["zoo/batch_flip"], **PLAIN)
    result, _ = transform(images(400), targets(400), keys(400))
    back = ((result - images(400) / 255).abs() < 1e-6).flatten(1).all(1)
    assert 0.4 < back.float().mean() < 0.6


def test_targets_stay_indices_unless_something_needs_more() -> None:
    _, same = train_transform(SIZE, num_classes=4)(images(8), targets(8), keys(8))
    assert torch.equal(same, targets(8))
    _, soft = train_transform(SIZE, smoothing=0.2, num_classes=4)(images(8), targets(8), keys(8))
    assert soft.dtype == torch.float32
    torch.testing.assert_close(soft[0], torch.tensor([0.85, 0.05, 0.05, 0.05]))
    mixing = train_transform(SIZE, smoothing=0.2, mixup=0.5, cutmix=0.5, num_classes=4)
    _, mixed = mixing(images(8), targets(8), keys(8))
    torch.testing.assert_close(mixed.sum(1), torch.ones(8))
    assert mixed.min() >= 0.05 - 1e-6


def test_normalisation_is_by_channel() -> None:
    mean, std = (0.1, 0.5, 0.9), (0.5, 1.0, 0.25)
    given = images(3)
    expected = (given / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    result, _ = eval_transform(SIZE, mean=mean, std=std)(given, targets(3), keys(3))
    assert torch.equal(result, expected)
    train = train_transform(SIZE, mean=mean, std=std, hflip=0, crop_padding=0)
    for pixels in (given, given / 255):
        result, _ = train(pixels, targets(3), keys(3))
        torch.testing.assert_close(result, expected, rtol=0, atol=1e-6)
    assert eval_transform((1, 8, 8)).mean == pytest.approx((0.449,))


def test_no_aug_is_evaluation() -> None:
    transform = train_transform(SIZE, no_aug=True, mixup=0.5, reprob=0.5, **PLAIN)
    result, same = transform(images(5), targets(5), keys(5))
    assert torch.equal(result, images(5).float() / 255)
    assert torch.equal(same, targets(5))


def test_nothing_random_is_left_to_a_generator_of_the_batch() -> None:
    """Batch augmentations that take no keys draw by the first sample of the batch."""
    pytest.importorskip("zoo_timm")
    transform = train_transform(SIZE, augment=[("timm/random_erasing", {"probability": 1.0})])
    first, _ = transform(images(6), targets(6), keys(6))
    torch.manual_seed(7)
    again, _ = transform(images(6), targets(6), keys(6))
    assert torch.equal(first, again)
    other, _ = transform(images(6), targets(6), keys(6) + 1)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mixup": 0.2}, "zoo/mixup_cutmix: soft targets need num_classes"),
        ({"smoothing": 0.1}, "smoothing: soft targets need num_classes"),
        ({"smoothing": 1.0}, "smoothing must be from 0 to below 1, not 1.0"),
        ({"color_jitter": (0.1,) * 5}, "color_jitter takes up to four numbers from 0"),
        ({"color_jitter": -1}, "color_jitter takes up to four numbers from 0"),
        ({"std": (0.1, 0.0, 0.1)}, "std must be above 0"),
        ({"mean": (0.1, 0.0)}, "mean has 2 values for 3 channels"),
        ({"augment": ["no_such"]}, "no_such"),
        ({"augment": [("zoo/cutout", {"side": 3})]}, "zoo/cutout does not take 'side'"),
    ],
)
def test_what_does_not_fit_together_is_said_at_once(arguments, message) -> None:
    with pytest.raises(zoo.UsageError, match=message):
        train_transform(SIZE, **arguments)
