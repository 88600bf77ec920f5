"""Fused models against the plain ones that they are views of."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import zoo
from zoo import ops
from zoo.nn import FusedConv2d, fuse_for_training

# Each with the size of its images and how many chains there are.
NETWORKS = {
    "cifar/small_cnn": (32, 2),
    "cifar/resnet20": (16, 19),
    "resnet18": (32, 20),
    "mobilenetv3_small_100": (32, 52),
    "efficientnet_b0": (32, 65),
    "regnety_002": (32, 70),
    "densenet121": (32, 59),
    "convnext_atto": (32, 0),
    "vgg11_bn": (32, 8),
}


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def create(name: str) -> nn.Module:
    if name.startswith("cifar/"):
        return zoo.create_model(name)
    if name == "vgg11_bn":  # its own head has 120 million weights
        return nn.Sequential(timm.create_model(name, features_only=False).features, nn.Flatten())
    return timm.create_model(name, num_classes=7)


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


@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name: str) -> None:
    size, chains = NETWORKS[name]
    model = create(name).train()
    x = torch.randn(4, 3, size, size)
    before = dict(model.state_dict(keep_vars=True))
    # The last maps have one pixel: a BatchNorm over four values multiplies what rounding leaves.
    fused = agree(model.double(), x.double(), rtol=1e-7, chains=chains)
    assert fused._zoo_fusion.forward is None or fused._zoo_fusion.holds(fused.train())
    assert list(fused.state_dict()) == list(before)


@pytest.mark.parametrize("name", ["cifar/small_cnn", "cifar/resnet20", "efficientnet_b0"])
@pytest.mark.parametrize("last", [False, True])
def test_networks_in_float32(name: str, last: bool) -> None:
    model = create(name).train()
    x = torch.randn(8, 3, 32, 32)
    if last:
        model.to(memory_format=torch.channels_last)
        x = x.contiguous(memory_format=torch.channels_last)
    agree(model, x, rtol=1e-3, chains=None, flips=0.01)


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


X = torch.randn(2, 3, 8, 8, dtype=torch.float64)
PLAIN = "conv + batch_norm + relu"


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


@pytest.mark.parametrize("forward", [changed_between, changed_between_by_operator])
def test_input_that_changes_within_a_chain(forward: Callable[..., Any]) -> None:
    """With gradients torch itself refuses it."""
    model = Net(forward)
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


def test_train_mode_calls_the_ops_and_eval_mode_the_modules(monkeypatch) -> None:
    fused = fuse_for_training(simple())
    seen = count_ops(monkeypatch)
    fused(X)
    assert seen == ["conv2d_batch_norm"]
    with torch.no_grad():
        fused(X)
    assert len(seen) == 2
    fused.eval()(X)
    assert len(seen) == 2


def test_frozen_batch_norm_uses_its_running_statistics(monkeypatch) -> None:
    model = simple()
    model.bn.eval()
    seen = count_ops(monkeypatch)
    fused = agree(model, X)
    assert not seen
    assert fused.training is False


def test_frozen_stage(monkeypatch) -> None:
    model = zoo.create_model("cifar/resnet20").double()
    fused = fuse_for_training(model)
    fused.layer1.eval()
    seen = count_ops(monkeypatch)
    mean = model.layer1[0].bn1.running_mean.clone()
    fused(torch.randn(2, 3, 8, 8, dtype=torch.float64))
    assert len(seen) == 19 - 6
    assert torch.equal(model.layer1[0].bn1.running_mean, mean)


def test_hooks_run(monkeypatch) -> None:
    model = simple()
    called: list[str] = []
    model.bn.register_forward_hook(lambda *_: called.append("before"))
    agree(model, X, chains=0)
    assert called
    fused = fuse_for_training(simple())
    seen = count_ops(monkeypatch)
    fused.conv.register_forward_hook(lambda *_: called.append("since"))
    fused(X)
    assert (called[-1], seen) == ("since", [])


def test_hooks_on_what_was_traced_through(monkeypatch) -> None:
    fused = fuse_for_training(zoo.create_model("cifar/resnet20"))
    seen = count_ops(monkeypatch)
    called = []
    handle = fused.layer2[0].register_forward_hook(lambda *_: called.append(1))
    fused(torch.randn(2, 3, 8, 8))
    assert (called, seen) == ([1], [])
    handle.remove()
    fused(torch.randn(2, 3, 8, 8))
    assert (called, len(seen)) == ([1], 19)


def test_hooks_on_what_does_nothing() -> None:
    fused = fuse_for_training(timm.create_model("resnet18").train())
    called = []
    fused.layer1[0].drop_block.register_forward_hook(lambda *_: called.append(1))
    fused(torch.randn(2, 3, 32, 32))
    assert called == [1]


def test_parametrizations(monkeypatch) -> None:
    model = simple()
    nn.utils.parametrizations.weight_norm(model.conv)
    agree(model, X, chains=0)
    fused = fuse_for_training(simple())
    nn.utils.parametrizations.weight_norm(fused.conv)
    seen = count_ops(monkeypatch)
    fused(X)
    assert not seen


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


def test_a_module_that_is_replaced(monkeypatch) -> None:
    fused = fuse_for_training(zoo.create_model("cifar/resnet20", num_classes=0))
    x = torch.randn(2, 3, 8, 8)
    assert fused(x).shape == (2, 64)
    fused.reset_classifier(5)
    assert fused(x).shape == (2, 5)
    fused.layer1[0].conv1 = nn.Conv2d(16, 16, 1)
    fused(x).sum().backward()
    assert fused.layer1[0].conv1.weight.grad is not None
    seen = count_ops(monkeypatch)
    fuse_for_training(fused)(x)
    assert len(seen) == 19


def test_attributes_that_change(monkeypatch) -> None:
    model = timm.create_model("resnet18", drop_rate=0.5).train()
    fused = fuse_for_training(model)
    seen = count_ops(monkeypatch)
    x = torch.randn(2, 3, 32, 32)
    fused(x)
    assert len(seen) == 20
    fused.drop_rate = 0.0
    fused(x)
    fused.set_grad_checkpointing()
    fused(x)
    assert len(seen) == 20


def test_to_other_dtypes(monkeypatch) -> None:
    fused = fuse_for_training(simple())
    seen = count_ops(monkeypatch)
    assert fused.float()(X.float()).dtype == torch.float32
    assert len(seen) == 1
    assert fused.bfloat16()(X.bfloat16()).dtype == torch.bfloat16
    assert fused.to("meta")(X.to("meta", torch.bfloat16)).is_meta
    assert len(seen) == 1


def test_autocast() -> None:
    model = simple().float()
    fused = fuse_for_training(copy.deepcopy(model))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours, theirs = step(fused, X.float()), step(model, X.float())
    for one, other in zip(ours, theirs, strict=True):
        assert torch.equal(one, other)


def test_compile_takes_the_models_own_forward() -> None:
    torch._dynamo.reset()
    model = simple()
    fused = fuse_for_training(copy.deepcopy(model))
    compiled = torch.compile(fused, fullgraph=True, backend="aot_eager")
    close(compiled(X), model(X), 1e-9)
    close(fused.bn.running_mean, model.bn.running_mean, 1e-9)
    with pytest.raises(zoo.UsageError, match="it is a wrapper"):
        fuse_for_training(compiled)


def test_function_transforms() -> None:
    fused = fuse_for_training(Net(lambda m, x: m.relu(m.conv(x))))
    weights = {name: value * 2 for name, value in fused.named_parameters()}
    ours = torch.func.functional_call(fused, weights, (X,))
    close(ours, F.relu(F.conv2d(X, weights["conv.weight"], weights["conv.bias"], padding=1)), 1e-9)


def test_other_arguments_take_the_models_own_forward() -> None:
    class Optional(Net):
        def forward(self, x: Tensor, pre_logits: bool = False) -> Tensor:
            y = self.bn(self.conv(x))
            return y if pre_logits else self.relu(y)

    fused = fuse_for_training(Optional(lambda *_: None))
    assert fused.fused_chains == [PLAIN]
    assert fused(X).min() == 0
    assert fused(X, True).min() < 0
    assert fused(x=X).min() == 0


def test_two_inputs() -> None:
    class Two(Net):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return self.relu(self.bn(self.conv(x)) + y)

    model = Two(lambda *_: None)
    fused = fuse_for_training(copy.deepcopy(model))
    y = torch.randn(2, 6, 8, 8, dtype=torch.float64)
    assert fused.fused_chains == ["conv + batch_norm + residual + relu"]
    close(fused(X, y), model(X, y), 1e-9)


def test_fused_conv2d_within_a_model() -> None:
    block = FusedConv2d(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), "relu").double()
    agree(nn.Sequential(block, nn.Conv2d(6, 4, 1).double(), nn.ReLU()), X)
    assert fuse_for_training(block).fused_chains == []


def test_one_value_per_channel_is_refused_as_by_torch() -> None:
    for model in (simple(), fuse_for_training(simple())):
        with pytest.raises(ValueError, match=r"more than (1|one) value per channel"):
            model(torch.randn(1, 3, 1, 1, dtype=torch.float64))


def test_stochastic_depth_and_dropout_draw_as_before() -> None:
    model = timm.create_model("efficientnet_b0", drop_rate=0.3, drop_path_rate=0.5, num_classes=5)
    agree(model.double().train(), torch.randn(4, 3, 32, 32, dtype=torch.float64), chains=None)


class Untraceable(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.bn(self.conv(x))) if x.sum() > 0 else x


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


def test_tensors_of_the_forwards_own_parameters() -> None:
    """A graph refers to parameters and buffers, not to what they were."""

    class Scaled(Net):
        def forward(self, x: Tensor) -> Tensor:
            return self.relu(self.bn(self.conv(x))) * self.gamma.reshape(1, -1, 1, 1) + self.shift

    model = Scaled(lambda *_: None)
    model.gamma = nn.Parameter(torch.ones(6, dtype=torch.float64))
    model.register_buffer("shift", torch.ones(1, dtype=torch.float64))
    fused = fuse_for_training(model)
    before = fused(X)
    with torch.no_grad():
        fused.gamma.mul_(2)
        fused.shift.add_(1)
    close(fused(X), (before - 1) * 2 + 2, 1e-9)
    fused(X).sum().backward()
    fused(X).sum().backward()
    assert fused.gamma.grad is not None


def test_modes_are_left_as_they_were() -> None:
    model = zoo.create_model("cifar/resnet20").eval()
    fused = fuse_for_training(model)
    assert not any(module.training for module in fused.modules())
    fused.train()
    assert all(module.training for module in fused.modules() if module is not model)
