"""Images that are there twice: pixel for pixel, or scaled, compressed or retouched."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

MOST_DIFFERENCE = 8.0
"""Near duplicates have thumbnails that, their means aside, differ by no more than so many of 255
levels (RMS), ..."""
MOST_BRIGHTER = 24.0
"""... whose means differ by no more than so many, ..."""
LEAST_CORRELATION = 0.98
"""... and whose pixels have this correlation."""

_BLOCK = 2**24  # distances at once: 64 MiB


def exact_groups(digests: Sequence[bytes]) -> list[list[int]]:
    """Return the groups of two and more images that have the same digest, by first image."""
    groups: dict[bytes, list[int]] = {}
    for number, digest in enumerate(digests):
        groups.setdefault(digest, []).append(number)
    return [group for group in groups.values() if len(group) > 1]


def near_groups(
    thumbnails: Tensor, progress: Callable[[int], None] = lambda images: None
) -> list[list[int]]:
    """Return the groups of images that nearly look the same, by first image.

    Each image is like another of its group, as the three limits above say. Every pair is looked at:
    60,000 images take seconds, a million half an hour.

    Args:
        thumbnails: grey, uint8 ``(N, S, S)``, S even.
        progress: called with the number of images done since the last call.
    """
    first = list(range(len(thumbnails)))  # of the group that each belongs to

    def of(number: int) -> int:
        while first[number] != number:
            first[number] = first[first[number]]
            number = first[number]
        return number

    for one, other in _candidates(thumbnails, progress):
        alike = _are_alike(thumbnails[one], thumbnails[other])
        for a, b in zip(one[alike].tolist(), other[alike].tolist(), strict=True):
            low, high = sorted((of(a), of(b)))
            first[high] = low
    groups: dict[int, list[int]] = {}
    for number in range(len(thumbnails)):
        groups.setdefault(of(number), []).append(number)
    return [group for group in groups.values() if len(group) > 1]


def _candidates(
    thumbnails: Tensor, progress: Callable[[int], None]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield lists of pairs that may be alike.

    They are compared at half the size, where no difference is larger than at the whole.
    """
    small = torch.nn.functional.avg_pool2d(thumbnails[:, None].float(), 2).flatten(1)
    small -= small.mean(1, keepdim=True)
    limit = small.shape[1] * MOST_DIFFERENCE**2
    length = small.square().sum(1, keepdim=True)
    ones = torch.ones_like(length)
    # |a - b|^2 = |a|^2 - 2ab + |b|^2 as one product.
    left, right = torch.cat([small, length, ones], 1), torch.cat([-2 * small, ones, length], 1)
    rows = max(1, _BLOCK // max(1, len(small)))
    for start in range(0, len(small), rows):
        distances = left[start : start + rows] @ right[start:].T
        one, other = (distances <= limit).nonzero(as_tuple=True)
        later = other > one
        yield one[later] + start, other[later] + start
        progress(len(distances))


def _are_alike(one: Tensor, other: Tensor) -> Tensor:
    """Return whether the pairs of two lists of thumbnails are alike, bool ``(N,)``."""
    a, b = one.flatten(1).float(), other.flatten(1).float()
    mean_a, mean_b = a.mean(1, keepdim=True), b.mean(1, keepdim=True)
    a, b = a - mean_a, b - mean_b
    difference = (a - b).square().mean(1).sqrt()
    spread = (a.square().sum(1) * b.square().sum(1)).sqrt()
    return (
        (difference <= MOST_DIFFERENCE)
        & ((mean_a - mean_b).abs()[:, 0] <= MOST_BRIGHTER)
        & ((a * b).sum(1) > LEAST_CORRELATION * spread)
    )
