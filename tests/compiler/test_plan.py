"""Plans give what the graph gives, whatever the layout of inputs and the ops between."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from graphs import Function, graph_of
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.compiler import CaptureError, Network, PlanError, capture, rewrite


def steps(network: Network, *inputs: Tensor) -> Counter[str]:
    """How often each kind of step occurs in the plan for these inputs."""
    return Counter(step.op for step in network.plan(list(inputs)).steps)


def check(function: Any, *inputs: Any, **modules: nn.Module) -> Network:
    """Compare plans with the function itself, for the inputs as they are and in channels_last."""
    captured = graph_of(function, *inputs, **modules)
    rewrite(captured.graph_module)
    network = Network(captured)
    turned = [
        x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x for x in inputs
    ]
    holder = nn.Module()
    for name, module in modules.items():
        holder.add_module(name, module)
    for case in (inputs, turned):
        with torch.no_grad():
            torch.testing.assert_close(
                network(*case), function(holder, *case), rtol=1e-4, atol=1e-5
            )
    return network


IMAGE = (2, 20, 13, 9)


def test_convolution_with_residual_and_pool() -> None:
    conv = nn.Conv2d(20, 20, 3, padding=1)
    network = check(lambda m, x: F.relu(m.conv(x) + x), torch.randn(IMAGE), conv=conv)
    assert steps(network, torch.randn(IMAGE)) == {"conv2d": 1}
    network = check(lambda m, x: F.max_pool2d(F.relu(m.conv(x)), 2), torch.randn(IMAGE), conv=conv)
    assert steps(network, torch.randn(IMAGE)) == {"conv2d": 1}


@pytest.mark.parametrize("pad", [(0, 1, 0, 1), (2, 1, 0, 3)])
def test_padding_on_some_sides_needs_no_copy(pad: tuple[int, ...]) -> None:
    conv = nn.Conv2d(20, 24, 3, stride=2)
    network = check(lambda m, x: m.conv(F.pad(x, pad)), torch.randn(IMAGE), conv=conv)
    assert steps(network, torch.randn(IMAGE)) == {"conv2d": 1}


def test_negative_padding_and_two_readers() -> None:
    conv = nn.Conv2d(20, 20, 3)
    check(lambda m, x: m.conv(F.pad(x, (-1, 2, 0, 0))), torch.randn(IMAGE), conv=conv)

    def two(m: Any, x: Tensor) -> Tensor:
        padded = F.pad(x, (1, 1, 1, 1))
        return m.conv(padded) + padded[:, :, 1:-1, 1:-1]

    check(two, torch.randn(IMAGE), conv=conv)


def maps(network: Network, x: Tensor, elements: int) -> int:
    """How many values of so many elements there is room for."""
    stages = network.plan([x]).stages
    return sum(stage.plan.arena_bytes for stage in stages) // (4 * elements)


MAP = (1, 3, 64, 64)  # large enough for the workspaces to be small beside it


def test_a_sum_lies_in_the_place_of_what_is_added() -> None:
    convs = {f"conv{i}": nn.Conv2d(32, 32, 1 + 2 * (i % 2), padding=i % 2) for i in range(6)}

    def residual(m: Any, x: Tensor) -> Tensor:
        x = m.first(x)
        for i in range(0, 6, 2):
            x = F.relu(getattr(m, f"conv{i + 1}")(F.gelu(getattr(m, f"conv{i}")(x))) + x)
        return x.mean()

    first = nn.Conv2d(3, 32, 1)
    network = check(residual, torch.randn(MAP), first=first, **convs)
    assert maps(network, torch.randn(MAP), 32 * 64 * 64) == 2
    assert steps(network, torch.randn(MAP))["conv2d"] == 7


@pytest.mark.parametrize(
    "function",
    [
        lambda m, x: (m.one(x) + x).relu(),  # the convolution reads its neighbours too
        lambda m, x: (m.two(m.one(x)) + x) * x,  # read later
        lambda m, x: m.two(m.two(m.one(x)) + x[:, :, :1, :1]) * 2,
        lambda m, x: (x, m.two(m.one(x)) + x),
        lambda m, x: m.two(m.two(m.one(x)) + x + x.mean((2, 3), keepdim=True)) * x,
        lambda m, x: m.two(m.one(x)) + torch.cat([x[:, 16:], m.one(x)[:, :16]], 1),
        lambda m, x: (x.relu() + x.sigmoid()) * x.mean((2, 3), keepdim=True),
        lambda m, x: F.layer_norm(m.one(x).relu() + 1, (11,)) + x,
        lambda m, x: m.norm(m.two(x) * x.relu()) + x,
    ],
)
@pytest.mark.parametrize("size", [(2, 32, 9, 11), (1, 32, 1, 11)])
def test_what_is_still_read_is_not_overwritten(function: Any, size: tuple[int, ...]) -> None:
    modules = {
        "first": nn.Conv2d(32, 32, 1),
        "one": nn.Conv2d(32, 32, 3, padding=1),
        "two": nn.Conv2d(32, 32, 3, padding=1, groups=32),
        "norm": nn.GroupNorm(4, 32),
    }
    x = torch.randn(size)
    before = x.clone()
    check(function, x, **modules)
    check(lambda m, x: function(m, m.first(x)), x, **modules)
    assert torch.equal(x, before)


def test_linear_layers_add_in_place() -> None:
    modules = {f"fc{i}": nn.Linear(32, 32) for i in range(3)}

    def mix(m: Any, x: Tensor) -> Tensor:
        x = m.fc0(x)
        return (m.fc2(F.gelu(m.fc1(x))) + x).mean()

    network = check(mix, torch.randn(1, 64, 64, 32), **modules)
    assert maps(network, torch.randn(1, 64, 64, 32), 32 * 64 * 64) == 2


def test_concatenations_are_written_in_place() -> None:
    convs = {f"conv{i}": nn.Conv2d(8 + 4 * i, 4, 1) for i in range(3)}
    first = nn.Conv2d(3, 8, 1)

    def dense(m: Any, x: Tensor) -> Tensor:
        features = [m.first(x)]
        for i in range(3):
            features.append(getattr(m, f"conv{i}")(torch.cat(features, 1)))
        return torch.cat(features, 1)

    network = check(dense, torch.randn(2, 3, 7, 5), first=first, **convs)
    assert steps(network, torch.randn(2, 3, 7, 5)) == {"conv2d": 4}


def test_concatenations_that_need_copies() -> None:
    conv = nn.Conv2d(6, 6, 1)
    check(lambda m, x: torch.cat([x, m.conv(x), m.conv(x)], 1), torch.randn(2, 6, 5, 5), conv=conv)

    def twice(m: Any, x: Tensor) -> Tensor:
        y = m.conv(x)
        return torch.cat([y, y, x], 1)

    check(twice, torch.randn(2, 6, 5, 5), conv=conv)
    check(lambda m, x: torch.cat([m.conv(x), x], 2), torch.randn(2, 6, 5, 5), conv=conv)
    check(lambda m, x: torch.cat([x[0, 0], x[1, 0]], -1), torch.randn(2, 6, 5, 5))


@pytest.mark.parametrize("flatten", [lambda x: x.flatten(1), lambda x: x.reshape(len(x), -1)])
def test_a_linear_layer_reads_a_map_as_it_is(flatten: Any) -> None:
    modules = {"conv": nn.Conv2d(3, 20, 2), "fc": nn.Linear(240, 7)}
    inputs = torch.randn(2, 3, 5, 4)
    network = check(lambda m, x: m.fc(flatten(m.conv(x))).relu(), inputs, **modules)
    assert steps(network, inputs) == {"conv2d": 1, "linear": 1}


@pytest.mark.parametrize("size", [(8, 8, 1, 13), (3, 8, 13, 1), (1, 8, 1, 2), (5, 8, 4, 3)])
def test_a_linear_layer_over_the_channels_of_maps_that_are_lines(size: tuple[int, ...]) -> None:
    modules = {"conv": nn.Conv2d(8, 8, 1), "fc": nn.Linear(8, 7), "rows": nn.Linear(7, 8)}

    def channels(m: Any, x: Tensor) -> Tensor:
        return m.fc(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    def rows(m: Any, x: Tensor) -> Tensor:
        x = m.fc(x.permute(0, 2, 3, 1))
        return m.rows(x.view(-1, 7)).softmax(1)

    for function in (channels, rows, lambda m, x: channels(m, m.conv(x)) + 1):
        network = check(function, torch.randn(1, 8, 1, 13), **modules)
        x = torch.randn(size)
        for each in (x, x.contiguous(memory_format=torch.channels_last)):
            with torch.no_grad():
                torch.testing.assert_close(
                    network(each), function(SimpleNamespace(**modules), each), rtol=1e-4, atol=1e-5
                )


def test_other_readers_of_a_flattened_map() -> None:
    modules = {"conv": nn.Conv2d(3, 20, 2), "fc": nn.Linear(240, 7), "rows": nn.Linear(120, 7)}
    inputs = torch.randn(2, 3, 5, 4)

    def both(m: Any, x: Tensor) -> Any:
        flat = m.conv(x).flatten(1)
        return m.fc(flat), flat

    check(both, inputs, **modules)
    check(lambda m, x: m.rows(m.conv(x).reshape(4, 120)), inputs, **modules)
    check(lambda m, x: m.fc(m.conv(x).flatten(1)), torch.randn(0, 3, 5, 4), **modules)


def test_views_cost_nothing() -> None:
    linear = nn.Linear(20, 7)

    def head(m: Any, x: Tensor) -> Tensor:
        return m.linear(F.adaptive_avg_pool2d(x, 1).flatten(1))

    network = check(head, torch.randn(IMAGE), linear=linear)
    assert steps(network, torch.randn(IMAGE)) == {"adaptive_avg_pool2d": 1, "linear": 1}

    def mlp(m: Any, x: Tensor) -> Tensor:  # as in ConvNeXt: channels last, then a linear layer
        return F.gelu(m.linear(x.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)

    check(mlp, torch.randn(IMAGE), linear=linear)
    check(lambda m, x: m.linear(x.flatten(2).transpose(1, 2)), torch.randn(IMAGE), linear=linear)
    check(lambda m, x: m.linear(x.reshape(-1, 20)), torch.randn(IMAGE), linear=linear)


@pytest.mark.parametrize(
    "function",
    [
        lambda m, x: x * x.mean((2, 3), keepdim=True).sigmoid() + 1,
        lambda m, x: torch.relu(x + 2) * 0.5 - x / 3,
        lambda m, x: x.amax(1, keepdim=True) + x,
        lambda m, x: x.softmax(1),
        lambda m, x: F.layer_norm(x, x.shape[1:]),
        lambda m, x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False) * 2,
        lambda m, x: F.max_pool2d(x, 3, 2, 1, ceil_mode=True),
        lambda m, x: F.adaptive_avg_pool2d(x, (4, 5)),
        lambda m, x: F.interpolate(x, scale_factor=2.0),
        lambda m, x: list(x.chunk(2, 1)),
        lambda m, x: {"a": x.argmax(1), "b": [x + 1, (x.flatten(1),)]},
        lambda m, x: F.gelu(x, approximate="tanh") + F.leaky_relu(x, 0.3),
        lambda m, x: (x, x.mT, x[:, 3:7]),
        lambda m, x: x[:, [1, 0, 2]].double().sum((1, 2)),
        lambda m, x: x.unflatten(1, (4, 5)).sum(1) * 2,
    ],
)
def test_what_is_not_ours_runs_too(function: Any) -> None:
    check(function, torch.randn(IMAGE))


def test_sizes_and_callers() -> None:
    def by_height(m: Any, x: Tensor) -> Tensor:
        return m.conv(x).relu() if x.shape[2] > 10 else m.conv(x).mean((2, 3))

    model = Function(by_height, conv=nn.Conv2d(3, 16, 3, padding=1)).eval()

    def rewritten(args: Any, kwargs: Any) -> Any:
        captured = capture(model, args, kwargs)
        rewrite(captured.graph_module)
        return captured

    network = Network(rewritten((torch.randn(1, 3, 8, 8),), {}), recapture=rewritten)
    images = [torch.randn(1 + i % 3, 3, 8 + 4 * (i % 2), 20 - i // 6) for i in range(12)]
    with torch.no_grad():
        expected = [model(x) for x in images]
        with ThreadPoolExecutor(4) as pool:
            for _ in range(3):
                for got, wanted in zip(pool.map(network, images), expected, strict=True):
                    torch.testing.assert_close(got, wanted)
    assert len(network.captured) == 2
    with pytest.raises(PlanError, match="not captured for inputs"):
        Network(network.captured[0])(torch.randn(1, 3, 12, 8))


def test_results_are_fresh() -> None:
    network = check(lambda m, x: (x + 1).relu(), torch.randn(IMAGE))
    x = torch.randn(IMAGE)
    one = network(x)
    copy = one.clone()
    network(x * 2)
    assert torch.equal(one, copy)
    identity = check(lambda m, x: x, torch.randn(IMAGE))
    assert identity(x).data_ptr() != x.data_ptr()


def test_that_there_is_no_plan_is_remembered() -> None:
    conv, tries = nn.Conv2d(3, 4, 1), []
    captured = graph_of(lambda m, x: m.conv(x), torch.randn(1, 3, 8, 8), conv=conv)

    def recapture(args: Any, kwargs: Any) -> Any:
        tries.append(args)
        raise CaptureError("not these")

    network = Network(captured, recapture=recapture)
    for _ in range(3):
        with pytest.raises(PlanError, match="not these"):
            network(torch.randn(1, 4, 8, 8))
    assert len(tries) == 1


def gated(m: Any, x: Tensor) -> Tensor:
    """A squeeze-excite block and the layer behind it."""
    x = m.conv(x)
    return m.project(x * m.fc(x.mean((2, 3), keepdim=True)).sigmoid())


def gated_modules(filters: int = 24, kernel: int = 1, groups: int = 1) -> dict[str, nn.Module]:
    project = nn.Conv2d(20, filters, kernel, padding=kernel // 2, groups=groups)
    return {"conv": nn.Conv2d(20, 20, 1), "fc": nn.Conv2d(20, 20, 1), "project": project}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("batch", [1, 2, 3])
def test_a_gate_scales_the_weights_behind_it(batch: int, threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    x = torch.randn(batch, 20, 13, 9)
    network = check(gated, x, **gated_modules())
    plan = network.plan([x])
    assert "scale_shift" not in steps(network, x)
    assert [kernel for kernel in plan.kernels if kernel.endswith(" scaled")] == [plan.kernels[-1]]
    assert plan.steps[-1].op == "conv2d"
    torch.set_num_threads(before)


def test_a_gate_of_all_images_or_channels() -> None:
    x = torch.randn(3, 20, 13, 9)
    for dims in ((0, 2, 3), (1, 2, 3)):

        def function(m: Any, x: Tensor, dims: tuple[int, ...] = dims) -> Tensor:
            return F.relu(m.project(x * x.mean(dims, keepdim=True)) + x.flip(2))

        network = check(function, x, project=nn.Conv2d(20, 20, 1))
        assert network.plan([x]).kernels[-1].endswith(" scaled")


@pytest.mark.parametrize(
    ("function", "modules"),
    [
        (gated, gated_modules(filters=13 * 9 + 1)),  # more weights than values
        (gated, gated_modules(filters=1)),
        (gated, gated_modules(kernel=3)),
        (gated, gated_modules(groups=2)),
        (lambda m, x: m.project(F.relu(x * m.fc(x).mean((2, 3), keepdim=True))), gated_modules()),
        (lambda m, x: m.project(x * m.fc(x).mean((1, 2), keepdim=True)), gated_modules()),
        (
            lambda m, x: (lambda y: m.project(y) + y.flip(3))(x * x.mean((2, 3), True)),
            gated_modules(20),
        ),
        (lambda m, x: x * m.fc(x).mean((2, 3), keepdim=True), gated_modules()),
    ],
)
def test_a_gate_with_a_step_of_its_own(function: Any, modules: dict[str, nn.Module]) -> None:
    x = torch.randn(IMAGE)
    assert steps(check(function, x, **modules), x)["scale_shift"] == 1


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("batch", [1, 3])
def test_layer_norm_over_channels(affine: bool, batch: int) -> None:
    norm = nn.LayerNorm(24, elementwise_affine=affine)
    if affine:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)

    def function(m: Any, x: Tensor) -> Tensor:  # as in ConvNeXt
        return m.norm((m.conv(x) + 3).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    x = torch.randn(batch, 20, 13, 9)
    network = check(function, x, conv=nn.Conv2d(20, 24, 1), norm=norm)
    assert steps(network, x) == {"conv2d": 1, "layer_norm": 1}
    network = check(lambda m, x: m.norm(x), torch.randn(5, 24), norm=norm)
    assert steps(network, torch.randn(5, 24)) == {"layer_norm": 1}


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("groups", [1, 4, 24])
@pytest.mark.parametrize(
    ("activation", "fused"),
    [(None, True), (F.silu, True), (F.relu, True), (partial(F.gelu, approximate="tanh"), False)],
)
def test_group_norm(activation: Any, fused: bool, groups: int, affine: bool) -> None:
    norm = nn.GroupNorm(groups, 24, affine=affine)
    if affine:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)

    def function(m: Any, x: Tensor) -> Tensor:
        y = m.norm(m.conv(x) + 1)
        return y if activation is None else activation(y)

    for batch in (1, 3):
        x = torch.randn(batch, 20, 13, 9)
        network = check(function, x, conv=nn.Conv2d(20, 24, 1), norm=norm)
        assert steps(network, x)["group_norm"] == 1
        assert len(steps(network, x)) == (2 if fused else 3)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_group_norm_of_what_is_not_finite(value: float) -> None:
    norm, conv = nn.GroupNorm(2, 24), nn.Conv2d(20, 24, 1)
    nn.init.ones_(conv.weight)  # of one sign, or the sum of a group is NaN before its variance
    captured = graph_of(lambda m, x: m.norm(m.conv(x)), torch.randn(IMAGE), norm=norm, conv=conv)
    rewrite(captured.graph_module)
    x = torch.randn(IMAGE)
    x[0, 3, 12, 8] = value  # the last pixel, which the guess at the mean does not see
    output = Network(captured)(x)
    assert output[0].isnan().all()
    assert output[1].isfinite().all()


def test_group_norm_that_is_read_twice() -> None:
    norm = nn.GroupNorm(4, 24)

    def function(m: Any, x: Tensor) -> Tensor:
        y = m.norm(m.conv(x))
        return torch.cat([m.norm(m.conv(x) * 2), y, F.silu(y)], 1)

    x = torch.randn(2, 24, 5, 7)
    network = check(function, x, conv=nn.Conv2d(24, 24, 1), norm=norm)
    assert steps(network, x)["group_norm"] == 2


@pytest.mark.parametrize(
    "function",
    [
        lambda m, x: F.layer_norm(x, x.shape[2:]),
        lambda m, x: F.layer_norm(x.double(), x.shape[3:]),
        lambda m, x: F.layer_norm(x.contiguous().transpose(2, 3), (13,)),
    ],
)
def test_other_layer_norms_run_in_pytorch(function: Any) -> None:
    x = torch.randn(IMAGE)
    assert steps(check(function, x), x)["aten::layer_norm"] == 1
