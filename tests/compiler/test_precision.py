"""Layers that have to do without Winograd's method."""

from __future__ import annotations

import sys
from collections.abc import Collection

import pytest
import torch
from graphs import Function, randomise
from torch import Tensor, nn

import zoo
from zoo.compiler.optimize import difference
from zoo.compiler.precision import inexact_layers

COST = {"a": 3e-6, "b": 9e-5, "c": 2e-5, "d": 1e-6}


def summed(without: Collection[str]) -> float:
    return 1e-6 + sum(each for layer, each in COST.items() if layer not in without)


def test_the_least_inexact_layers_keep_it():
    assert inexact_layers(COST, summed, 1e-4) == pytest.approx({"b": 9e-5})
    assert inexact_layers(COST, summed, 2e-5) == pytest.approx({"c": 2e-5, "b": 9e-5})


def test_no_layer_keeps_it_where_errors_grow_together():
    def error(without: Collection[str]) -> float:
        return summed(without) * (100 if len(COST) - len(without) > 1 else 1)

    assert inexact_layers(COST, error, 1e-4) == pytest.approx(COST)


def test_there_is_no_choice_where_the_error_is_another():
    assert inexact_layers(COST, summed, 5e-7) is None


def uneven() -> nn.Module:
    """What the first convolution gets wrong hardly reaches the output."""

    def run(self: nn.Module, x: Tensor) -> Tensor:
        return self.second(x + 0.001 * self.first(x).relu())

    first, second = (nn.Conv2d(64, 64, 3, padding=1, bias=False) for _ in range(2))
    return randomise(Function(run, first=first, second=second))


@torch.no_grad()
def test_only_the_layer_that_needs_it_is_exact(monkeypatch: pytest.MonkeyPatch):
    module, x = uneven(), torch.randn(1, 64, 56, 56)
    errors = [
        difference(zoo.optimize(module, x, keep="zoo", precision=precision)(x), module(x))
        for precision in ("default", "exact")
    ]
    assert errors[0] > 2 * errors[1]
    monkeypatch.setattr(sys.modules["zoo.compiler.optimize"], "TOLERANCE", sum(errors) / 2)
    with pytest.warns(UserWarning, match=r"conv2d\S* \(\de-0\d\) run without Winograd") as caught:
        fast = zoo.optimize(module, x, keep="zoo")
    assert len(caught) == 1
    assert str(caught[0].message).count("conv2d") == 1
    for size in (56, 64):  # captured or planned anew, the choice holds
        layers = fast.report(torch.randn(2, 64, size, size)).layers
        first, second = (layer.kernel for layer in layers if layer.op == "conv2d")
        assert first.startswith("winograd")
        assert not second.startswith("winograd")


@torch.no_grad()
def test_precision_that_the_module_asks_for():
    def run(self: nn.Module, x: Tensor) -> Tensor:
        return zoo.ops.conv2d(x, self.conv.weight, padding=1, precision="exact")

    module, x = Function(run, conv=nn.Conv2d(64, 64, 3)).eval(), torch.randn(1, 64, 28, 28)
    (layer,) = zoo.optimize(module, x, keep="zoo").report(x).layers
    assert not layer.kernel.startswith("winograd")
