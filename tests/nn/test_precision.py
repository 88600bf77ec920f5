"""FusedConv2d's layout of the weight: the fastest for the input, and never Winograd's if exact."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from zoo.nn import FusedConv2d

WINOGRAD4, WINOGRAD2, GEMM = (points * 32 * 32 for points in (36, 16, 9))


def make(**options: object) -> FusedConv2d:
    torch.manual_seed(0)
    return FusedConv2d(nn.Conv2d(32, 32, 3, padding=1), None, "relu", **options).eval()  # type: ignore[arg-type]


def run(block: FusedConv2d, *size: int) -> torch.Tensor:
    x = torch.randn(size)
    result: torch.Tensor = block(x)
    torch.testing.assert_close(result, block.conv(x).relu(), rtol=0, atol=1e-5)
    assert block.packed_weight is not None
    return block.packed_weight


@torch.no_grad()
def test_layout_follows_the_input() -> None:
    block = make()
    large = run(block, 1, 32, 28, 28)
    assert large.numel() == WINOGRAD4
    assert run(block, 4, 32, 20, 25) is large, "packed again without need"
    small = run(block, 1, 32, 6, 6)
    assert small.numel() == WINOGRAD2
    assert run(block, 1, 32, 1, 1).numel() == GEMM
    assert run(block, 1, 32, 28, 28).numel() == WINOGRAD4


@torch.no_grad()
def test_exact_avoids_winograd() -> None:
    block = make(precision="exact")
    assert run(block, 1, 32, 28, 28).numel() == GEMM
    assert "precision='exact'" in repr(block)
    block.precision = "default"
    assert run(block, 1, 32, 28, 28).numel() == WINOGRAD4
    assert run(copy.deepcopy(block), 1, 32, 28, 28).numel() == WINOGRAD4


@torch.no_grad()
@pytest.mark.parametrize("pool", ["max2", "avg2", "max3s2"])
def test_pools_behind_winograd(pool: str) -> None:
    block = make(pool=pool)
    x = torch.randn(1, 32, 27, 26)
    exact = make(pool=pool, precision="exact")
    exact.load_state_dict(block.state_dict())
    torch.testing.assert_close(block(x), exact(x), rtol=0, atol=1e-5)
    assert block.packed_weight is not None
    assert block.packed_weight.numel() == WINOGRAD4


def test_exact_with_gradients() -> None:
    """The plain op runs there, with the same precision."""
    block, exact = make(), make(precision="exact")
    x = torch.randn(2, 32, 28, 28)
    one, other = block(x), exact(x)
    assert not torch.equal(one, other)
    torch.testing.assert_close(one, other, rtol=0, atol=1e-5)
    for module in (block, exact):
        module.train()(x).sum().backward()
        assert module.conv.weight.grad is not None


def test_unknown_precision() -> None:
    with pytest.raises(ValueError, match='unknown precision "half"; known are default, exact'):
        make(precision="half")
