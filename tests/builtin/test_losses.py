"""The plugin ``zoo``'s losses."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

import zoo

each_loss = pytest.mark.parametrize(
    ("name", "kwargs"),
    [("cross_entropy", {}), ("cross_entropy", {"label_smoothing": 0.1}), ("mse", {})],
)


@each_loss
@given(samples=st.integers(1, 6), classes=st.integers(2, 12), seed=st.integers(0, 2**20))
def test_soft_equals_index_on_one_hot(name, kwargs, samples, classes, seed) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(samples, classes, generator=generator)
    target = torch.randint(classes, (samples,), generator=generator)
    loss = zoo.create_loss(f"zoo/{name}", **kwargs)
    one_hot = F.one_hot(target, classes).float()
    torch.testing.assert_close(loss(logits, target), loss(logits, one_hot))


@each_loss
def test_gradient_is_right(name, kwargs) -> None:
    logits = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    soft = torch.rand(3, 4, dtype=torch.float64).softmax(1)
    loss = zoo.create_loss(f"zoo/{name}", **kwargs)
    assert torch.autograd.gradcheck(lambda x: loss(x, torch.tensor([0, 3, 1])), logits)
    assert torch.autograd.gradcheck(lambda x: loss(x, soft), logits)


def test_label_smoothing_is_the_cross_entropy_with_a_smoothed_target() -> None:
    logits, target = torch.randn(5, 10), torch.randint(10, (5,))
    smoothed = F.one_hot(target, 10) * 0.9 + 0.1 / 10
    loss = zoo.create_loss("zoo/cross_entropy", label_smoothing=0.1)(logits, target)
    torch.testing.assert_close(loss, zoo.create_loss("zoo/cross_entropy")(logits, smoothed))


def test_mse_by_hand() -> None:
    logits = torch.tensor([[0.0, 2.0], [1.0, 1.0]])
    loss = zoo.create_loss("zoo/mse")
    assert loss(logits, torch.tensor([1, 0])).item() == pytest.approx((0 + 1 + 0 + 1) / 4)
    assert loss(logits, torch.tensor([[0, 1], [1, 0]])).item() == pytest.approx(0.5)


@pytest.mark.parametrize("target", [torch.zeros(2, 4), torch.zeros(2), torch.zeros(4, 3)])
def test_mse_refuses_targets_that_would_broadcast(target) -> None:
    with pytest.raises(ValueError, match="mse: target of shape"):
        zoo.create_loss("zoo/mse")(torch.zeros(2, 3), target)
