"""Intervals of figures: what they would be on other images of the same kind.

The percentile bootstrap (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter
13): images are drawn with replacement, as many as there are, and the figures computed anew.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zoo.evaluation.outcomes import Outcomes

LEVEL = 0.95
RESAMPLES = 1000

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Intervals:
    """Intervals by the name of the figure, and of the F1 of each class (NaN without images)."""

    figures: dict[str, Interval]
    f1: list[Interval]


def intervals(
    outcomes: Outcomes, classes: int, *, resamples: int = RESAMPLES, seed: int = 0
) -> Intervals:
    """Resample the images and return where the middle 95 % of each figure lie.

    The expected calibration error has none: the noise of resampling adds to it, so that intervals
    would lie above it.
    """
    targets, predicted = outcomes.targets.numpy(), outcomes.predicted.numpy()
    right = outcomes.correct.numpy()
    values = np.stack([right, outcomes.among_best.numpy(), outcomes.nll.numpy()]).astype(float)
    images = len(targets)
    random = np.random.default_rng(seed)
    means = np.empty((resamples, len(values)))
    macro = np.empty((resamples, 3))
    f1 = np.empty((resamples, classes))
    for number in range(resamples):
        drawn = random.integers(images, size=images)
        means[number] = values @ np.bincount(drawn, minlength=images) / images
        of, as_ = targets[drawn], predicted[drawn]
        hits = np.bincount(of[right[drawn]], minlength=classes)
        have, taken = (np.bincount(each, minlength=classes) for each in (of, as_))
        some = have > 0
        with np.errstate(invalid="ignore"):
            f1[number] = np.where(some, 2 * hits / (have + taken), np.nan)
        macro[number] = (
            (hits / np.maximum(taken, 1))[some].mean(),
            (hits[some] / have[some]).mean(),
            f1[number, some].mean(),
        )
    names = ("top1", "top5", "nll", "precision", "recall", "f1")
    ends = np.quantile(np.hstack([means, macro]), _TAILS, axis=0)
    known = np.isin(np.arange(classes), targets)
    of_class = np.full((2, classes), np.nan)
    of_class[:, known] = np.nanquantile(f1[:, known], _TAILS, axis=0)
    return Intervals(
        {name: (float(low), float(high)) for name, low, high in zip(names, *ends, strict=True)},
        [(float(low), float(high)) for low, high in of_class.T],
    )


_TAILS = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
