"""The packed weight follows changes that no version counter shows."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from zoo.nn import FusedConv2d


def block(bn: bool) -> FusedConv2d:
    return FusedConv2d(
        nn.Conv2d(64, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64) if bn else None
    ).eval()


def plain(fused: FusedConv2d, x: torch.Tensor) -> torch.Tensor:
    y = fused.conv(x)
    return y if fused.bn is None else fused.bn(y)


@torch.no_grad()
def test_there_and_back_through_a_coarser_dtype():
    x = torch.randn(1, 64, 8, 8)
    for _ in range(40):  # the allocator may hand the old address back
        fused = block(bn=False)
        fused(x)
        fused.to(torch.bfloat16)
        fused.to(torch.float32)
        torch.testing.assert_close(fused(x), plain(fused, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("bn", [False, True])
def test_steps_of_a_fused_optimizer(bn):
    fused, x = block(bn), torch.randn(1, 64, 8, 8)
    optimizer = torch.optim.AdamW(fused.parameters(), 0.1, fused=True)
    with torch.no_grad():
        fused(x)
    fused(x).sum().backward()
    optimizer.step()
    with torch.no_grad():
        torch.testing.assert_close(fused(x), plain(fused, x), rtol=1e-4, atol=1e-4)
