"""Batches that are computed in parts give what they give otherwise, and only where they may be."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from graphs import Function, graph_of, randomise
from torch import Tensor, nn
from torch.nn import functional as F

import zoo
from zoo.compiler import Network, rewrite
from zoo.compiler.optimize import difference

timm = pytest.importorskip("timm")


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def network_of(function: Callable[..., Any], x: Tensor, **modules: nn.Module) -> Network:
    captured = graph_of(function, x, **modules)
    rewrite(captured.graph_module)
    return Network(captured)


def parts(network: Network, x: Tensor) -> list[int]:
    """How many parts each stage has."""
    return [stage.parts for stage in network.plan([x]).stages]


@pytest.mark.parametrize(
    "name", ["resnet18", "mobilenetv3_small_100", "densenet121", "convnext_atto"]
)
def test_networks_of_timm(name: str, threads: int) -> None:
    model = randomise(timm.create_model(name))
    fast = zoo.optimize(model, torch.randn(1, 3, 96, 96), keep="zoo")
    x = torch.randn(4, 3, 96, 96)
    with torch.no_grad():
        for each in (x, x.contiguous(memory_format=torch.channels_last)):
            assert difference(fast(each), model(each)) <= 1e-4
    early, late = parts(fast.network, x)
    assert early > 1
    assert late == 1
    assert parts(fast.network, x[:1]) == [1]
    report = fast.report(x)
    assert 0 < report.early < len(report.layers)
    assert "parts of the batch" in str(report)
    assert len({fast(x).numpy().tobytes() for _ in range(3)}) == 1


def test_a_number_of_images_that_threads_cannot_share_evenly() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    x = torch.randn(3, 8, 64, 64)
    network = network_of(lambda m, x: m.conv(x), x, conv=nn.Conv2d(8, 8, 3))
    assert parts(network, x) == [1]
    torch.set_num_threads(before)


def test_small_images_go_several_at_a_time(threads: int) -> None:
    conv = nn.Conv2d(8, 8, 3)
    x = torch.randn(64, 8, 16, 16)
    network = network_of(lambda m, x: m.conv(x), x, conv=conv)
    (count,) = parts(network, x)
    assert threads <= count < 64
    torch.testing.assert_close(network(x), conv(x), rtol=1e-4, atol=1e-5)


def test_large_weights_are_read_once() -> None:
    x = torch.randn(8, 512, 4, 4)
    network = network_of(lambda m, x: m.conv(x), x, conv=nn.Conv2d(512, 512, 3))
    assert parts(network, x) == [1]


@pytest.mark.parametrize(
    "mix",
    [
        lambda x: x - x.mean(0, keepdim=True),
        lambda x: x.flip(0),
        lambda x: x.cumsum(0),
        lambda x: F.softmax(x, 0),
        lambda x: x.reshape(-1, 4, 8, 32, 32).transpose(0, 1).reshape(-1, 8, 32, 32),
        lambda x: x.transpose(0, 1).contiguous().transpose(0, 1) + x.sum(0),
        lambda x: torch.roll(x, 1, 0),
        lambda x: x.permute(1, 0, 2, 3).permute(1, 0, 2, 3) * x[0],
    ],
)
def test_images_that_depend_on_each_other(mix: Callable[[Tensor], Tensor], threads: int) -> None:
    convs = {name: nn.Conv2d(8, 8, 3, padding=1) for name in ("first", "second")}
    x = torch.randn(4, 8, 32, 32)
    network = network_of(lambda m, x: m.second(mix(m.first(x))), x, **convs)
    with torch.no_grad():
        expected = convs["second"](mix(convs["first"](x)))
    torch.testing.assert_close(network(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "use",
    [
        lambda y, x: y * x.shape[0],
        lambda y, x: y + x.size(-4),
        lambda y, x: y.abs() ** (1 / x.shape[0]),
        lambda y, x: y.clamp(max=0.05 * x.shape[0]),
        lambda y, x: F.elu(y, alpha=1.0 * x.shape[0]),
        lambda y, x: y * (y.numel() / 1e5),
        lambda y, x: F.pad(y, (0, x.shape[0])),
        lambda y, x: y[:, :, : x.shape[0] + 4],
        lambda y, x: F.interpolate(y, size=(x.shape[0] * 4, 32)),
        lambda y, x: y / x.shape[0],
    ],
)
def test_the_number_of_images_as_a_number(use: Callable[..., Tensor]) -> None:
    convs = {name: nn.Conv2d(8, 8, 3, padding=1) for name in ("first", "second")}
    module = Function(lambda m, x: m.second(use(m.first(x), x)), **convs).eval()
    fast = zoo.optimize(module, torch.randn(1, 8, 64, 64), keep="zoo")
    for batch in (4, 1, 8):
        x = torch.randn(batch, 8, 64, 64)
        with torch.no_grad():
            assert difference(fast(x), module(x)) <= 1e-4


def test_a_view_by_the_number_of_images_keeps_parts(threads: int) -> None:
    convs = {name: nn.Conv2d(8, 8, 3, padding=1) for name in ("first", "second")}
    x = torch.randn(4, 8, 64, 64)
    network = network_of(
        lambda m, x: m.second(
            m.first(x).view(x.shape[0], 4, 32, -1).reshape(x.shape[0], 8, 64, -1)
        ),
        x,
        **convs,
    )
    (count,) = parts(network, x)
    assert count > 1


def test_two_inputs_and_two_outputs(threads: int) -> None:
    conv = nn.Conv2d(8, 8, 3, padding=1)
    module = Function(lambda m, x, y: (m.conv(x) + y, m.conv(y)), conv=conv).eval()
    x, y = torch.randn(2, 4, 8, 32, 32)
    fast = zoo.optimize(module, (x, y), keep="zoo")
    with torch.no_grad():
        assert difference(fast(x, y), module(x, y)) <= 1e-4


def test_weights_per_image_stay_with_theirs(threads: int) -> None:
    convs = {name: nn.Conv2d(8, 8, 3, padding=1) for name in ("first", "second")}
    module = Function(lambda m, x, scale: m.second(m.first(x) * scale), **convs).eval()
    x, scale = torch.randn(4, 8, 32, 32), torch.randn(4, 8, 1, 1)
    fast = zoo.optimize(module, (x, scale), keep="zoo")
    with torch.no_grad():
        assert difference(fast(x, scale), module(x, scale)) <= 1e-4


def test_ops_of_pytorch_among_them_and_many_callers(threads: int) -> None:
    convs = {name: nn.Conv2d(8, 8, 3, padding=1) for name in ("first", "second")}
    module = Function(lambda m, x: m.second(F.softplus(m.first(x))), **convs).eval()
    x = torch.randn(8, 8, 32, 32)
    fast = zoo.optimize(module, x, keep="zoo")
    assert "aten::softplus" in fast.network.plan([x]).kernels
    with torch.no_grad():
        expected = module(x)
    with ThreadPoolExecutor(4) as pool:
        for got in pool.map(lambda _: fast(x), range(12)):
            assert difference(got, expected) <= 1e-4


def test_a_saved_network_runs_so_too(tmp_path: Any, threads: int) -> None:
    model = randomise(timm.create_model("resnet18", num_classes=4))
    x = torch.randn(4, 3, 128, 128)
    fast = zoo.optimize(model, x, keep="zoo")
    fast.save(tmp_path / "model.zoo")
    loaded = zoo.load_optimized(tmp_path / "model.zoo")
    assert parts(loaded.network, x) == parts(fast.network, x) != [1]
    assert torch.equal(loaded(x), fast(x))
