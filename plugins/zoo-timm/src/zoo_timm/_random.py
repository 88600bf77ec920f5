"""One generator for code that draws from several global ones."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def drawn_from(generator: torch.Generator | None) -> Iterator[None]:
    """Let ``random``, NumPy and torch (on the CPU) draw what the generator decides.

    timm's augmentations draw from these global generators and take no other. The generator's
    next number seeds them, and their states are put back at the end. Without a generator
    nothing changes.
    """
    if generator is None:
        yield
        return
    seed = int(torch.randint(2**32, (), generator=generator, device=generator.device))
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
