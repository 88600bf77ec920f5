"""A module's graph: inputs, outputs, sizes, state, and what cannot be captured."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from graphs import Function, aten, graph_of, ops
from torch import nn

from zoo.compiler import CaptureError, capture, rewrite


def small() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()).eval()


def test_placeholders_are_the_inputs_and_state_shares_the_modules_memory():
    module = small()
    graph_module = capture(module, (torch.randn(2, 3, 8, 8),)).graph_module
    assert len(graph_module.graph.find_nodes(op="placeholder")) == 1
    tensors = dict(graph_module.named_buffers())
    pointers = {tensor.data_ptr() for tensor in tensors.values()}
    assert module[0].weight.data_ptr() in pointers
    assert module[1].running_mean.data_ptr() in pointers
    assert all(
        hasattr(graph_module, node.target) for node in graph_module.graph.find_nodes(op="get_attr")
    )
    assert not any(tensor.requires_grad for tensor in tensors.values())


def test_the_graph_is_the_one_before_decomposition():
    captured = graph_of(
        lambda _, x: nn.functional.silu(nn.functional.hardswish(x)), torch.randn(1, 3, 4, 4)
    )
    assert set(ops(captured)) == {aten.silu.default, aten.hardswish.default}


def test_the_module_is_left_as_it_was():
    module = small()
    before = {
        name: (id(t), t.clone(), t._version)
        for name, t in module.state_dict(keep_vars=True).items()
    }
    attributes = copy.copy(module.__dict__)
    rewrite(capture(module, (torch.randn(1, 3, 8, 8),)).graph_module)
    assert module.__dict__ == attributes
    for name, tensor in module.state_dict(keep_vars=True).items():
        identity, value, version = before[name]
        assert (id(tensor), tensor._version) == (identity, version)
        assert torch.equal(tensor, value)
    assert module[0].weight.requires_grad


@pytest.mark.parametrize("batch", [1, 2])
def test_batch_height_and_width_stay_open(batch: int):
    module = small()
    captured = capture(module, (torch.randn(batch, 3, 8, 8),))
    assert captured.dynamic == ((0, 2, 3),)
    for shape in [(1, 3, 8, 8), (5, 3, 7, 9), (2, 3, 20, 1)]:
        x = torch.randn(shape)
        assert captured.accepts([x])
        assert torch.equal(captured(x), module(x))
    assert not captured.accepts([torch.randn(1, 4, 8, 8)])
    assert not captured.accepts([torch.randn(3, 8, 8)])
    assert not captured.accepts([torch.randn(1, 3, 8, 8).double()])


def test_sizes_that_the_code_asks_for_are_guarded():
    def function(_: nn.Module, x: torch.Tensor) -> torch.Tensor:
        if x.shape[0] == 1:
            return x * 2
        return x + 1 if x.shape[2] % 4 == 0 else x - 1

    captured = graph_of(function, torch.randn(2, 3, 8, 8))
    assert captured.accepts([torch.randn(7, 3, 12, 5)])
    assert not captured.accepts([torch.randn(1, 3, 8, 8)])
    assert not captured.accepts([torch.randn(2, 3, 9, 8)])
    single = graph_of(function, torch.randn(1, 3, 8, 8))
    assert single.accepts([torch.randn(1, 3, 9, 8)])
    assert not single.accepts([torch.randn(2, 3, 8, 8)])


def test_sizes_that_cannot_be_open_are_fixed():
    captured = graph_of(lambda _, x: x.view(2, 192), torch.randn(2, 3, 8, 8))
    assert not captured.accepts([torch.randn(3, 3, 8, 8)])
    assert captured.accepts([torch.randn(2, 3, 8, 8)])


def test_sizes_that_the_module_checks_are_fixed():
    def function(_: nn.Module, x: torch.Tensor) -> torch.Tensor:
        if x.shape[2] != 8:
            raise ValueError("as vision transformers do")
        return x + 1

    captured = graph_of(function, torch.randn(1, 3, 8, 8))
    assert captured.dynamic == ((0, 3),)
    assert captured.accepts([torch.randn(2, 3, 8, 5)])
    assert not captured.accepts([torch.randn(2, 3, 5, 8)])


def test_nested_inputs_and_outputs():
    def function(_: nn.Module, x: torch.Tensor, more: dict[str, torch.Tensor]) -> object:
        return {"sum": x + more["a"], "both": (x, [more["b"] * 2, None])}

    module = Function(function).eval()
    x, more = torch.randn(2, 3), {"a": torch.randn(2, 3), "b": torch.randn(4)}
    captured = capture(module, (x, more))
    assert len(captured.graph_module.graph.find_nodes(op="placeholder")) == 3
    actual, expected = captured(x, more), module(x, more)
    torch.testing.assert_close(actual["sum"], expected["sum"])
    torch.testing.assert_close(actual["both"][1][0], expected["both"][1][0])
    assert actual["both"][1][1] is None
    with pytest.raises(TypeError, match="structured differently"):
        captured(x, {"a": x})


def test_arguments_by_name():
    class Scaled(nn.Module):
        def forward(self, x: torch.Tensor, *, by: torch.Tensor, shift: float = 0.0) -> torch.Tensor:
            return x * by + shift

    x, by = torch.randn(2, 3), torch.randn(3)
    captured = capture(Scaled().eval(), (x,), {"by": by, "shift": 1.5})
    torch.testing.assert_close(captured(x, shift=1.5, by=by), x * by + 1.5)
    assert not captured.accepts(captured.flatten((x,), {"by": by, "shift": 2.0}))


@pytest.mark.parametrize("made_inside", [False, True])
def test_under_inference_mode(made_inside: bool):
    module = small()
    x = torch.randn(1, 3, 8, 8)
    with torch.inference_mode():
        if made_inside:
            module, x = small(), x.clone()
        captured = capture(module, (x,))
        rewrite(captured.graph_module)
        torch.testing.assert_close(captured(x), module(x))
    with torch.no_grad():
        torch.testing.assert_close(capture(module, (x,))(x), module(x))


def counting() -> nn.Module:
    module = Function(lambda self, x: x + self.calls.add_(1))
    module.register_buffer("calls", torch.zeros(()))
    return module


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (Function(lambda _, x: x if x.sum() > 0 else -x), "cannot be captured"),
        (Function(lambda _, x: nn.functional.relu_(x)), "changes its inputs"),
        (Function(lambda _, x: x.flatten().mul_(2)), "changes its inputs"),
        (counting(), "changes its buffers"),
        (Function(lambda self, x: self.bn.train()(x), bn=nn.BatchNorm2d(3)), "changes its buffers"),
    ],
)
def test_what_cannot_be_captured_says_why_in_one_line(module: nn.Module, reason: str):
    with pytest.raises(CaptureError, match=reason) as raised:
        capture(module.eval(), (torch.randn(2, 3, 4, 4),))
    assert "\n" not in str(raised.value)


def test_training_mode_is_refused():
    with pytest.raises(CaptureError, match=r"call \.eval\(\) first"):
        capture(nn.Linear(2, 2), (torch.randn(1, 2),))


def test_writing_into_a_view_is_made_functional():
    def function(_: nn.Module, x: torch.Tensor) -> torch.Tensor:
        y = x * 2
        y[:, :1] = 0
        y.flatten().add_(1)
        return y

    x = torch.randn(2, 3, 4, 4)
    captured = graph_of(function, x)
    for target in ops(captured):
        assert not hasattr(target, "_schema") or not target._schema.is_mutable
    torch.testing.assert_close(captured(x), function(nn.Module(), x))


def test_sizes_whose_formula_grows_with_every_layer_are_fixed():
    def function(_: nn.Module, x: torch.Tensor) -> torch.Tensor:
        for _layer in range(6):
            height = x.shape[2]
            room = max((math.ceil(height / 2) - 1) * 2 + 3 - height, 0)
            x = nn.functional.max_pool2d(
                nn.functional.pad(x, (1, 1, room // 2, room - room // 2)), 3, 2
            )
        return x

    captured = graph_of(function, torch.randn(1, 3, 64, 64))
    assert captured.dynamic == ((0,),)
    assert captured.accepts([torch.randn(5, 3, 64, 64)])
