"""What ncnn alone refuses; tests/compiler/test_engines.py asks of all engines the same."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import zoo

pytest.importorskip("ncnn")
pytest.importorskip("pnnx")
pytest.importorskip("onnxscript")
backend = pytest.importorskip("zoo_ncnn.backend")


class Two(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.relu(), x.sigmoid()


def test_several_outputs() -> None:
    with pytest.raises(zoo.ZooError, match="ncnn returns one tensor, the network 2"):
        backend.prepare(Two().eval(), (torch.randn(1, 3, 8, 8),), {})
