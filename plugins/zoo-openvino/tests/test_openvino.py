"""The real engine on real networks; skipped where it is not installed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import zoo
from zoo import backends
from zoo.compiler.optimize import difference

pytest.importorskip("openvino")
pytest.importorskip("onnxscript")
backend = pytest.importorskip("zoo_openvino.backend")
plugin = pytest.importorskip("zoo_openvino")

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


class Nested(nn.Module):
    """Inputs by name, and outputs in a structure."""

    def forward(self, x: Tensor, scale: Tensor) -> dict[str, object]:
        return {"a": [x.relu() * scale], "b": x.sum() + scale, "c": None}


def test_structures_and_outputs_that_stay() -> None:
    """What was returned before is not written to by a later call."""
    first, second, scale = torch.randn(2, 3, 8, 8), torch.randn(2, 3, 8, 8), torch.randn(1, 3, 1, 1)
    model = Nested().eval()
    run = backends.prepare(SPECS["openvino"], model, (first,), {"scale": scale})
    got = run(first, scale=scale)
    assert close(run(second, scale=scale), model(second, scale))
    assert close(got, model(first, scale))


def test_a_batch_spread_over_streams() -> None:
    """Every image's output is in its place, and stays; what is no batch of images is refused."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval()
    first, second = torch.randn(7, 3, 8, 8), torch.randn(7, 3, 8, 8)
    spec = SPECS["openvino-throughput"]
    run = backends.prepare(spec, model, (first,), {})
    got = run(first)
    with torch.no_grad():
        assert close(run(second), model(second))
        assert close(got, model(first))
    with pytest.raises(zoo.ZooError, match="a batch of images, and nothing beside it"):
        backends.prepare(spec, Nested().eval(), (first,), {"scale": torch.ones(1, 3, 1, 1)})


def test_what_onnx_cannot_say_is_one_line(spec: zoo.Backend) -> None:
    class Sorted(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.linalg.svdvals(x)

    with pytest.raises(zoo.ZooError) as caught:
        backends.prepare(spec, Sorted().eval(), (torch.randn(1, 3, 8, 8),), {})
    assert "torch.onnx cannot export it" in str(caught.value)
    assert "\n" not in str(caught.value)
