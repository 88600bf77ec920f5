"""Random numbers by seed, epoch and sample."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from zoo.data.randomness import normal, outputs, sample_keys, subkeys, symmetric_beta, uniform

stats = pytest.importorskip("scipy.stats")

seeds = st.integers(0, 2**63 - 1)


def keys(number: int = 100_000, seed: int = 0, epoch: int = 0) -> torch.Tensor:
    return sample_keys(seed, epoch, torch.arange(number))


def test_outputs_are_those_of_the_published_generator() -> None:
    # Outputs of java.util.SplittableRandom's generator from the state 1234567.
    expected = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    numbers = np.arange(5, dtype=np.uint64)
    assert outputs(np.array([1234567], np.uint64), numbers).tolist() == expected


@given(seed=seeds, epoch=st.integers(0, 1000), index=st.integers(0, 2**40))
def test_a_key_depends_on_its_own_sample_alone(seed: int, epoch: int, index: int) -> None:
    alone = sample_keys(seed, epoch, torch.tensor([index]))
    among = sample_keys(seed, epoch, torch.tensor([3, index, 7]))
    assert among[1] == alone[0]
    assert torch.equal(uniform(alone, 5)[:, 0], uniform(among, 5)[:, 1])
    assert torch.equal(uniform(alone, 5), uniform(alone, 9)[:5])


def test_keys_differ_by_seed_epoch_sample_and_purpose() -> None:
    indices = torch.arange(1000)
    made = [sample_keys(seed, epoch, indices) for seed in range(3) for epoch in range(3)]
    made += subkeys(made[0], 3)
    assert torch.equal(subkeys(made[0], 5)[:3], subkeys(made[0], 3))
    assert torch.cat(made).unique().numel() == 12 * 1000


def test_uniform_draws_are_uniform_and_independent() -> None:
    first, second = uniform(keys(), 2).numpy()
    assert 0 <= first.min() < first.max() < 1
    for draws in (first, second, uniform(subkeys(keys(), 1)[0], 1)[0].numpy()):
        assert stats.kstest(draws, "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.02
    assert abs(np.corrcoef(first[1:], first[:-1])[0, 1]) < 0.02


def test_normal_draws_are_normal() -> None:
    draws = normal(keys(1000)[:, None], torch.arange(100))
    assert draws.dtype == torch.float32
    assert stats.kstest(draws.flatten().numpy(), "norm").pvalue > 1e-3
    assert torch.equal(normal(keys(5)[3:, None], torch.tensor([7])), draws[3:5, 7:8])


@pytest.mark.parametrize("alpha", [0.2, 0.5, 0.8, 1.0, 3.0])
def test_beta_draws_are_beta(alpha: float) -> None:
    draws = symmetric_beta(*uniform(keys(), 2), alpha)
    assert draws.isfinite().all()
    assert stats.kstest(draws.numpy(), "beta", args=(alpha, alpha)).pvalue > 1e-3


def test_beta_draws_of_a_small_alpha_are_near_zero_and_one() -> None:
    draws = symmetric_beta(*uniform(keys(), 2), 0.01)
    assert draws.isfinite().all()
    assert 0 <= draws.min() <= draws.max() <= 1
    assert float(draws.var()) == pytest.approx(1 / (4 * 1.02), rel=0.01)
