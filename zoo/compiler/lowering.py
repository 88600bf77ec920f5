"""From a rewritten graph and the sizes of its inputs to a plan that runs in one call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.utils import _pytree as pytree

from zoo.compiler.checks import check_call, check_view
from zoo.compiler.choices import Choice, Choices
from zoo.compiler.graph import arguments, constant, scaled
from zoo.compiler.memory import Lifetime, place
from zoo.compiler.values import Buffer, Step, Storage, Value
from zoo.ops._library import extension

# Takes what the op's arguments are; None where the case is not one that a kernel takes.
Lower = Callable[["Lowering", fx.Node, dict[str, Any]], "Value | None"]
NATIVE: dict[OpOverload, Lower] = {}


def native(*targets: OpOverload) -> Callable[[Lower], Lower]:
    """Register the function as how these ops become steps of our own."""

    def register(lower: Lower) -> Lower:
        for target in targets:
            NATIVE[target] = lower
        return lower

    return register


class Lowering:
    """Walks a graph with fake tensors that have the layouts of the plan.

    An op that NATIVE knows becomes a step with an output of our choice (channels_last); one that
    returns a view becomes another view of the same buffer, and no step; any other becomes a call
    through the dispatcher.
    """

    def __init__(
        self,
        graph_module: fx.GraphModule,
        inputs: Sequence[Any],
        precision: str,
        choices: Choices | None = None,
        threads: int = 1,
    ) -> None:
        self.graph_module = graph_module
        self.precision = precision
        self.choices = choices or Choices()
        self.threads = threads
        self.cases: dict[str, str] = {}  # what kind of convolution each is, in words
        self.mode = FakeTensorMode(allow_non_fake_inputs=True)
        self.steps: list[Step] = []
        self.ends: dict[fx.Node, int] = {}  # how many steps there are when a node is computed
        self.buffers: list[Buffer] = []
        self.tensors = 0  # so many inputs are tensors, and what the plan is given
        self.padded: dict[fx.Node, tuple[Value, list[int]]] = {}
        self.flattened: dict[fx.Node, Value] = {}  # maps that linear layers read as they are
        self.gated: dict[fx.Node, tuple[Value, Value]] = {}  # maps, and what scales their channels
        self.normed: dict[fx.Node, Callable[[fx.Node, str], Value]] = {}  # with their activation
        self.joined: dict[fx.Node, Value] = {}  # concatenations that have their memory already
        self._owners: dict[int, Buffer] = {}
        self._values: dict[fx.Node, Any] = {}
        self._constants: dict[int, Value] = {}
        self._numbers: dict[tuple[type, float], Value] = {}
        self._alive: list[Tensor] = []  # an owner is known by an address, which must stay its own
        with self.mode, torch.no_grad():
            self.outputs = self._walk(inputs)

    # What the functions of NATIVE use.

    def empty(self, sizes: Iterable[int], node: fx.Node) -> Value:
        """Memory for the float32 maps that the node computes, in channels_last.

        A concatenation that reads them may want them in a place of its own.
        """
        sizes = list(sizes)
        fake = torch.empty(sizes, memory_format=torch.channels_last)
        return self._slice(node, sizes) or self._own(fake, "arena")

    def empty_like(self, value: Value, node: fx.Node) -> Value:
        """The same for a tensor with the value's sizes and order of dimensions."""
        wanted = self._slice(node, list(value.fake.shape))
        return wanted or self._own(torch.empty_like(value.fake), "arena")

    def rows(self, sizes: Iterable[int]) -> Value:
        """Memory for a contiguous float32 tensor."""
        return self._own(torch.empty(list(sizes)), "arena")

    def map(self, sizes: Iterable[int]) -> Value:
        """Memory for a float32 map in channels_last, without gaps."""
        return self._own(torch.empty(list(sizes), memory_format=torch.channels_last), "arena")

    def view(self, value: Value, fake: Tensor) -> Value:
        """Another view of the value's memory."""
        return Value(fake, value.buffer)

    def reshaped(self, value: Value, sizes: Sequence[int]) -> Value:
        """The value with other sizes: a view where its layout allows, else a copy."""
        try:
            return self.view(value, viewed(value.fake, sizes))
        except RuntimeError:
            copy = self.rows(value.fake.shape)
            self.copy(value, copy, "reshape")
            return self.view(copy, viewed(copy.fake, sizes))

    def constant(self, tensor: Tensor) -> Value:
        """A value that is there before the plan runs."""
        key = id(tensor)
        if key not in self._constants:
            self._constants[key] = self._constant(tensor, lambda: tensor, False)
        return self._constants[key]

    def number(self, number: float) -> Value:
        """A constant of no dimensions, of the dtype that PyTorch takes such a number for."""
        key = type(number), number
        if key not in self._numbers:
            with unset_fake_temporarily():
                tensor = torch.tensor(number)
            self._numbers[key] = self._constant(tensor, lambda: tensor, True)
        return self._numbers[key]

    def together(self, parts: Sequence[Value], sizes: Sequence[int], dim: int) -> Value | None:
        """The tensor whose consecutive parts along ``dim`` these are, if they lie so."""
        first = parts[0]
        end = first.fake.storage_offset()
        for part in parts:
            apart = part.buffer is not first.buffer or part.fake.stride() != first.fake.stride()
            if apart or part.fake.storage_offset() != end:
                return None
            end += part.fake.shape[dim] * part.fake.stride(dim)
        fake = first.fake
        return self.view(first, fake.as_strided(sizes, fake.stride(), fake.storage_offset()))

    def real(self, node: Any) -> Tensor | None:
        """The tensor that a node names, if it is a constant one."""
        if isinstance(node, fx.Node) and node.op == "get_attr":
            tensor = getattr(self.graph_module, str(node.target))
            return tensor if isinstance(tensor, Tensor) else None
        return None

    def is_deferred(self, node: fx.Node) -> bool:
        """Whether what the node computes is left to those that read it."""
        return any(
            node in these for these in (self.padded, self.flattened, self.gated, self.normed)
        )

    def value(self, node: fx.Node) -> Any:
        """What the node computed: a Value, a number, or a list of them."""
        return self._values[node]

    def step(
        self,
        name: str,
        op: str,
        reads: Iterable[Value | None],
        writes: Value,
        emit: Callable[[Any], None],
        flops: int = 0,
        weights: int = 0,
        over: Value | None = None,
    ) -> Value:
        """Append a step and return what it writes.

        Args:
            weights: bytes beside those of ``reads``.
            over: one of ``reads`` that the step reads element by element, each before it writes
                that of the result: this may then lie in its place.
        """
        sources = [value for value in reads if value is not None]
        self._append(name, op, sources, [writes], emit, flops, weights)
        if over is not None and over.fills and writes.fills and alike(over.fake, writes.fake):
            self.steps[-1].over = over.buffer
        return writes

    def copy(self, source: Value, target: Value, name: str) -> None:
        """A step that copies; more than four dimensions, or other dtypes, by PyTorch."""
        if source.fake.dim() > 4 or source.fake.dtype != torch.float32:
            raise NotImplementedError(
                f"a copy of {source.fake.dtype} in {source.fake.dim()} dimensions"
            )
        self.step(
            name,
            "copy",
            [source],
            target,
            lambda plan: plan.scale_shift(
                source.view(four(source.fake)), target.view(four(target.fake)), None, None, "none"
            ),
        )

    def choice(self, node: fx.Node, case: str) -> Choice:
        """Which kernels are to compute this convolution, which is described in words."""
        self.cases[node.name] = f"{case}, {self.threads} threads"
        return self.choices(self.cases[node.name])

    def foreign(
        self,
        name: str,
        target: OpOverload,
        args: Any,
        kwargs: Any,
        fakes: Sequence[Tensor],
        sources: Sequence[Value],
    ) -> list[Value]:
        """A step that calls an op through the dispatcher.

        Args:
            args, kwargs: the op's, with values in the place of tensors.
            fakes: what it returns.
            sources: these values in the schema's order, in which the plan finds them.
        """
        values = [self._own(fake, "foreign") for fake in fakes]

        def stand_in(leaf: Any) -> Any:
            return torch.empty(0) if isinstance(leaf, Value) else leaf

        def emit(plan: Any) -> None:
            plain, named = pytree.tree_map(stand_in, (args, kwargs))
            schema = target._schema
            views = [value.view() for value in values]
            plan.call(
                schema.name,
                schema.overload_name,
                plain,
                named,
                [one.view() for one in sources],
                views,
            )

        self._append(name, target._schema.name, sources, values, emit)
        return values

    # The walk.

    def _constant(self, like: Tensor, get: Callable[[], Tensor | None], fresh: bool) -> Value:
        """A value of this layout; ``fresh`` says that the tensor is this plan's alone."""
        fake = torch.empty_strided(like.shape, like.stride(), dtype=like.dtype)
        value = self._own(fake, "constant")
        value.buffer.tensor, value.buffer.fresh = get, fresh
        return value

    def _own(self, fake: Tensor, storage: Storage) -> Value:
        elements = fake.untyped_storage().nbytes() // fake.dtype.itemsize
        buffer = Buffer(storage, fake.dtype, elements)
        self.buffers.append(buffer)
        self._owners[fake.untyped_storage()._cdata] = buffer
        self._alive.append(fake)
        return Value(fake, buffer)

    def _append(
        self,
        name: str,
        op: str,
        reads: Sequence[Value],
        writes: Sequence[Value],
        emit: Callable[[Any], None],
        flops: int = 0,
        weights: int = 0,
    ) -> None:
        moved = 0
        for value in (*reads, *writes):
            value.buffer.use(len(self.steps))
            if value.buffer.storage == "constant":
                weights += value.bytes
            else:
                moved += value.bytes
        read, written = ([value.buffer for value in values] for values in (reads, writes))
        shape = list(writes[0].fake.shape)
        self.steps.append(Step(name, op, read, written, emit, shape, flops, moved, weights))

    def _walk(self, inputs: Sequence[Any]) -> list[Any]:
        given = iter(inputs)
        for node in self.graph_module.graph.nodes:
            if node.op == "placeholder":
                self._values[node] = self._input(next(given))
            elif node.op == "get_attr":
                tensor = getattr(self.graph_module, str(node.target))
                self._values[node] = self.constant(tensor) if isinstance(tensor, Tensor) else tensor
            elif (factors := scaled(node)) is not None:
                # Multiplied for what no kernel of ours computes: ours are told the factors.
                weight, scale = (self._values[factor].fake for factor in factors)
                self._values[node] = self._constant(weight * scale, partial(constant, node), True)
            elif node.op == "call_function":
                self._values[node] = self._call(node)
                self.ends[node] = len(self.steps)
            elif node.op == "output":
                return [self._output(value) for value in self._leaves(node.args[0])]
        raise AssertionError("a graph without output")

    def _input(self, leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        fake = torch.empty_strided(leaf.shape, leaf.stride(), dtype=leaf.dtype)
        value = self._own(fake, "input")
        value.buffer.index = self.tensors
        self.tensors += 1
        return value

    def _leaves(self, args: Any) -> list[Any]:
        return [self._resolve(leaf) for leaf in pytree.tree_leaves(args)]

    def _resolve(self, leaf: Any) -> Any:
        return self._values[leaf] if isinstance(leaf, fx.Node) else leaf

    def _number(self, leaf: Any) -> Any:
        """The number that a node computes, a size say; a tensor's node as it is."""
        value = self._values.get(leaf) if isinstance(leaf, fx.Node) else leaf
        return value if isinstance(value, (int, float)) else leaf

    def _call(self, node: fx.Node) -> Any:
        if not isinstance(node.target, OpOverload):
            # Arithmetic on sizes, and the choice of one of several results.
            args, kwargs = pytree.tree_map(self._resolve, (node.args, node.kwargs))
            assert callable(node.target)
            return node.target(*args, **kwargs)
        lower = NATIVE.get(node.target)
        if lower is not None:
            value = lower(self, node, pytree.tree_map(self._number, arguments(node)))
            if value is not None:
                check_call(node.target, *self._operands(node, node.target), value)
                return value
        return self._dispatch(node, node.target)

    def _operands(
        self, node: fx.Node, target: OpOverload
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """A call's arguments, with values in the place of nodes, and of numbers for tensors."""
        tensors = {
            argument.name
            for argument in target._schema.arguments
            if isinstance(argument.type, torch.TensorType)
        }
        names = [argument.name for argument in target._schema.arguments]

        def operand(name: str, given: Any) -> Any:
            value = pytree.tree_map(self._resolve, given)
            number = name in tensors and isinstance(value, (int, float))
            return self.number(value) if number else value

        args = tuple(map(operand, names, node.args))
        return args, {name: operand(name, given) for name, given in node.kwargs.items()}

    def _dispatch(self, node: fx.Node, target: OpOverload) -> Any:
        if any(map(self.is_deferred, node.all_input_nodes)):
            raise NotImplementedError(f"{target._schema.name} of a map that is left to its readers")
        args, kwargs = self._operands(node, target)

        def fakes(leaf: Any) -> Any:
            return leaf.fake if isinstance(leaf, Value) else leaf

        target, result = self._fake_call(target, *pytree.tree_map(fakes, (args, kwargs)))
        results = list(result) if isinstance(result, (tuple, list)) else [result]
        if not all(isinstance(one, Tensor) for one in results):
            return result  # a size
        owners = [self._owners.get(one.untyped_storage()._cdata) for one in results]
        if all(owners):
            values = [
                Value(one, owner) for one, owner in zip(results, owners, strict=True) if owner
            ]
            for value in values:
                check_view(value)
        else:
            order = [argument.name for argument in target._schema.arguments]
            given = (*args, *(kwargs[name] for name in order if name in kwargs))
            sources = [one for one in pytree.tree_leaves(given) if isinstance(one, Value)]
            values = self.foreign(node.name, target, args, kwargs, results, sources)
        return values if isinstance(result, (tuple, list)) else values[0]

    def _fake_call(self, target: OpOverload, args: Any, kwargs: Any) -> tuple[OpOverload, Any]:
        if target is not torch.ops.aten.view.default:
            return target, target(*args, **kwargs)
        try:
            return target, viewed(*args, **kwargs)
        except RuntimeError:
            # The layout is not the one that the graph was made with: it may need a copy.
            reshape = torch.ops.aten.reshape.default
            return reshape, reshape(*args, **kwargs)

    def _output(self, value: Any) -> Any:
        if not isinstance(value, Value):
            return value
        if value.buffer.storage in ("input", "constant"):
            # The caller's own tensor: a module would not return one that later calls change.
            if value.fake.dtype != torch.float32 or value.fake.dim() > 4:
                raise NotImplementedError("an output that is an input")
            copy = self._own(torch.empty_like(value.fake), "output")
            self.copy(value, copy, "output")
            value = copy
        elif value.buffer.storage == "arena":
            value.buffer.storage = "output"
        value.buffer.use(len(self.steps))
        return value

    # Concatenations along channels: whoever computes a part writes it to where it belongs.

    def _slice(self, node: fx.Node, sizes: list[int]) -> Value | None:
        joins = {
            join: list(arguments(join)["tensors"]) for join in node.users if "channels" in join.meta
        }
        joins = {join: parts for join, parts in joins.items() if parts.count(node) == 1}
        if len(sizes) != 4 or not joins:
            return None
        # The longest: what is joined earlier is often the beginning of what is joined later.
        join = max(joins, key=lambda join: len(joins[join]))
        channels = join.meta["channels"]
        if join not in self.joined:
            fake = torch.empty(
                [sizes[0], sum(channels), *sizes[2:]], memory_format=torch.channels_last
            )
            self.joined[join] = self._own(fake, "arena")
        whole = self.joined[join]
        start = sum(channels[: joins[join].index(node)])
        return self.view(whole, whole.fake.narrow(1, start, sizes[1]))


def viewed(fake: Tensor, size: Sequence[int]) -> Tensor:
    """The tensor's view of this size. Raises RuntimeError where its layout has none.

    By PyTorch's kernel: fake tensors (2.14) take some for views that are none, where a dimension
    is of size one, and lay them out wrongly.
    """
    with unset_fake_temporarily():
        like = torch.empty_strided(fake.shape, fake.stride(), dtype=fake.dtype, device="meta")
        view = like.view(size)
    return fake.as_strided(view.shape, view.stride(), fake.storage_offset())


def alike(one: Tensor, other: Tensor) -> bool:
    """Whether the two have the same sizes and strides."""
    return one.shape == other.shape and one.stride() == other.stride()


def four(fake: Tensor) -> Tensor:
    """With dimensions of one before those that it has."""
    while fake.dim() < 4:
        fake = fake.unsqueeze(0)
    return fake


def build(lowering: Lowering, weights: Any, threads: int) -> Any:
    """The plan (``zoo._C.Plan``) of what was lowered; ``weights`` are shared by a model's plans."""
    plan = extension.Plan(threads, weights)
    where, total = _places(lowering)
    for buffer in lowering.buffers:
        if buffer.first is None:
            continue
        if buffer.storage == "constant":
            assert buffer.tensor is not None
            buffer.id = plan.constant(buffer.tensor(), buffer.fresh)
        elif buffer.storage == "input":
            buffer.id = plan.input(buffer.index, buffer.dtype)
        elif buffer.storage == "output":
            buffer.id = plan.output(buffer.elements, buffer.dtype)
        elif buffer.storage == "arena":
            buffer.id = plan.arena(where[id(buffer)], buffer.dtype)
        else:
            buffer.id = plan.foreign(buffer.dtype)
    for step in lowering.steps:
        step.emit(plan)
    plan.finish(total, [value.view() for value in lowering.outputs if isinstance(value, Value)])
    return plan


def _places(lowering: Lowering) -> tuple[dict[int, int], int]:
    """Where each buffer (its id) lies in the arena, and the bytes of all together."""
    hosts: dict[int, Buffer] = {}  # in whose place a buffer lies
    for index, step in enumerate(lowering.steps):
        over, result = step.over, step.writes[0]
        if (
            over is not None
            and over.storage == result.storage == "arena"
            and over.last == index == result.first
            and step.reads.count(over) == 1
        ):
            hosts[id(result)] = hosts.get(id(over), over)
    lives: dict[int, Lifetime] = {}
    for buffer in lowering.buffers:
        if buffer.storage == "arena" and buffer.first is not None:
            host = id(hosts.get(id(buffer), buffer))
            known = lives.get(host, Lifetime(buffer.bytes, buffer.first, buffer.last))
            lives[host] = Lifetime(
                buffer.bytes, min(known.first, buffer.first), max(known.last, buffer.last)
            )
    offsets, total = place(list(lives.values()))
    where = dict(zip(lives, offsets, strict=True))
    return where | {guest: where[id(host)] for guest, host in hosts.items()}, total
