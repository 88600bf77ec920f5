"""Every kernel of this machine, and no silent way around them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from zoo import ops

sys.path.insert(0, str(Path(__file__).parent))  # op_samples, for all the files here


@pytest.fixture(params=ops.cpu_capabilities())
def capability(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each instruction set of this machine in turn."""
    before = ops.cpu_capability()
    ops.set_cpu_capability(request.param)
    yield request.param
    ops.set_cpu_capability(before)


@pytest.fixture(autouse=True)
def no_fallback(monkeypatch: pytest.MonkeyPatch) -> None:
    """What no kernel takes is an error; tests of such cases say so with ``allow_fallback``."""
    monkeypatch.setenv("ZOO_FALLBACK", "error")


@pytest.fixture
def allow_fallback(no_fallback: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let declined cases run the reference."""
    monkeypatch.delenv("ZOO_FALLBACK")


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)
