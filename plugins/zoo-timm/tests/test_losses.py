"""timm's losses through zoo: what each accepts is what it declares."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F
from zoo_timm import zoo_losses

import zoo

SPECS = {spec.name: spec for spec in zoo_losses()}
ARGUMENTS = {
    "binary_cross_entropy": {"smoothing": 0.0},
    "distribution_balanced": {"class_counts": [5, 1, 3, 2, 4, 6], "num_samples": 21},
}
SAMPLES, CLASSES = 9, 6


def create(name: str):
    return zoo.create_loss(f"timm/{name}", **ARGUMENTS.get(name, {}))


def kinds(spec: zoo.Loss) -> tuple[str, ...]:
    return (spec.target,) if isinstance(spec.target, str) else spec.target


def make_target(kind: str) -> torch.Tensor:
    if kind == "index":
        # jsd_cross_entropy compares three views of the same images, one after the other.
        return torch.randint(CLASSES, (SAMPLES // 3,)).repeat(3)
    if kind == "soft":
        return torch.rand(SAMPLES, CLASSES).softmax(1)
    return torch.randint(2, (SAMPLES, CLASSES)).float()


@pytest.mark.parametrize(("name", "kind"), [(n, k) for n, s in SPECS.items() for k in kinds(s)])
def test_value_and_gradient_are_finite(name: str, kind: str) -> None:
    loss, target = create(name), make_target(kind)
    logits = torch.randn(SAMPLES, CLASSES, requires_grad=True)
    value = loss(logits, target)
    assert value.shape == ()
    value.backward()
    assert value.isfinite()
    assert logits.grad.isfinite().all()
    assert logits.grad.any()


@pytest.mark.parametrize("name", [n for n, s in SPECS.items() if {"index", "soft"} <= {*kinds(s)}])
def test_soft_equals_index_on_one_hot(name: str) -> None:
    loss, target = create(name), make_target("index")
    logits = torch.randn(SAMPLES, CLASSES)
    one_hot = F.one_hot(target, CLASSES).float()
    torch.testing.assert_close(loss(logits, target), loss(logits, one_hot))


@pytest.mark.parametrize("name", SPECS)
def test_a_better_answer_costs_less(name: str) -> None:
    loss, kind = create(name), kinds(SPECS[name])[0]
    target = make_target(kind)
    dense = F.one_hot(target, CLASSES).float() if kind == "index" else target
    right = 4 * dense.sub(dense.mean(1, keepdim=True))
    assert loss(right, target) < loss(-right, target)
