"""On a real device, with float32 that is float32."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "ops")]  # cuda_device, op_samples


@pytest.fixture(autouse=True)
def float32_as_it_is() -> Iterator[None]:
    """cuDNN rounds float32 to TF32 where it is not told otherwise."""
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, allow_tf32=False):
        yield


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have zoo's own kernel run wherever there is one; that there is none is an error."""
    monkeypatch.setenv("ZOO_FALLBACK", "error")
