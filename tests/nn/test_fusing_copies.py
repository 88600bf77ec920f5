"""A fused model is the model: what it shares with it, and what comes of its copies."""

from __future__ import annotations

import copy

import pytest
import torch
from fused_models import PLAIN, X, count_ops, simple

import zoo
from zoo.nn import fuse_for_training


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def test_same_objects_and_names() -> None:
    model = zoo.create_model("cifar/resnet20")
    fused = fuse_for_training(model)
    for kind in ("named_parameters", "named_buffers"):
        ours, theirs = (dict(getattr(each, kind)()) for each in (fused, model))
        assert list(ours) == list(theirs)
        assert all(ours[name] is theirs[name] for name in ours)
    ours, theirs = dict(fused.named_modules()), dict(model.named_modules())
    assert list(ours) == list(theirs)
    assert all(ours[name] is theirs[name] for name in ours if name)
    assert isinstance(fused, type(model))
    assert type(fused).__name__ == "CifarResNet"
    assert fused.forward_features(torch.randn(2, 3, 8, 8)).shape == (2, 64, 2, 2)
    assert fused.num_classes == 10
    assert str(fused) == str(model)
    assert "fused_chains" not in vars(model)
    fused.load_state_dict(zoo.create_model("cifar/resnet20").state_dict())
    assert torch.equal(fused.conv1.weight, model.conv1.weight)


def test_copies_are_independent(monkeypatch) -> None:
    fused = fuse_for_training(simple())
    twin = copy.deepcopy(fused)
    before = fused(X)
    with torch.no_grad():
        twin.conv.weight.zero_()
        twin.bn.weight.zero_()
    seen = count_ops(monkeypatch)
    twin(X).sum().backward()
    assert seen == ["conv2d_batch_norm"]
    assert fused.conv.weight.grad is None
    assert torch.equal(fused(X), before)
    assert not torch.equal(twin(X), before)


def test_fused_twice() -> None:
    once = fuse_for_training(simple())
    twice = fuse_for_training(once)
    assert twice.fused_chains == once.fused_chains == [PLAIN]
    assert torch.equal(twice(X), once(X))
