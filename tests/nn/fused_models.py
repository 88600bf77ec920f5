"""Networks to fuse, and how a fused one is held against the plain one that it is a view of."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from zoo import ops
from zoo.nn import fuse_for_training


class Net(nn.Module):
    """One convolution, a BatchNorm, and a forward that a test gives."""

    def __init__(self, forward: Callable[..., Any], **modules: nn.Module) -> None:
        super().__init__()
        self.conv = modules.pop("conv", nn.Conv2d(3, 6, 3, padding=1))
        self.bn = modules.pop("bn", nn.BatchNorm2d(6))
        self.other = nn.Conv2d(3, 6, 1)
        self.relu = nn.ReLU()
        for name, module in modules.items():
            self.add_module(name, module)
        self.body = forward
        for bn in self.modules():
            if isinstance(bn, nn.BatchNorm2d) and bn.affine:
                nn.init.normal_(bn.weight)
                nn.init.normal_(bn.bias)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self, x)


def images(*size: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Noise in channels_last: in the default layout chains run module by module."""
    return torch.randn(size, dtype=dtype).contiguous(memory_format=torch.channels_last)


X = images(2, 3, 8, 8)


PLAIN = "conv + batch_norm + relu"


def step(model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """The output and the gradient of the input; parameters get theirs."""
    model.zero_grad()
    torch.manual_seed(1)
    x = x.clone().requires_grad_()
    output = model(x)
    (output * torch.linspace(-1, 1, output.numel(), dtype=x.dtype).view_as(output)).sum().backward()
    assert x.grad is not None
    return output.detach(), x.grad


def agree(
    model: nn.Module, x: Tensor, rtol: float = 1e-9, chains: int | None = 1, flips: float = 0
) -> nn.Module:
    """Two steps of a model and of its fused copy, in train mode, and one in eval mode."""
    fused = fuse_for_training(copy.deepcopy(model))
    assert chains is None or len(fused.fused_chains) == chains, fused.fused_chains
    for mode in (None, None, False):
        if mode is not None:
            model.eval()
            fused.eval()
        for ours, theirs in zip(step(fused, x), step(model, x), strict=True):
            close(ours, theirs, rtol, flips=flips)
        grads = [
            torch.cat([p.grad.flatten() for p in each.parameters() if p.grad is not None])
            for each in (fused, model)
            if any(p.grad is not None for p in each.parameters())
        ]
        if grads:
            close(*grads, rtol, flips=flips)
        for (name, ours), theirs in zip(fused.named_buffers(), model.buffers(), strict=True):
            close(ours, theirs, rtol, name)
    return fused


def close(ours: Tensor, theirs: Tensor, rtol: float, name: str = "", flips: float = 0) -> None:
    """Whether all agree, but for a share of ``flips``: what rounding carries over a ReLU's zero."""
    bound = rtol * float(theirs.detach().abs().max().clamp(min=1))
    if flips and ((ours - theirs).abs() > bound).double().mean() <= flips:
        assert (ours - theirs).norm() <= 10 * rtol * theirs.norm()
        return
    torch.testing.assert_close(ours, theirs, rtol=0, atol=bound, msg=lambda m: f"{name} {m}")


def count_ops(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of zoo's ops that chains call from now on."""
    seen: list[str] = []
    for name in ("conv2d", "conv2d_pool", "conv2d_batch_norm"):
        real = getattr(ops, name)

        def call(*args: Any, name: str = name, real: Any = real, **kwargs: Any) -> Any:
            seen.append(name)
            return real(*args, **kwargs)

        monkeypatch.setattr(ops, name, call)
    return seen


def simple() -> Net:
    return Net(lambda m, x: m.relu(m.bn(m.conv(x))))


class Doubling(nn.Module):
    """Changes its input in place, and has no attribute that says so."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mul_(2)


class Untraceable(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.bn(self.conv(x))) if x.sum() > 0 else x
