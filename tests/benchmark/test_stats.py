import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.benchmark.stats import geometric_mean, ratio_interval, summarize

seconds = st.floats(1e-7, 1e3)


@given(st.lists(seconds, min_size=1, max_size=30))
def test_summary_holds_order_statistics(samples):
    summary = summarize(samples)
    ordered = sorted(samples)
    middle = len(samples) // 2
    median = ordered[middle] if len(samples) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
    assert math.isclose(summary.median, median, rel_tol=1e-12)
    assert summary.minimum == ordered[0]
    quartiles = np.quantile(samples, [0.25, 0.75], method="linear")
    assert math.isclose(summary.iqr, quartiles[1] - quartiles[0], rel_tol=1e-9, abs_tol=1e-12)


def test_the_interval_of_steady_samples_is_their_ratio():
    assert ratio_interval([3.0] * 9, [2.0] * 9) == (1.5, 1.5)


def test_what_slows_a_whole_round_down_cancels_out():
    rng = np.random.default_rng(1)
    slow_rounds = rng.uniform(1, 10, size=31)
    low, high = ratio_interval(list(2 * slow_rounds), list(slow_rounds))
    assert (low, high) == pytest.approx((2, 2))


def test_the_interval_covers_the_true_ratio_about_as_often_as_it_says():
    rng = np.random.default_rng(2)
    covered = 0
    for seed in range(200):
        over, under = rng.lognormal(math.log(1.5), 0.1, 25), rng.lognormal(0, 0.1, 25)
        low, high = ratio_interval(list(over), list(under), resamples=500, seed=seed)
        covered += low <= 1.5 <= high
    assert 176 <= covered <= 200  # 95 % of 200 is 190; the bootstrap of medians is a bit off


def test_the_interval_is_the_same_every_time():
    samples = list(np.random.default_rng(3).uniform(1, 2, 20)), [1.0, 2.0] * 10
    assert ratio_interval(*samples) == ratio_interval(*samples)


@given(st.lists(seconds, min_size=1, max_size=20))
def test_geometric_mean(values):
    assert math.isclose(geometric_mean(values), np.exp(np.mean(np.log(values))), rel_tol=1e-9)
    assert geometric_mean([2.0, 0.5]) == pytest.approx(1)
