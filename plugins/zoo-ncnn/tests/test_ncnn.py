"""The real engine on real networks; skipped where it is not installed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import zoo
from zoo import backends
from zoo.compiler.optimize import difference

pytest.importorskip("ncnn")
pytest.importorskip("pnnx")
pytest.importorskip("onnxscript")
backend = pytest.importorskip("zoo_ncnn.backend")
plugin = pytest.importorskip("zoo_ncnn")

SPECS = {spec.name: spec for spec in plugin.zoo_backends()}


@pytest.fixture(params=list(SPECS))
def spec(request: pytest.FixtureRequest) -> zoo.Backend:
    return SPECS[request.param]


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def close(got: object, expected: object) -> bool:
    return difference(got, expected) <= 1e-4


def test_a_network_and_another_size(spec: zoo.Backend) -> None:
    model = zoo.create_model("cifar/small_cnn").eval()
    fast = zoo.optimize(model, torch.randn(1, 3, 32, 32), backend=spec.name)
    assert (fast.backend, fast.reason) == (spec.name, None)
    for batch in (1, 3):
        x = torch.randn(batch, 3, 32, 32).contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            assert fast.network is not None
            assert close(fast.network(x), model(x))


def test_outputs_stay(spec: zoo.Backend) -> None:
    model = nn.Conv2d(3, 4, 3).eval()
    first, second = torch.randn(2, 3, 8, 8), torch.randn(2, 3, 8, 8)
    run = backends.prepare(spec, model, (first,), {})
    got = run(first)
    with torch.no_grad():
        assert close(run(second), model(second))
        assert close(got, model(first))


class Sum(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


class Two(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.relu(), x.sigmoid()


@pytest.mark.parametrize(
    ("module", "inputs", "message"),
    [
        (Sum(), 2, "a batch of images, and nothing beside it"),
        (Two(), 1, "ncnn returns one tensor, the network 2"),
    ],
)
def test_what_it_does_not_take(
    spec: zoo.Backend, module: nn.Module, inputs: int, message: str
) -> None:
    with pytest.raises(zoo.ZooError, match=message):
        backends.prepare(spec, module.eval(), (torch.randn(1, 3, 8, 8),) * inputs, {})
