"""Captured graphs as JSON and back: what is read is looked up in tables, never evaluated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from zoo.compiler import vocabulary
from zoo.compiler.capture import Captured, TensorInput
from zoo.compiler.passes.functionalize import written_state
from zoo.compiler.sizes import from_json

# Values that JSON does not know are written as {kind: name}.
_NAMED: dict[str, dict[str, Any]] = {
    "dtype": {
        str(dtype): dtype
        for dtype in vars(torch).values()
        if isinstance(dtype, torch.dtype) and not str(dtype).startswith("torch.q")
    },
    "device": {"cpu": torch.device("cpu")},
    "layout": {"torch.strided": torch.strided},
    "memory_format": {
        str(each): each
        for each in (torch.contiguous_format, torch.preserve_format, torch.channels_last)
    },
    "float": {"inf": float("inf"), "-inf": float("-inf"), "nan": float("nan")},
}
_KINDS: dict[type, str] = {
    torch.dtype: "dtype",
    torch.device: "device",
    torch.layout: "layout",
    torch.memory_format: "memory_format",
    float: "float",
}


def encode(value: Any) -> Any:
    """Plain data, nodes of a graph and PyTorch's enumerations as JSON.

    Raises ValueError for anything else.
    """
    if value is None or type(value) in (bool, int, str):
        return value
    if isinstance(value, fx.Node):
        return {"node": value.name}
    if isinstance(value, float) and abs(value) < float("inf"):
        return float(value)
    # What fx makes of lists and dicts are subclasses of them.
    if type(value) in (list, fx.immutable_collections.immutable_list):
        return [encode(item) for item in value]
    if type(value) is tuple:
        return {"tuple": [encode(item) for item in value]}
    if type(value) in (dict, fx.immutable_collections.immutable_dict):
        return {"dict": [[encode(key), encode(item)] for key, item in value.items()]}
    kind = _KINDS.get(type(value))
    if kind is None or str(value) not in _NAMED[kind]:
        raise ValueError(f"{value!r}, a {type(value).__name__}, cannot be written down")
    return {kind: str(value)}


def decode(value: Any, nodes: Mapping[str, fx.Node]) -> Any:
    """What was encoded. Raises ValueError, KeyError or TypeError for anything else."""
    if isinstance(value, list):
        return [decode(item, nodes) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "node":
        return nodes[content]
    if kind == "tuple":
        return tuple(decode(item, nodes) for item in content)
    if kind == "dict":
        return {decode(key, nodes): decode(item, nodes) for key, item in content}
    return _NAMED[kind][content]


def write_captured(captured: Captured, store: Callable[[str, Tensor], str]) -> dict[str, Any]:
    """The graph, but for its tensors: ``store`` says under which name each is found again.

    Raises ValueError where the graph holds what cannot be written down.
    """
    return {
        "inputs": [_write_input(one) for one in captured.inputs],
        "guards": captured.guards,
        "names": captured.names,
        "arguments": _write_structure(captured.in_spec, "takes"),
        "results": _write_structure(captured.out_spec, "returns"),
        "nodes": [_write_node(node, store) for node in captured.graph_module.graph.nodes],
    }


def read_captured(written: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Captured:
    """What was written, with these tensors. Raises ValueError, KeyError or TypeError if damaged."""
    graph, root = fx.Graph(), torch.nn.Module()
    nodes: dict[str, fx.Node] = {}
    for index, record in enumerate(written["nodes"]):
        if "tensor" in record:
            name = f"tensor_{index}"  # a name of ours: those of the file are not for attributes
            root.register_buffer(name, tensors[record["tensor"]])
            node = graph.get_attr(name)
        else:
            node = _read_node(record, graph, nodes)
        nodes[record["name"]] = node
    captured = Captured(
        _Uncompiled(root, graph),
        pytree.tree_structure(decode(written["arguments"], {})),
        pytree.tree_structure(decode(written["results"], {})),
        tuple(map(_read_input, written["inputs"])),
        tuple(map(from_json, written["guards"])),
        tuple(map(str, written.get("names", ()))),  # files of earlier versions have none
    )
    _check(captured)
    return captured


class _Uncompiled(fx.GraphModule):
    """A graph that is never turned into Python code: plans are made from its nodes."""

    def recompile(self) -> Any:
        return None


def _check(captured: Captured) -> None:
    graph = captured.graph_module.graph
    graph.lint()
    outputs = graph.find_nodes(op="output")
    if (
        len(outputs) != 1
        or outputs[0].next.op != "root"
        or not isinstance(outputs[0].args[0], (tuple, list))
        or len(outputs[0].args[0]) != captured.out_spec.num_leaves
        or len(graph.find_nodes(op="placeholder")) != len(captured.inputs)
        or captured.in_spec.num_leaves != len(captured.inputs)
        or not _is_call(captured.in_spec)
    ):
        raise ValueError("the graph does not fit its inputs and outputs")


def _is_call(spec: pytree.TreeSpec) -> bool:
    """Whether it is that of ``(args, kwargs)``."""
    call = pytree.tree_unflatten([0] * spec.num_leaves, spec)
    return (
        isinstance(call, tuple)
        and len(call) == 2
        and isinstance(call[0], tuple)
        and isinstance(call[1], dict)
    )


def _write_input(one: TensorInput | Any) -> Any:
    if not isinstance(one, TensorInput):
        return {"value": encode(one)}
    return {"dtype": encode(one.dtype), "device": encode(one.device), "sizes": one.sizes}


def _read_input(record: Mapping[str, Any]) -> TensorInput | Any:
    if "value" in record:
        return decode(record["value"], {})
    return TensorInput(
        decode(record["dtype"], {}),
        decode(record["device"], {}),
        tuple(map(from_json, record["sizes"])),
    )


def _write_structure(spec: pytree.TreeSpec, verb: str) -> Any:
    structure = pytree.tree_unflatten(range(spec.num_leaves), spec)
    try:
        return encode(structure)
    except ValueError:
        raise ValueError(f"it {verb} more than tuples, lists and dicts of tensors") from None


def _write_node(node: fx.Node, store: Callable[[str, Tensor], str]) -> dict[str, Any]:
    record: dict[str, Any] = {"name": node.name}
    if node.op == "get_attr":
        tensor = getattr(node.graph.owning_module, str(node.target))
        if not isinstance(tensor, Tensor):
            raise ValueError(f"{node.target}, a {type(tensor).__name__}, is no tensor")
        return {**record, "tensor": store(str(node.target), tensor)}
    record["op"] = node.op
    if node.op == "call_function":
        record["target"] = vocabulary.name_of(node.target)
        record["kwargs"] = {name: encode(value) for name, value in node.kwargs.items()}
        if "channels" in node.meta:
            record["channels"] = node.meta["channels"]
    if node.op != "placeholder":
        record["args"] = [encode(value) for value in node.args]
    return record


def _read_node(record: Mapping[str, Any], graph: fx.Graph, nodes: Mapping[str, fx.Node]) -> fx.Node:
    op = record["op"]
    if op == "placeholder":
        return graph.placeholder(f"input_{len(graph.nodes)}")
    args = tuple(decode(record["args"], nodes))
    if op == "output":
        return graph.create_node("output", "output", args)
    if op != "call_function":
        raise ValueError(f"{op!r} is no operation of a graph")
    kwargs = {name: decode(value, nodes) for name, value in record["kwargs"].items()}
    target = vocabulary.find(record["target"])
    node = graph.create_node("call_function", target, args, kwargs, name=record["name"])
    if written_state(node) is not None:
        raise ValueError(f"{record['target']} would change its {written_state(node)}")
    if target is torch.ops.aten.cat.default and "channels" in record:
        node.meta["channels"] = [int(number) for number in cast("list[Any]", record["channels"])]
    return node
