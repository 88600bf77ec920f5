"""What a fused model does once it, or what it is given, is no longer what was traced."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from fused_models import PLAIN, Net, X, agree, close, count_ops, images, simple, step
from torch import Tensor, nn
from torch.nn import functional as F

import zoo
from zoo.nn import fuse_for_training


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


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
    fused(images(2, 3, 8, 8))
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
    fused(images(2, 3, 8, 8, dtype=torch.float32))
    assert (called, seen) == ([1], [])
    handle.remove()
    fused(images(2, 3, 8, 8, dtype=torch.float32))
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


def test_a_module_that_is_replaced(monkeypatch) -> None:
    fused = fuse_for_training(zoo.create_model("cifar/resnet20", num_classes=0))
    x = images(2, 3, 8, 8, dtype=torch.float32)
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
    x = images(2, 3, 32, 32, dtype=torch.float32)
    fused(x)
    assert len(seen) == 20
    fused.drop_rate = 0.0
    fused(x)
    fused.set_grad_checkpointing()
    fused(x)
    assert len(seen) == 20


class Choosing(Net):
    """A forward that decides by what is in collections."""

    def __init__(self, choice: Any) -> None:
        super().__init__(lambda *_: None)
        self.choice = choice

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.conv(x))
        return self.relu(x) if "relu" in str(self.choice) else x


@pytest.mark.parametrize(
    ("choice", "change"),
    [
        (["relu", 1], lambda m: m.choice.clear()),
        ({"after": ["relu"]}, lambda m: m.choice["after"].pop()),
        (({"relu"},), lambda m: m.choice[0].clear()),
        (nn.ReLU, lambda m: setattr(m, "choice", nn.Identity)),
    ],
    ids=["list", "nested", "set", "class"],
)
def test_collections_that_change(choice: Any, change: Callable[..., Any], monkeypatch) -> None:
    if choice is nn.ReLU:
        monkeypatch.setattr(nn.ReLU, "__module__", "relu")
    fused = fuse_for_training(Choosing(choice))
    assert fused.fused_chains == [PLAIN]
    seen = count_ops(monkeypatch)
    assert fused(X).min() == 0
    assert fuse_for_training(copy.deepcopy(fused))(X).min() == 0
    assert copy.deepcopy(fused)(X).min() == 0
    assert len(seen) == 3
    change(fused)
    assert fused(X).min() < 0
    assert len(seen) == 3


def test_a_pool_that_changes(monkeypatch) -> None:
    model = Net(lambda m, x: m.pool(m.relu(m.conv(x))), pool=nn.MaxPool2d(2))
    fused = fuse_for_training(model)
    seen = count_ops(monkeypatch)
    assert fused(X).shape[2:] == (4, 4)
    for name, value, size in (("stride", 1, 7), ("kernel_size", 3, 6), ("padding", 1, 8)):
        setattr(fused.pool, name, value)
        assert fused(X).shape[2:] == (size, size)
        close(fused(X), model(X), 1e-9)
    assert seen == ["conv2d_pool"]


def test_a_module_that_works_in_place_since() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        x = x * 1
        y = m.conv(x)
        return m.bn(y) + m.relu(x).sum()

    fused = fuse_for_training(Net(forward))
    assert fused.fused_chains == ["conv + batch_norm + residual"]
    with torch.no_grad():
        before = fused(X)
        fused.relu.inplace = True
        close(fused(X), before, 1e-9)


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


@pytest.mark.filterwarnings(
    "ignore::torch.jit.TracerWarning", "ignore:.*is deprecated:FutureWarning"
)
def test_traced_and_exported() -> None:
    fused = fuse_for_training(Net(lambda m, x: m.relu(m.conv(x)))).train()
    for graph in (torch.jit.trace(fused, X), torch.export.export(fused, (X,)).module()):
        close(graph(X), fused(X), 1e-9)


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
