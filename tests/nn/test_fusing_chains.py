"""Which chains are found in a forward, and that they compute what its modules do."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from fused_models import PLAIN, Doubling, Net, X, agree, close
from torch import Tensor, nn
from torch.nn import functional as F

from zoo import ops
from zoo.nn import FusedConv2d, fuse_for_training


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def in_place(m: Net, x: Tensor) -> Tensor:
    y = m.bn(m.conv(x))
    y += m.other(x)
    return y.relu_()


def in_place_on_the_other(m: Net, x: Tensor) -> Tensor:
    shortcut = m.other(x)
    seen = shortcut * 2
    shortcut += m.bn(m.conv(x))
    return F.relu(shortcut) + seen + shortcut


def changed_between(m: Net, x: Tensor) -> Tensor:
    x = x * 1
    y = m.conv(x)
    x.mul_(2)
    return F.relu(m.bn(y) + m.other(x))


def changed_between_by_operator(m: Net, x: Tensor) -> Tensor:
    x = x * 1
    y, part = m.conv(x), x[:, :2]
    part *= 2
    return F.relu(m.bn(y) + m.other(x))


def changed_between_by_module(m: Net, x: Tensor) -> Tensor:
    x = x * 1
    y, _ = m.conv(x), m.doubling(x)
    return F.relu(m.bn(y) + m.other(x))


def changed_between_in_sequence(m: Net, x: Tensor) -> Tensor:
    x = x * 1
    y, _ = m.conv(x), m.sequence(x)
    return F.relu(m.bn(y) + m.other(x))


def changed_between_by_name(m: Net, x: Tensor) -> Tensor:
    x = x * 1
    y, _ = m.conv(x), F.relu(input=x, inplace=True)
    return F.relu(m.bn(y) + m.other(x))


def changed_between_as_out(m: Net, x: Tensor) -> Tensor:
    x = x * 1
    y, _ = m.conv(x), torch.mul(x, 2, out=x)
    return F.relu(m.bn(y) + m.other(x))


def changed_since_the_sum(m: Net, x: Tensor) -> Tensor:
    y, other = m.conv(x), m.other(x)
    total = m.bn(y) + other
    other.mul_(2)
    return F.relu(total) + other


def newer_changed_between(m: Net, x: Tensor) -> Tensor:
    y, other = m.conv(x), m.other(x)
    other = F.relu(other, inplace=True)
    return F.relu(m.bn(y) + other)


# What a forward does, and the chains that come of it.
FORWARDS: dict[str, tuple[Callable[[Any, Tensor], Tensor], list[str]]] = {
    "modules": (lambda m, x: m.relu(m.bn(m.conv(x))), [PLAIN]),
    "functions": (lambda m, x: F.relu(m.bn(m.conv(x)), inplace=True), [PLAIN]),
    "in place by position": (lambda m, x: F.relu(m.bn(m.conv(x)), True), [PLAIN]),
    "torch.relu": (lambda m, x: torch.relu(m.bn(m.conv(x))), [PLAIN]),
    "method": (lambda m, x: m.bn(m.conv(x)).relu(), [PLAIN]),
    "residual": (
        lambda m, x: F.relu(m.bn(m.conv(x)) + m.other(x)),
        ["conv + batch_norm + residual + relu"],
    ),
    "residual on the left": (
        lambda m, x: F.relu(m.other(x) + m.bn(m.conv(x))),
        ["conv + batch_norm + residual + relu"],
    ),
    "torch.add": (
        lambda m, x: torch.add(m.bn(m.conv(x)), m.other(x)),
        ["conv + batch_norm + residual"],
    ),
    "in place": (in_place, ["conv + batch_norm + residual + relu"]),
    "in place on the other": (in_place_on_the_other, ["conv + batch_norm"]),
    "newer changed between": (
        newer_changed_between,
        ["conv + batch_norm + residual + relu", "other + relu"],
    ),
    "changed since the sum": (changed_since_the_sum, ["conv + batch_norm"]),
    "alpha": (
        lambda m, x: torch.add(m.bn(m.conv(x)), m.other(x), alpha=2),
        ["conv + batch_norm"],
    ),
    "a number": (lambda m, x: F.relu(m.bn(m.conv(x)) + 1), ["conv + batch_norm"]),
    "itself": (lambda m, x: (lambda y: F.relu(y + y))(m.bn(m.conv(x))), ["conv + batch_norm"]),
    "broadcast": (
        lambda m, x: F.relu(m.bn(m.conv(x)) + m.other(x).mean((2, 3), keepdim=True)),
        ["conv + batch_norm + residual + relu"],
    ),
    "silu": (lambda m, x: F.silu(m.bn(m.conv(x))), ["conv + batch_norm + silu"]),
    "silu behind a residual": (
        lambda m, x: F.silu(m.bn(m.conv(x)) + m.other(x)),
        ["conv + batch_norm + residual"],
    ),
    "silu without BatchNorm": (lambda m, x: F.silu(m.conv(x)), []),
    "gelu by tanh": (
        lambda m, x: F.gelu(m.bn(m.conv(x)), approximate="tanh"),
        ["conv + batch_norm"],
    ),
    "leaky_relu": (lambda m, x: F.leaky_relu(m.conv(x), 0.01), ["conv + leaky_relu"]),
    "another slope": (lambda m, x: F.leaky_relu(m.conv(x), 0.2, True), []),
    "pool": (lambda m, x: F.max_pool2d(F.relu(m.conv(x)), 2), ["conv + relu + max_pool"]),
    "pool alone": (lambda m, x: F.max_pool2d(m.conv(x), 2, 2), ["conv + max_pool"]),
    "pool of 3x3": (lambda m, x: F.max_pool2d(F.relu(m.conv(x)), 3, 2), ["conv + relu"]),
    "pool behind BatchNorm": (lambda m, x: F.max_pool2d(F.relu(m.bn(m.conv(x))), 2), [PLAIN]),
    "residual without BatchNorm": (
        lambda m, x: F.relu(m.conv(x) + m.other(x)),
        ["conv + residual + relu"],
    ),
    "used elsewhere": (
        lambda m, x: (lambda y: F.relu(m.bn(y)) + y)(m.conv(x)),
        [],
    ),
    "used elsewhere later": (
        lambda m, x: (lambda y: F.relu(y) + y)(m.bn(m.conv(x))),
        ["conv + batch_norm"],
    ),
    "changed afterwards": (lambda m, x: F.relu6(m.bn(m.conv(x))).mul_(2), ["conv + batch_norm"]),
    "called twice": (lambda m, x: m.relu(m.bn(m.conv(x)) + m.bn(m.conv(x + 1))), []),
    "a convolution called twice": (lambda m, x: m.relu(m.conv(x)) + m.relu(m.conv(x + 1)), []),
    "dropout": (
        lambda m, x: F.relu(F.dropout(m.bn(m.conv(x)), 0.5, training=m.training)),
        ["conv + batch_norm"],
    ),
    "tuple of outputs": (
        lambda m, x: torch.cat([m.bn(m.conv(x)), m.relu(m.other(x))], 1),
        ["conv + batch_norm", "other + relu"],
    ),
}


@pytest.mark.parametrize("name", FORWARDS)
def test_forwards(name: str) -> None:
    forward, chains = FORWARDS[name]
    model = Net(forward)
    fused = agree(model, X, chains=None)
    assert fused.fused_chains == chains


@pytest.mark.parametrize(
    "forward",
    [
        changed_between,
        changed_between_by_operator,
        changed_between_by_module,
        changed_between_in_sequence,
        changed_between_by_name,
        changed_between_as_out,
    ],
)
def test_input_that_changes_within_a_chain(forward: Callable[..., Any]) -> None:
    """With gradients torch itself refuses it."""
    sequence = nn.Sequential(nn.Flatten(), nn.ReLU(inplace=True), nn.Softmax(1))
    model = Net(forward, doubling=Doubling(), sequence=sequence)
    fused = fuse_for_training(copy.deepcopy(model))
    assert fused.fused_chains == ["other + residual + relu"]
    with torch.no_grad():
        close(fused(X), model(X), 1e-9)


@pytest.mark.parametrize("activation", ops.ACTIVATIONS)
def test_every_activation(activation: str) -> None:
    kinds = {
        "none": nn.Identity(), "relu": nn.ReLU(inplace=True), "relu6": nn.ReLU6(),
        "sigmoid": nn.Sigmoid(), "tanh": nn.Tanh(), "silu": nn.SiLU(), "gelu": nn.GELU(),
        "hardswish": nn.Hardswish(inplace=True), "hardsigmoid": nn.Hardsigmoid(),
        "leaky_relu": nn.LeakyReLU(),
    }  # fmt: skip
    # The sixth in PyTorch's own gradient of hardsigmoid is a float32.
    rtol = 1e-7 if activation == "hardsigmoid" else 1e-9
    fused = agree(Net(lambda m, x: m.act(m.bn(m.conv(x))), act=kinds[activation]), X, rtol)
    expected = "conv + batch_norm"
    assert fused.fused_chains == [
        expected if activation == "none" else f"{expected} + {activation}"
    ]


@pytest.mark.parametrize(
    "bn",
    [
        nn.BatchNorm2d(6, affine=False),
        nn.BatchNorm2d(6, momentum=None),
        nn.BatchNorm2d(6, track_running_stats=False),
        nn.BatchNorm2d(6, eps=0.1, momentum=0.5),
        timm.layers.BatchNormAct2d(6),
        timm.layers.BatchNormAct2d(6, act_layer="silu", momentum=None),
        timm.layers.BatchNormAct2d(6, apply_act=False),
    ],
    ids=str,
)
def test_batch_norms(bn: nn.BatchNorm2d) -> None:
    fused = agree(Net(lambda m, x: m.relu(m.bn(m.conv(x)) + m.other(x)), bn=bn), X, chains=None)
    assert fused.fused_chains[0].startswith("conv + batch_norm + ")


def test_norm_acts_that_vary_are_left_alone() -> None:
    dropping = timm.layers.BatchNormAct2d(6, drop_layer=nn.Dropout)
    frozen = timm.layers.FrozenBatchNormAct2d(6)
    grouped = timm.layers.GroupNormAct(6, 2)
    for norm in (dropping, frozen, grouped):
        agree(Net(lambda m, x: m.bn(m.conv(x)), bn=norm), X, chains=0)


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(3, 6, 3, padding=1, padding_mode="reflect"),
        timm.layers.Conv2dSame(3, 6, 3),
        timm.layers.StdConv2d(3, 6, 3, padding=1),
    ],
    ids=str,
)
def test_other_convolutions_are_left_alone(conv: nn.Conv2d) -> None:
    agree(Net(lambda m, x: m.relu(m.bn(m.conv(x))), conv=conv), X, chains=0)


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": (3, 5), "padding": "same"},
        {"kernel_size": 3, "padding": "valid"},
        {"kernel_size": 3, "stride": 2, "padding": (1, 2), "dilation": 2, "groups": 3},
        {"kernel_size": 1, "bias": False},
    ],
    ids=str,
)
def test_every_kind_of_convolution(options: dict[str, Any]) -> None:
    conv, twin = nn.Conv2d(3, 6, **options), nn.Conv2d(3, 6, **options)
    model = Net(lambda m, x: m.relu(m.bn(m.conv(x)) + m.twin(x)), conv=conv, twin=twin)
    fused = agree(model, X)
    called = []
    handle = fused.conv.register_forward_hook(lambda *_: called.append(1))
    handle.remove()
    assert fused.fused_chains == ["conv + batch_norm + residual + relu"]
    assert not called


def test_fused_conv2d_within_a_model() -> None:
    block = FusedConv2d(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), "relu").double()
    agree(nn.Sequential(block, nn.Conv2d(6, 4, 1).double(), nn.ReLU()), X)
    assert fuse_for_training(block).fused_chains == []
