"""Statistics of timings: order statistics, bootstrap intervals of ratios, geometric mean.

After Hoefler and Belli, "Scientific Benchmarking of Parallel Computing Systems" (SC15):
timings are skewed, so medians and quartiles stand for them; ratios are averaged geometrically.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Summary:
    """Median, minimum and interquartile range, in the unit of the samples."""

    median: float
    minimum: float
    iqr: float


def summarize(samples: Sequence[float]) -> Summary:
    """Summarize at least one sample; quartiles are interpolated linearly."""
    low, middle, high = np.percentile(samples, [25, 50, 75])
    return Summary(float(middle), float(min(samples)), float(high - low))


def ratio_interval(
    numerator: Sequence[float],
    denominator: Sequence[float],
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap interval of median(numerator) / median(denominator).

    Sample i of both comes from round i, so rounds are drawn in pairs (Efron and Tibshirani,
    "An Introduction to the Bootstrap", 1993, chapters 8 and 13): what slowed a whole round
    down cancels out.
    """
    pairs = np.array([numerator, denominator], dtype=float)
    rounds = pairs.shape[1]
    drawn = np.random.default_rng(seed).integers(rounds, size=(resamples, rounds))
    over, under = np.median(pairs[:, drawn], axis=2)
    tail = (1 - level) / 2
    low, high = np.quantile(over / under, [tail, 1 - tail])
    return float(low), float(high)


def median_interval(samples: Sequence[float]) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the median, in the unit of the samples."""
    return ratio_interval(samples, [1.0] * len(samples))


def geometric_mean(values: Sequence[float]) -> float:
    """Geometric mean of at least one positive value."""
    return math.exp(sum(map(math.log, values)) / len(values))
