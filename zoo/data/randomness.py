"""Random numbers that depend on what they are for, and on nothing else.

Training draws for a sample of an epoch what SplitMix64 says (Steele, Lea and Flood, "Fast
splittable pseudorandom number generators", 2014): output ``n`` of the generator with state
``key`` is ``finalise(key + (n + 1) * golden)``, so that any output can be had without those
before it. Outputs serve as states in turn: the seed's output number *epoch* is the epoch's state,
and that one's output number *index* the key of the sample. Whoever draws for that sample, in
whatever process, batch and order, gets the same numbers.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Words = NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MULTIPLIERS = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_SHIFTS = np.uint64(30), np.uint64(27), np.uint64(31)


def outputs(states: Words, numbers: Words) -> Words:
    """Return SplitMix64's outputs of these numbers from these states: uint64, broadcast."""
    # uint64 arithmetic is modulo 2^64, of arrays without a warning.
    z = np.atleast_1d(states) + (np.atleast_1d(numbers) + np.uint64(1)) * _GOLDEN
    for shift, multiplier in zip(_SHIFTS, _MULTIPLIERS, strict=False):
        z = (z ^ (z >> shift)) * multiplier
    result: Words = z ^ (z >> _SHIFTS[2])
    return result


def sample_keys(seed: int, epoch: int, indices: Tensor) -> Tensor:
    """Return a key, int64 ``(N,)``, for each sample of int64 ``(N,)`` in an epoch.

    Args:
        seed, epoch: whole numbers from 0, below 2^64.
        indices: numbers of the samples within the data set.
    """
    state = outputs(np.array([seed], np.uint64), np.array([epoch], np.uint64))
    return torch.from_numpy(outputs(state, indices.numpy().view(np.uint64)).view(np.int64))


def subkeys(keys: Tensor, purposes: int) -> Tensor:
    """Return further keys, int64 ``(purposes, N)``: each row for an independent purpose."""
    numbers = np.arange(purposes, dtype=np.uint64)[:, None]
    return torch.from_numpy(outputs(keys.numpy().view(np.uint64), numbers).view(np.int64))


def uniform(keys: Tensor, draws: int) -> Tensor:
    """Draw from [0, 1): float64 ``(draws, N)``, column ``i`` from key ``i`` alone.

    Args:
        keys: int64 ``(N,)``.
        draws: how many numbers for each key.
    """
    numbers = np.arange(draws, dtype=np.uint64)[:, None]
    bits = outputs(keys.numpy().view(np.uint64), numbers) >> np.uint64(11)
    return torch.from_numpy(bits * 2.0**-53)


def normal(keys: Tensor, numbers: Tensor) -> Tensor:
    """Draw from the normal distribution: float32, the draw of each number from its key.

    Both are int64, and broadcast. The two halves of an output go through Box and Muller's formula.
    """
    bits = outputs(keys.numpy().view(np.uint64), numbers.numpy().view(np.uint64))
    halves = bits >> np.uint64(40), bits & np.uint64(2**24 - 1)
    u, v = (torch.from_numpy(half.astype(np.float32)) * 2.0**-24 for half in halves)
    return torch.sqrt(-2 * torch.log1p(-u)) * torch.cos(2 * torch.pi * v)


def symmetric_beta(u: Tensor, v: Tensor, alpha: float) -> Tensor:
    """Turn two uniform tensors into draws of Beta(alpha, alpha), alpha > 0.

    Bailey's polar method ("Polar generation of random variates with the t-distribution", 1994)
    gives Student's t with 2 alpha degrees of freedom, which is a beta variate in disguise.
    """
    t_squared = (1 - u).pow(-1 / alpha).sub(1)  # over the degrees of freedom
    cosine = torch.cos(2 * torch.pi * v)
    draws = 0.5 + 0.5 * cosine / torch.sqrt(1 / t_squared + cosine.square())
    return draws.clamp_(0, 1)  # rounding may leave them a little outside


def generator_of(key: int) -> torch.Generator:
    """Return a torch generator that starts from a key, for code that takes no keys."""
    return torch.Generator().manual_seed(key & (2**63 - 1))
