"""In-place ops become functional where no view of what they write is read afterwards."""

from __future__ import annotations

import torch
from torch import fx

from zoo.compiler.passes.functionalize import functionalize


def traced(function, x: torch.Tensor) -> fx.GraphModule:
    """The graph of aten ops with its in-place ops as they are."""
    module = torch.nn.Module()
    module.forward = function
    program = torch.export.export(module, (x,), strict=False)
    graph = fx.Graph()
    nodes: dict[fx.Node, fx.Node] = {}
    for node in program.graph.nodes:
        nodes[node] = graph.node_copy(node, nodes.__getitem__)
    return fx.GraphModule(torch.nn.Module(), graph)


def run(function, count: int) -> None:
    x = torch.randn(2, 4)
    graph_module = traced(function, x)
    assert functionalize(graph_module) == count
    graph_module.graph.lint()
    graph_module.recompile()
    torch.testing.assert_close(graph_module(x.clone())[0], function(x.clone()))


def test_chains():
    run(lambda x: (x + 1).relu_().mul_(2).add_(x), 3)


def test_later_readers_see_the_new_value_and_earlier_ones_the_old():
    def function(x):
        y = x * 2
        before = y + 1
        y.relu_()
        return before * y

    run(function, 1)


def test_a_view_that_is_not_read_again():
    run(lambda x: (x + 1).view(-1).relu_(), 1)


def test_a_view_that_is_read_afterwards():
    def function(x):
        y = x * 2
        view = y.view(-1)
        y.relu_()
        return view

    run(function, 0)


def test_the_base_of_a_view_that_is_read_afterwards():
    def function(x):
        y = x * 2
        y[0].zero_()
        return y

    run(function, 0)


def test_a_part_of_a_split():
    def function(x):
        y = x * 2
        one, _ = y.chunk(2, 1)
        one.relu_()
        return y

    run(function, 0)


def test_dropout_returns_its_input():
    def function(x):
        y = x * 2
        z = torch.nn.functional.dropout(y, training=False)
        z.relu_()
        return y

    run(function, 1)  # in the graph, y is the dropout's result


def test_the_callers_input_stays_written():
    run(lambda x: x.relu_(), 0)


def test_types_that_would_be_promoted():
    run(lambda x: (x + 1).mul_(x.double()), 0)
