"""What the tests of the compiler share."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn

from zoo.compiler import Captured, capture

aten, zoo = torch.ops.aten, torch.ops.zoo


def randomise(module: nn.Module) -> nn.Module:
    """Statistics, scales and shifts of every BatchNorm at random; the module in eval mode."""
    for child in module.modules():
        if isinstance(child, nn.modules.batchnorm._BatchNorm) and child.running_mean is not None:
            nn.init.normal_(child.running_mean, 0, 0.3)
            nn.init.uniform_(child.running_var, 0.5, 2)
            if child.affine:
                nn.init.uniform_(child.weight, 0.5, 1.5)
                nn.init.normal_(child.bias, 0, 0.3)
    return module.eval()


class Function(nn.Module):
    """A function, and the modules that it uses, as a module."""

    def __init__(self, function: Callable[..., Any], **modules: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, *inputs: Any) -> Any:
        return self.function(self, *inputs)


def graph_of(function: Callable[..., Any], *inputs: Any, **modules: nn.Module) -> Captured:
    """The captured graph of a function of the module that holds ``modules``, and of the inputs."""
    return capture(randomise(Function(function, **modules)), inputs)


def ops(captured: Captured) -> Counter[Any]:
    """How often each op is called."""
    nodes = captured.graph_module.graph.nodes
    return Counter(node.target for node in nodes if node.op == "call_function")


def run_passes(captured: Captured, *passes: Callable[[fx.GraphModule], int]) -> list[int]:
    """Run passes on the graph; what each says it did."""
    counts = [each(captured.graph_module) for each in passes]
    captured.graph_module.graph.lint()
    captured.graph_module.recompile()
    return counts


def check(
    function: Callable[..., Any],
    inputs: tuple[Tensor, ...],
    passes: tuple[Callable[[fx.GraphModule], int], ...],
    count: int,
    **modules: nn.Module,
) -> Counter[Any]:
    """The last pass changes ``count`` places, and the graph computes the module in float64.

    Returns the calls that are left.
    """
    module = randomise(Function(function, **modules))
    captured = capture(module, inputs)
    counts = run_passes(captured, *passes)
    actual = captured(*inputs)
    expected = copy.deepcopy(module).double()(*(each.double() for each in inputs))
    torch.testing.assert_close(actual.double(), expected, rtol=1e-5, atol=1e-5)
    assert counts[-1] == count
    return ops(captured)
