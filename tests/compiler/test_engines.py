"""The installed engines as backends, on real networks; `make test-engines` installs zoo's own."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import zoo
from zoo import backends
from zoo.compiler.optimize import TOLERANCE, difference

ENGINES = ("onnxruntime", "openvino", "openvino-throughput", "ncnn", "mnn", "mnn-exact")
ONE_TENSOR = ("ncnn", "openvino-throughput")  # those that take and return nothing else


@pytest.fixture(params=ENGINES)
def name(request: pytest.FixtureRequest) -> str:
    if request.param not in backends.usable():
        pytest.skip("not installed")
    return request.param


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@torch.no_grad()
def test_a_network_and_another_size(name: str) -> None:
    model = zoo.create_model("cifar/small_cnn").eval()
    fast = zoo.optimize(model, torch.randn(1, 3, 32, 32), backend=name)
    assert (fast.backend, fast.reason) == (name, None)
    assert fast.network is not None
    for batch in (1, 3):
        x = torch.randn(batch, 3, 32, 32).contiguous(memory_format=torch.channels_last)
        assert difference(fast.network(x), model(x)) <= TOLERANCE


@torch.no_grad()
def test_outputs_stay(name: str) -> None:
    """What was returned before is not written to by a later call."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval()
    first, second = torch.randn(7, 3, 8, 8), torch.randn(7, 3, 8, 8)
    run = backends.prepare(backends.find(name), model, (first,), {})
    got = run(first)
    assert difference(run(second), model(second)) <= TOLERANCE
    assert difference(got, model(first)) <= TOLERANCE


class Nested(nn.Module):
    """Inputs by name, and outputs in a structure."""

    def forward(self, x: Tensor, scale: Tensor) -> dict[str, object]:
        return {"a": [x.relu() * scale], "b": x.sum() + scale, "c": None}


def test_structures(name: str) -> None:
    model, x, scale = Nested().eval(), torch.randn(2, 3, 8, 8), torch.randn(1, 3, 1, 1)
    if name in ONE_TENSOR:
        with pytest.raises(zoo.ZooError, match="a batch of images, and nothing beside it"):
            backends.prepare(backends.find(name), model, (x,), {"scale": scale})
        return
    run = backends.prepare(backends.find(name), model, (x,), {"scale": scale})
    assert difference(run(x, scale=scale), model(x, scale)) <= TOLERANCE


def test_what_onnx_cannot_say_is_one_line(name: str) -> None:
    class Values(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.linalg.svdvals(x)

    with pytest.raises(zoo.ZooError) as caught:
        backends.prepare(backends.find(name), Values().eval(), (torch.randn(1, 3, 8, 8),), {})
    assert "torch.onnx cannot export it" in str(caught.value)
    assert "\n" not in str(caught.value)
