"""torch.compile(backend="zoo")."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch._inductor.config
from graphs import Function, randomise
from torch import Tensor, nn
from torch._dynamo.exc import BackendCompilerFailed

import zoo
from zoo.compiler import dynamo

OPTIONS = {"keep": "zoo"}  # whatever is faster on this machine


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    yield
    torch._dynamo.reset()


@pytest.fixture(autouse=True)
def as_it_is_is_an_error() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*runs as it is")
        yield


@pytest.fixture(params=[False, True], ids=["given", "frozen"])
def weights(request: pytest.FixtureRequest) -> Iterator[None]:
    """Dynamo passes weights to the graph, or keeps them in it, as inductor's `freezing` has it."""
    with torch._inductor.config.patch(freezing=request.param):
        yield


def compiled(module: nn.Module) -> nn.Module:
    return torch.compile(module, backend="zoo", options=OPTIONS)


def network() -> nn.Module:
    def run(self: nn.Module, x: Tensor) -> dict[str, object]:
        maps = self.bn(self.conv(x)).relu() * self.constant + self.shift
        return {"maps": maps, "count": 2 * x.shape[0], "mean": maps.mean((2, 3))}

    module = Function(run, conv=nn.Conv2d(3, 8, 3), bn=nn.BatchNorm2d(8))
    module.constant = torch.randn(8, 1, 1)  # a tensor that is neither parameter nor buffer
    module.register_buffer("shift", torch.randn(8, 1, 1))
    return randomise(module)


def test_dynamo_knows_its_name():
    assert "zoo" in torch._dynamo.list_backends()
    assert torch._dynamo.lookup_backend("zoo") is dynamo.zoo


@torch.no_grad()
def test_sizes_that_change():
    module = network()
    fast = compiled(module)
    for shape in [(1, 3, 16, 16), (2, 3, 16, 16), (5, 3, 16, 16), (2, 3, 24, 20), (1, 3, 16, 16)]:
        x = torch.randn(shape)
        torch.testing.assert_close(fast(x), module(x), rtol=1e-5, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("batch", [1, 2])
def test_layouts_that_change(batch: int):
    module = network()
    fast = compiled(module)
    for size in (16, 24, 20):
        x = torch.randn(batch, 3, size, size)
        for each in (x, x.to(memory_format=torch.channels_last), x.mT):
            torch.testing.assert_close(fast(each), module(each), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_a_batch_that_changes_is_not_captured_anew(monkeypatch: pytest.MonkeyPatch):
    module, calls = network(), []
    optimize = dynamo.optimize

    def counting(*args: object, **kwargs: object) -> object:
        calls.append(optimize(*args, **kwargs))
        return calls[-1]

    monkeypatch.setattr(dynamo, "optimize", counting)
    fast = torch.compile(module, backend="zoo", options=OPTIONS, dynamic=True)
    for batch in (2, 3, 4, 5):
        fast(torch.randn(batch, 3, 16, 16))
    assert len(calls) == 1
    assert len(calls[0].network.captured) == 1


@pytest.mark.usefixtures("weights")
@torch.no_grad()
def test_changed_weights_are_seen():
    module = network()
    fast, x = compiled(module), torch.randn(2, 3, 16, 16)
    fast(x)
    module.conv.weight.mul_(2)
    torch.testing.assert_close(fast(x), module(x), rtol=1e-5, atol=1e-5)
    module.load_state_dict(network().state_dict())
    torch.testing.assert_close(fast(x), module(x), rtol=1e-5, atol=1e-5)


def test_gradients_are_left_to_pytorch():
    module = network()
    fast, x = compiled(module), torch.randn(2, 3, 16, 16)
    with pytest.warns(UserWarning, match="gradients are wanted; call it under torch.no_grad"):
        fast(x)["mean"].sum().backward()
    assert module.conv.weight.grad is not None
    with torch.inference_mode():
        torch.testing.assert_close(fast(x), module(x), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_training_mode_is_left_to_pytorch():
    module = network().train()
    fast, x = compiled(module), torch.randn(4, 3, 16, 16)
    before = module.bn.running_mean.clone()
    with pytest.warns(UserWarning, match="runs as it is"):
        fast(x)
    assert not torch.equal(module.bn.running_mean, before)


@torch.no_grad()
def test_changes_of_state_happen_once_at_each_call():
    def count(self: nn.Module, x: Tensor) -> Tensor:
        self.calls.add_(1)
        return self.bn(x.add_(1))

    module = Function(count, bn=nn.BatchNorm2d(3))
    module.register_buffer("calls", torch.zeros(()))
    twin = copy.deepcopy(module).train()
    fast, x = compiled(module.train()), torch.randn(4, 3, 8, 8)
    for calls in (1, 2):
        same = x.clone()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.testing.assert_close(fast(x), twin(same))
        assert torch.equal(x, same)
        assert module.calls == calls
        for name, value in twin.state_dict().items():
            torch.testing.assert_close(module.state_dict()[name], value)


@pytest.mark.usefixtures("weights")
@torch.no_grad()
def test_statistics_of_batches_that_went_by_are_seen():
    module = network()
    fast, x = compiled(module), torch.randn(2, 3, 16, 16)
    fast(x)
    module.train()(5 * x + 1)  # PyTorch does not count this as a change of running_mean
    module.eval()
    torch.testing.assert_close(fast(x), module(x), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_weights_written_through_data_are_seen_by_new_sizes():
    module = network()
    fast = compiled(module)
    for size in (16, 20, 24):
        x = torch.randn(2, 3, size, size)
        torch.testing.assert_close(fast(x), module(x), rtol=1e-5, atol=1e-5)
        module.conv.weight.data.mul_(2)


def test_weights_of_inference_mode_are_left_to_pytorch():
    with torch.inference_mode():
        module, x = network(), torch.randn(2, 3, 16, 16)
        fast = compiled(module)
        with pytest.warns(UserWarning, match="made under inference_mode"):
            torch.testing.assert_close(fast(x), module(x))


@torch.no_grad()
def test_graph_breaks():
    def run(self: nn.Module, x: Tensor) -> Tensor:
        y = self.one(x).relu()
        torch._dynamo.graph_break()
        return self.two(y).relu()

    module = randomise(Function(run, one=nn.Conv2d(3, 8, 3), two=nn.Conv2d(8, 4, 3)))
    x = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(compiled(module)(x), module(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"options": {"speed": "high"}}, "known are keep, precision"),
        ({"options": {"keep": "faster", "precision": "high"}}, "precision is 'default' or 'exact'"),
        ({"mode": "max-autotune"}, "no modes, such as 'max-autotune'"),
    ],
)
def test_unknown_options(how: dict[str, Any], message: str):
    fast = torch.compile(network(), backend="zoo", **how)
    with torch.no_grad(), pytest.raises(Exception, match=message) as caught:
        fast(torch.randn(1, 3, 16, 16))
    error = caught.value
    if isinstance(error, BackendCompilerFailed):  # at its first call the graph runs without dynamo
        error = error.inner_exception
    assert isinstance(error, zoo.UsageError)
