"""Duplicates: what counts as the same picture, and what does not."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from zoo.data.check import duplicates
from zoo.data.check.duplicates import exact_groups, near_groups


def blobs(seed: int, size: int = 96) -> Image.Image:
    """A picture with structure: soft blobs of random place and colour."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size
    canvas = np.full((size, size, 3), random.uniform(60, 190, 3))
    for _ in range(8):
        centre, width = random.uniform(0, 1, 2), random.uniform(0.05, 0.2)
        weight = np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (2 * width**2))
        canvas += weight[..., None] * (random.uniform(0, 255, 3) - canvas)
    noise = random.normal(0, 4, canvas.shape)
    return Image.fromarray((canvas + noise).clip(0, 255).astype(np.uint8))


def thumbnails(*images: Image.Image) -> torch.Tensor:
    small = [i.convert("L").resize((16, 16), Image.Resampling.BILINEAR) for i in images]
    return torch.from_numpy(np.stack([np.asarray(image) for image in small]))


def jpeg(image: Image.Image) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=40)
    return Image.open(stream)


PICTURES = [blobs(seed) for seed in range(40)]


def test_different_pictures_are_not_alike() -> None:
    assert near_groups(thumbnails(*PICTURES)) == []


@pytest.mark.parametrize(
    "change",
    [
        jpeg,
        lambda image: image.resize((40, 40)),
        lambda image: image.resize((200, 180)),
        lambda image: ImageEnhance.Brightness(image).enhance(1.07),
        lambda image: ImageEnhance.Contrast(image).enhance(1.07),
        lambda image: image.convert("L"),
    ],
    ids=["jpeg", "smaller", "larger", "brighter", "contrast", "grey"],
)
def test_changed_copies_are_alike(change: Callable[[Image.Image], Image.Image]) -> None:
    groups = near_groups(thumbnails(*PICTURES, *map(change, PICTURES)))
    wanted = [[number, number + len(PICTURES)] for number in range(len(PICTURES))]
    assert sum(pair in groups for pair in wanted) >= 38
    assert all(pair in wanted for pair in groups)


@pytest.mark.parametrize(
    "change",
    [
        lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        lambda image: image.transpose(Image.Transpose.ROTATE_90),
        lambda image: image.crop((20, 20, 76, 76)),
        lambda image: ImageEnhance.Brightness(image).enhance(1.6),
    ],
    ids=["mirrored", "turned", "cut", "bright"],
)
def test_other_views_are_not(change: Callable[[Image.Image], Image.Image]) -> None:
    assert near_groups(thumbnails(PICTURES[0], change(PICTURES[0]))) == []


def test_groups_are_joined_over_common_images() -> None:
    copies = [jpeg(PICTURES[3]), PICTURES[7].resize((50, 50)), PICTURES[3].resize((60, 60))]
    groups = near_groups(thumbnails(*PICTURES[:10], *copies))
    assert groups == [[3, 10, 12], [7, 11]]


def test_flat_pictures_are_not_alike() -> None:
    """They have no structure that could be the same: only noise, or nothing."""
    flat = [Image.new("RGB", (20, 20), (level, 90, 90)) for level in (10, 60, 90, 200)]
    assert near_groups(thumbnails(*flat)) == []


@given(st.integers(0, 2**32 - 1), st.integers(2, 40), st.sampled_from([1, 3, 7, 2**24]))
@settings(max_examples=40, deadline=None)
def test_candidates_miss_no_pair(seed: int, count: int, block: int) -> None:
    """Comparing at half the size and block by block finds what comparing all pairs does."""
    generator = torch.Generator().manual_seed(seed)
    base = torch.randint(40, 200, (count, 16, 16), generator=generator)
    noise = torch.randint(0, 1 + seed % 30, (count, 16, 16), generator=generator)
    images = torch.cat([base, base + noise]).byte()
    one, other = torch.triu_indices(len(images), len(images), 1)
    alike = duplicates._are_alike(images[one], images[other])
    wanted = set(zip(one[alike].tolist(), other[alike].tolist(), strict=True))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "_BLOCK", block)
        done: list[int] = []
        found = set()
        for a, b in duplicates._candidates(images, done.append):
            found |= set(zip(a.tolist(), b.tolist(), strict=True))
    assert wanted <= found
    assert sum(done) == len(images)


@given(st.lists(st.binary(min_size=1, max_size=1)))
def test_exact_groups(digests: list[bytes]) -> None:
    groups = exact_groups(digests)
    assert all(len({digests[n] for n in group}) == 1 for group in groups)
    assert sorted({digests[group[0]] for group in groups}) == sorted(
        {digest for digest in digests if digests.count(digest) > 1}
    )
    assert sum(map(len, groups)) == sum(digests.count(d) > 1 for d in digests)
    assert groups == sorted(groups)
