"""Where a batch is computed in parts: the first layers image by image, the last ones all at once.

The values of early layers are large and their weights small. Computed for the whole batch, layer by
layer, each layer's values have left the near caches before the next one reads them; computed for a
few images at a time they stay there, and threads that take a part each do not wait for one another
after every layer. In late layers it is the weights that are large, and they are better read once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensorMode

from zoo.compiler.capture import Captured, TensorInput
from zoo.compiler.graph import arguments, is_constant
from zoo.compiler.lowering import Lowering
from zoo.compiler.values import Step, Value

# A byte of weights that every part reads again costs about two of values: measured over 0.5 to 4 on
# eight networks at batch 8.
_WEIGHT = 2
_MANY = 10007  # images: a number that no other dimension has by accident
_NEAR_BYTES = 512 << 10  # of a core's own cache, on the smallest of today's processors for servers


@dataclass(frozen=True)
class Cut:
    """A graph in two.

    Attributes:
        first: computes one tensor, each image of a batch by itself.
        rest: computes the outputs from it; None where ``first`` does.
        images: how many of them a part has.
    """

    first: fx.GraphModule
    rest: fx.GraphModule | None
    images: int


def cut(captured: Captured, leaves: Sequence[Any], precision: str, threads: int) -> Cut | None:
    """Where to cut the graph for these inputs; None where parts are not worth it, or not possible.

    Up to the cut, the bytes of the values that the layers read and write for an image exceed twice
    those of their weights by the most. It depends on nothing but sizes, so results are the same
    every time.
    """
    batch = _batch(captured, leaves)
    if batch is None or batch < 2 or batch % threads:
        return None
    with FakeTensorMode():
        many = [
            torch.empty_strided((_MANY, *leaf.shape[1:]), leaf.stride(), dtype=leaf.dtype)
            if isinstance(leaf, Tensor)
            else leaf
            for leaf in leaves
        ]
    if not captured.accepts(many):
        return None
    lowering = Lowering(captured.graph_module, many, precision)
    gain, done, most, last = 0, 0, 0, None
    for node in _single_values(captured.graph_module, lowering):
        gain += sum(map(_gain, lowering.steps[done : lowering.ends[node]]))
        done = lowering.ends[node]
        if gain > most:
            most, last = gain, node
    if last is None:
        return None
    largest = max(map(_values, lowering.steps[: lowering.ends[last]]))
    share = batch // threads
    images = max(
        number
        for number in range(1, share + 1)
        if share % number == 0 and (number == 1 or number * largest <= _NEAR_BYTES)
    )
    return None if images == batch else Cut(*_split(captured.graph_module, last), images)


def _batch(captured: Captured, leaves: Sequence[Any]) -> int | None:
    """The number of images, if all tensors have that many and the graph takes any number."""
    tensors = [
        (known.sizes, leaf)
        for known, leaf in zip(captured.inputs, leaves, strict=True)
        if isinstance(known, TensorInput)
    ]
    counts = {(sizes[0], len(leaf)) if sizes else None for sizes, leaf in tensors}
    if len(counts) != 1 or None in counts:
        return None
    ((name, batch),) = filter(None, counts)
    return batch if isinstance(name, str) else None


def _values(step: Step) -> int:
    """Bytes that the step reads and writes for each image."""
    return step.moved // _MANY


def _gain(step: Step) -> int:
    return _values(step) - _WEIGHT * step.weights


def _single_values(graph_module: fx.GraphModule, lowering: Lowering) -> Iterator[fx.Node]:
    """The nodes after which nothing else is needed of what is before them.

    Each has memory of its own. It ends where images might not be independent any more.
    """
    nodes = list(graph_module.graph.nodes)
    order = {node: index for index, node in enumerate(nodes)}
    needed: dict[fx.Node, int] = {}  # until when
    for index, node in enumerate(nodes):
        if is_constant(node):
            continue
        if node.op == "call_function" and not _image_by_image(node, lowering):
            return
        if node.op in ("placeholder", "call_function"):
            needed[node] = max((order[user] for user in node.users), default=index)
        needed = {each: last for each, last in needed.items() if last > index}
        if list(needed) == [node] and node.op == "call_function" and has_memory(lowering, node):
            yield node


def has_memory(lowering: Lowering, node: fx.Node) -> bool:
    """Whether the node's value is a buffer of the plan's, from the first element to the last."""
    value = lowering.value(node)
    return (
        isinstance(value, Value)
        and not lowering.is_deferred(node)
        and value.buffer.storage in ("arena", "output")
        and value.fake.dim() > 1
        and value.fills
    )


def _split(graph_module: fx.GraphModule, last: fx.Node) -> tuple[fx.GraphModule, Any]:
    """The graph up to the node, and from it on."""
    first, rest = fx.Graph(), fx.Graph()
    before: dict[fx.Node, fx.Node] = {}
    after: dict[fx.Node, fx.Node] = {}
    graph, known = first, before
    for node in graph_module.graph.nodes:
        if node.op == "output" and node.args[0] in ((last,), [last], last):
            return fx.GraphModule(graph_module, first), None
        if is_constant(node) and graph is first:
            after[node] = rest.node_copy(node, after.__getitem__)
        known[node] = graph.node_copy(node, known.__getitem__)
        if node is last:
            first.output((before[last],))
            after[last] = rest.placeholder(last.name)
            after[last].meta = dict(last.meta)
            graph, known = rest, after
    rest.eliminate_dead_code()
    return fx.GraphModule(graph_module, first), fx.GraphModule(graph_module, rest)


# Which ops compute each image of a batch by itself, as long as the batch stays the first dimension.

_POINTWISE = """
add sub mul div relu relu6 sigmoid tanh silu gelu hardswish hardsigmoid hardtanh leaky_relu clamp
elu mish softplus neg abs exp sqrt rsqrt pow scale_shift
"""
_BY_IMAGE = """
conv2d conv2d_pool linear max_pool2d avg_pool2d adaptive_avg_pool2d batch_norm group_norm flatten
view reshape unflatten contiguous clone dropout alias detach pixel_shuffle pixel_unshuffle
channel_shuffle upsample_nearest2d upsample_bilinear2d upsample_bicubic2d
"""
# What these name sizes by.
_SIZES = {"view": "size", "reshape": "shape"}
# These must leave the first dimension alone.
_DIMENSIONS: dict[str, Callable[[dict[str, Any]], Sequence[int]]] = {
    **dict.fromkeys(("mean", "sum", "amax"), lambda args: args["dim"] or [0]),
    **dict.fromkeys(
        ("softmax", "cat", "split", "split_with_sizes", "chunk", "slice", "narrow", "select"),
        lambda args: [args["dim"]],
    ),
    "transpose": lambda args: [args["dim0"], args["dim1"]],
    "permute": lambda args: [] if args["dims"][0] == 0 else [0],
    "layer_norm": lambda args: range(-len(args["normalized_shape"]), 0),
    "constant_pad_nd": lambda args: range(-len(args["pad"]) // 2, 0),
    "pad": lambda args: range(-len(args["pad"]) // 2, 0),
}


def _image_by_image(node: fx.Node, lowering: Lowering) -> bool:
    """Whether the node's result for some images of the batch does not depend on the others."""
    results = _tensors(lowering.value(node))
    if not results:
        return True  # a size: who uses it is asked about its own
    sources = [
        tensor
        for source in node.all_input_nodes
        if not is_constant(source)
        for tensor in _tensors(lowering.value(source))
    ]
    if any(tensor.dim() == 0 or tensor.shape[0] != _MANY for tensor in (*results, *sources)):
        return False
    if not isinstance(node.target, OpOverload):
        return True  # the choice of one of several results
    name = node.target._schema.name.partition("::")[2]
    known = arguments(node)
    if name in _SIZES:
        known[_SIZES[name]] = known[_SIZES[name]][1:]  # the batch's own place
    numbers: list[fx.Node] = []
    fx.node.map_arg(tuple(known.values()), numbers.append)
    if any(_counts_images(number, lowering) for number in numbers):
        return False
    if name in _POINTWISE.split():
        return all(tensor.dim() == results[0].dim() for tensor in sources)
    if name in _DIMENSIONS:
        dims = _DIMENSIONS[name](arguments(node))
        return all(dim % sources[0].dim() for dim in dims)
    return name in _BY_IMAGE.split()


def _counts_images(node: fx.Node, lowering: Lowering) -> bool:
    """Whether the node is a number that another number of images would change.

    Of tensors that hold images in their first dimension, no other dimension's size would.
    """
    if node.op != "call_function" or _tensors(lowering.value(node)):
        return False
    if node.target is torch.ops.aten.sym_size.int:
        known: dict[str, Any] = arguments(node)
        return known["dim"] in (0, -lowering.value(known["self"]).fake.dim())
    sources = node.all_input_nodes
    return any(_tensors(lowering.value(each)) or _counts_images(each, lowering) for each in sources)


def _tensors(value: Any) -> list[Tensor]:
    values = value if isinstance(value, list) else [value]
    return [each.fake for each in values if isinstance(each, Value)]
