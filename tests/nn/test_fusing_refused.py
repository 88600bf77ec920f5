"""What a graph of a forward would not tell: refused, and the model left as it was."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
import timm
import torch
from fused_models import Doubling, Net, Untraceable, X, agree, simple
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import zoo
from zoo.nn import fuse_for_training


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


class Calls(nn.Module):
    """A convolution with a forward of the test's choice."""

    def __init__(self, forward: Callable[[Calls, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1)
        self.register_buffer("mean", torch.zeros(1, 4, 1, 1))
        self.seen: list[torch.Tensor] = []
        self.choice = forward

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.choice(self, x)


def _frozen(self: Calls, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        x = F.relu(self.conv(x))
    return self.head(x)


def _in_full(self: Calls, x: torch.Tensor) -> torch.Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return F.relu(self.conv(x))


def _checkpointed(self: Calls, x: torch.Tensor) -> torch.Tensor:
    x = F.relu(self.conv(x))
    return torch.utils.checkpoint.checkpoint(self.head, x, use_reentrant=False)


def _new_buffer(self: Calls, x: torch.Tensor) -> torch.Tensor:
    x = F.relu(self.conv(x))
    self.mean = 0.9 * self.mean + 0.1 * x.detach().mean((0, 2, 3), keepdim=True)
    return x - self.mean


def _kept(self: Calls, x: torch.Tensor) -> torch.Tensor:
    self.seen.append(F.relu(self.conv(x)))
    return self.seen[-1]


@pytest.mark.parametrize(
    ("forward", "reason"),
    [
        (_frozen, "switches gradients or autocast"),
        (_in_full, "switches gradients or autocast"),
        (_checkpointed, "activation checkpointing"),
        (_new_buffer, "changes what is in Calls's buffers"),
        (_kept, "changes what is in Calls's seen"),
    ],
)
def test_what_a_graph_does_not_tell_is_refused(
    forward: Callable[[Calls, torch.Tensor], torch.Tensor], reason: str
) -> None:
    model = Calls(forward)
    before = dict(model._buffers)
    with pytest.raises(zoo.UsageError, match=reason):
        fuse_for_training(model)
    assert dict(model._buffers) == before
    assert model.seen == []
    assert torch.utils.checkpoint.checkpoint is checkpoint


def test_a_slice_of_a_fused_model_computes_what_it_did() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten())
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(fuse_for_training(model)[:2].train()(x), model[:2](x))


@pytest.mark.parametrize(
    "behind",
    [
        [nn.Flatten(), nn.ReLU6(inplace=True)],
        [nn.Identity(), nn.ReLU6(inplace=True)],
        [Doubling()],
        [nn.Sequential(nn.Identity(), Doubling())],
        [timm.layers.DropPath(0.0), nn.ReLU6(inplace=True)],
    ],
    ids=["flatten", "identity", "unknown", "sequence", "timm"],
)
def test_views_of_a_chain_that_are_changed_in_place(behind: list[nn.Module]) -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2), *behind)
    x = torch.randn(2, 3, 10, 10).contiguous(memory_format=torch.channels_last)
    gradients = []
    for each in (model, fuse_for_training(model)):
        model.zero_grad()
        each.train()(x).square().sum().backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    torch.testing.assert_close(gradients[0], gradients[1])


def test_a_head_that_changes_what_is_its_own_leaves_the_chain_before_it() -> None:
    head = nn.Sequential(nn.Flatten(), nn.Linear(72, 8), nn.ReLU(inplace=True), nn.Linear(8, 2))
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2), head)
    fused = fuse_for_training(model)
    assert fused.fused_chains == ["0 + relu + max_pool"]
    assert fused._zoo_fusion.holds(fused)
    head[0] = Doubling()
    assert not fused._zoo_fusion.holds(fused)


def test_what_cannot_be_traced_says_why() -> None:
    for model, reason in (
        (Untraceable(lambda *_: None), "symbolically traced variables cannot be used as inputs"),
        (Net(lambda m, x: m.conv(x) if random.random() < 0.5 else x), "decides by random numbers"),
        (Net(lambda m, x: m.conv(x) + torch.ones(1)), "tensors that do not depend on its input"),
        (Net(lambda m, x: setattr(m, "seen", x) or m.conv(x)), "it sets Net.seen"),
        (Net(lambda m, x: checkpoint(lambda y: m.conv(y), x)), "cannot trace"),
        (nn.DataParallel(simple()), "it is a wrapper"),
    ):
        before, state = dict(vars(model)), random.getstate()
        with pytest.raises(zoo.UsageError, match=reason) as error:
            fuse_for_training(model)
        assert "\n" not in str(error.value)
        assert "cannot be fused for training; train it as it is" in str(error.value)
        assert vars(model) == before
        assert random.getstate() == state
    with pytest.raises(TypeError, match=r"must be an nn\.Module"):
        fuse_for_training(lambda x: x)  # type: ignore[type-var]


def test_activation_checkpointing_is_refused() -> None:
    model = timm.create_model("resnet18")
    model.set_grad_checkpointing()
    with pytest.raises(zoo.UsageError, match="set_grad_checkpointing"):
        fuse_for_training(model)


def test_a_part_that_cannot_be_traced_stays_as_it_is() -> None:
    inner = Untraceable(lambda *_: None)
    model = nn.Sequential(inner, nn.Conv2d(6, 4, 3).double(), nn.ReLU())
    fused = agree(model, X + 10)
    assert fused.fused_chains == ["1 + relu"]
