"""A fused model is the model: what it shares with it, and what comes of its copies."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import pytest
import timm
import torch
from fused_models import PLAIN, X, count_ops, images, simple
from torch import nn

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


def saved(*objects: Any) -> Any:
    """What torch.save and torch.load make of them."""
    file = io.BytesIO()
    torch.save(objects, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def test_pickles_are_traced_anew(monkeypatch) -> None:
    model = zoo.create_model("cifar/resnet20").train()
    fused = fuse_for_training(model)
    x = images(2, 3, 8, 8, dtype=torch.float32)
    twin, plain = saved(fused, model)
    assert isinstance(twin, type(model))
    assert twin.fused_chains == fused.fused_chains
    assert all(map(lambda a, b: a is b, twin.parameters(), plain.parameters()))
    seen = count_ops(monkeypatch)
    outputs = [each(x) for each in (twin, fused)]
    assert len(seen) == 2 * 19
    assert torch.equal(*outputs)
    assert type(plain) is type(model)
    again = pickle.loads(pickle.dumps(twin, protocol=0))
    assert again.fused_chains == fused.fused_chains


def test_copies_of_copies_and_pickles(monkeypatch) -> None:
    fused = saved(fuse_for_training(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())))[0]
    for twin in (copy.deepcopy(fused), copy.copy(fused), fuse_for_training(fused)):
        assert twin.fused_chains == ["0 + relu"]
        assert (twin[0] is fused[0]) == (twin[0].weight is fused[0].weight)
        seen = count_ops(monkeypatch)
        twin(images(1, 3, 4, 4, dtype=torch.float32))
        assert seen == ["conv2d"]
        monkeypatch.undo()


def test_a_pickle_that_cannot_be_traced_runs_as_it_is(monkeypatch) -> None:
    fused = fuse_for_training(timm.create_model("resnet18").train())
    fused.set_grad_checkpointing()
    (twin,) = saved(fused)
    seen = count_ops(monkeypatch)
    twin(images(2, 3, 32, 32, dtype=torch.float32)).sum().backward()
    assert not seen
    assert not twin.fused_chains
