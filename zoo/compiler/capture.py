"""A module's ATen graph, by torch.export, with what a caller needs to run it."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import sympy
import torch
from torch import Tensor, fx, nn
from torch.export import Dim, ExportedProgram, ShapesCollection
from torch.export.graph_signature import InputKind, OutputKind
from torch.fx.experimental import _config as shape_config
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from zoo.compiler.graph import arguments, is_call, overloads, shape
from zoo.compiler.passes.functionalize import functionalize, written_state
from zoo.compiler.quiet import quiet
from zoo.compiler.sizes import Formula, evaluate, formula
from zoo.errors import ZooError

# What holds a network's own state, as opposed to what it is called with.
_STATE = (InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR)


class CaptureError(ZooError):
    """The module's graph cannot be taken; it can still run as it is."""


@dataclass(frozen=True)
class TensorInput:
    """The tensors that a graph takes for one of its inputs.

    Attributes:
        dtype: theirs.
        device: where they lie.
        sizes: numbers, and formulas of sizes that are open; a mere name stands for any size.
    """

    dtype: torch.dtype
    device: torch.device
    sizes: tuple[Formula, ...]

    def __str__(self) -> str:
        return described(self.dtype, self.sizes)


def described(dtype: torch.dtype, sizes: Iterable[Formula]) -> str:
    """A tensor in an error's words: its sizes, and its dtype if that is not float32."""
    shape = ", ".join(str(size) if isinstance(size, int) else "?" for size in sizes)
    return f"[{shape}]" + ("" if dtype == torch.float32 else f" {str(dtype)[len('torch.') :]}")


@dataclass(frozen=True)
class Captured:
    """A module in eval mode as a functional graph of ATen ops.

    Attributes:
        graph_module: its placeholders are the flattened inputs, its output the tuple of flattened
            outputs; parameters, buffers and constants are attributes (one level deep, so
            ``getattr(graph_module, node.target)``) which share the module's memory.
        in_spec: how ``(args, kwargs)`` are flattened.
        out_spec: how the outputs are put together again.
        inputs: for each flattened input which tensors the graph takes, or its only value.
        guards: conditions on the open sizes.
        names: of the module's positional parameters.
    """

    graph_module: fx.GraphModule
    in_spec: pytree.TreeSpec
    out_spec: pytree.TreeSpec
    inputs: tuple[TensorInput | Any, ...]
    guards: tuple[Formula, ...]
    names: tuple[str, ...]

    @property
    def dynamic(self) -> tuple[tuple[int, ...], ...]:
        """For each flattened input its dimensions whose sizes may differ from the example's."""
        return tuple(
            tuple(axis for axis, size in enumerate(one.sizes) if not isinstance(size, int))
            if isinstance(one, TensorInput)
            else ()
            for one in self.inputs
        )

    @cached_property
    def _is_flat(self) -> bool:
        """Whether each input is an argument of its own, in a place."""
        count = self.in_spec.num_leaves
        return bool(self.in_spec == pytree.tree_structure((tuple(range(count)), {})))

    def flatten(self, args: tuple[Any, ...], kwargs: Mapping[str, Any] | None = None) -> list[Any]:
        """The graph's inputs for a call. Raises TypeError where the structure is another one.

        An input that the example had in a place may be given by name, and the other way round.
        """
        leaves = list(args)
        known = self._is_flat and len(leaves) == len(self.inputs) and not kwargs
        if not (known and all(isinstance(leaf, Tensor) for leaf in leaves)):
            leaves = self._leaves(args, dict(kwargs or {}))
        # Whose numbers are the negative of what lies in memory.
        return [
            leaf.resolve_neg() if isinstance(leaf, Tensor) and leaf.is_neg() else leaf
            for leaf in leaves
        ]

    def _leaves(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
        places = self.in_spec.child(0).num_children
        while len(args) < min(places, len(self.names)) and self.names[len(args)] in kwargs:
            args = (*args, kwargs.pop(self.names[len(args)]))
        while places < len(args) <= len(self.names) and self.names[len(args) - 1] not in kwargs:
            kwargs[self.names[len(args) - 1]] = args[-1]
            args = args[:-1]
        known = self.in_spec.child(1).context
        if kwargs.keys() == set(known):
            kwargs = {name: kwargs[name] for name in known}
        leaves, spec = pytree.tree_flatten((args, kwargs))
        if spec != self.in_spec:
            raise TypeError(
                "the inputs are structured differently from the example's; "
                "optimize again with such an example"
            )
        return leaves

    def unflatten(self, outputs: Iterable[Any]) -> Any:
        """What the module returns, from the graph's flat outputs."""
        return pytree.tree_unflatten(outputs, self.out_spec)

    def accepts(self, inputs: Iterable[Any]) -> bool:
        """Whether the graph computes what the module would for these flattened inputs."""
        sizes: dict[str, int] = {}
        formulas: list[tuple[Formula, int]] = []
        for wanted, given in zip(self.inputs, inputs, strict=True):
            if not isinstance(wanted, TensorInput):
                if type(wanted) is not type(given) or wanted != given:
                    return False
                continue
            if (
                not isinstance(given, Tensor)
                or given.dtype != wanted.dtype
                or given.device != wanted.device
                or given.dim() != len(wanted.sizes)
            ):
                return False
            for size, actual in zip(wanted.sizes, given.shape, strict=True):
                if isinstance(size, str):
                    sizes.setdefault(size, actual)
                formulas.append((size, actual))
        try:
            return all(evaluate(size, sizes) == actual for size, actual in formulas) and all(
                evaluate(guard, sizes) for guard in self.guards
            )
        except (ArithmeticError, KeyError, TypeError, ValueError):
            return False  # a condition on something else than the sizes of these inputs

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the graph as the module would run."""
        return self.unflatten(self.graph_module(*self.flatten(args, kwargs)))


def capture(
    module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any] | None = None
) -> Captured:
    """Take the graph of ``module(*args, **kwargs)`` for inference.

    Batch, height and width of the inputs stay open where the module allows. The module is not
    changed, and the graph shares its tensors. Works under inference_mode and no_grad.

    Args:
        module: in eval mode.
        args: example inputs; tensors may lie in tuples, lists and dicts.
        kwargs: the same by name.

    Raises:
        CaptureError: training mode, control flow that depends on data, changes to buffers or
            inputs, or whatever else torch.export cannot trace.
    """
    name = type(module).__name__
    if module.training:
        raise CaptureError(f"{name} is in training mode; call .eval() first")
    kwargs = dict(kwargs or {})
    program = _export(module, args, kwargs)
    graph_module = _with_state(program, name)
    functionalize(graph_module)
    _check_state(graph_module, name)
    if _mutates(graph_module):
        # An in-place op while a view of its input lives: PyTorch's own functionalisation knows.
        program = program.run_decompositions({})
        if any(
            spec.kind is not OutputKind.USER_OUTPUT for spec in program.graph_signature.output_specs
        ):
            raise CaptureError(f"{name} changes its inputs or buffers; that cannot be captured")
        graph_module = _with_state(program, name)
    placeholders = graph_module.graph.find_nodes(op="placeholder")
    spec = program.call_spec
    assert spec.in_spec is not None
    assert spec.out_spec is not None
    try:
        inputs = tuple(
            _input(node, leaf)
            for node, leaf in zip(placeholders, pytree.tree_leaves((args, kwargs)), strict=True)
        )
        guards = tuple(_guards(placeholders))
    except NotImplementedError as error:
        raise CaptureError(f"{name} cannot be captured: {error}") from error
    names = tuple(
        parameter.name
        for parameter in inspect.signature(module.forward).parameters.values()
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    )
    return Captured(graph_module, spec.in_spec, spec.out_spec, inputs, guards, names)


def _export(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], oblivious: bool = True
) -> ExportedProgram:
    """By the first way that works: all sizes open, the batch open, all fixed, dynamo.

    Oblivious, an open size may be 1 as any other; only code that asks for 1 makes it special.
    """

    def export(axes: tuple[int, ...], strict: bool = False) -> ExportedProgram:
        sizes = ShapesCollection()  # type: ignore[no-untyped-call]
        for leaf in pytree.tree_leaves((args, kwargs)):
            if isinstance(leaf, Tensor) and axes and leaf.dim() > 0:
                sizes[leaf] = dict.fromkeys(axes if leaf.dim() == 4 else (0,), Dim.AUTO)
        with _SimpleSizes() if len(axes) > 1 else nullcontext():
            return torch.export.export(
                module, args, kwargs, dynamic_shapes=sizes if axes else None, strict=strict
            )

    reason: Exception | None = None
    inference = any(tensor.is_inference() for tensor in module.state_dict().values())
    for axes, strict in (((0, 2, 3), False), ((0,), False), ((), False), ((), True)):
        with (
            quiet(),
            torch.inference_mode(inference),
            torch.no_grad(),
            shape_config.patch(backed_size_oblivious=oblivious),  # type: ignore[attr-defined]
            warnings.catch_warnings(),
        ):
            # Of caches that the module keeps in attributes, which export puts back as they were.
            warnings.simplefilter("ignore", UserWarning)
            try:
                program = export(axes, strict)
            except Exception as error:  # whatever the module's code and the tracers raise
                reason = error if reason is None or isinstance(reason, _Unwieldy) else reason
                continue
        if oblivious and any(map(_squeezes_open, program.graph.nodes)):
            return _export(module, args, kwargs, oblivious=False)
        return program
    lines = str(reason).strip().splitlines() or [""]
    raise CaptureError(
        f"{type(module).__name__} cannot be captured: {type(reason).__name__}: {lines[0]}"
    ) from reason


def _squeezes_open(node: fx.Node) -> bool:
    """Whether the call removes a dimension where its size, which is open, is 1."""
    if not is_call(node, *overloads(torch.ops.aten.squeeze)):
        return False
    sizes = shape(node.args[0])
    assert sizes is not None
    dims = arguments(node).get("dim", range(len(sizes)))
    dims = [dims] if isinstance(dims, int) else dims
    return any(_expression(sizes[dim]) is not None for dim in dims)


class _Unwieldy(Exception):
    """Open sizes have become expressions that take minutes to reason about."""


class _SimpleSizes(TorchFunctionMode):
    """Stops a trace in which the formula of a size grows with every layer.

    TensorFlow's "same" padding makes such: dm_nfnet_f0 would take two minutes and a half.
    """

    # Operations in one formula. Of 24 networks of timm that can be captured so, none has more than
    # 9; tf_efficientnet_lite0 comes to 112 before a limit of 40 stops it, after 8 seconds.
    _LIMIT = 16

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            for size in result.shape:
                expression = _expression(size)
                if expression is not None and expression.count_ops() > self._LIMIT:
                    raise _Unwieldy
        return result


def _with_state(program: ExportedProgram, name: str) -> fx.GraphModule:
    """The program's graph with its state as attributes instead of inputs."""
    root, graph = nn.Module(), fx.Graph()
    specs = {spec.arg.name: spec for spec in program.graph_signature.input_specs}
    copies: dict[fx.Node, fx.Node] = {}
    for node in program.graph.nodes:
        if node.op == "placeholder" and specs[node.name].kind in _STATE:
            target = specs[node.name].target
            assert target is not None
            source = program.state_dict if target in program.state_dict else program.constants
            root.register_buffer(node.name, source[target].detach())
            copy = graph.get_attr(node.name)
            copy.meta = dict(node.meta)
        else:
            if node.op == "placeholder" and specs[node.name].kind is not InputKind.USER_INPUT:
                raise CaptureError(f"{name} uses a custom object; that cannot be captured")
            if node.op == "get_attr":
                setattr(root, node.target, getattr(program.graph_module, node.target))
            copy = graph.node_copy(node, copies.__getitem__)
        copies[node] = copy
    return fx.GraphModule(root, graph, class_name=name)


def _check_state(graph_module: fx.GraphModule, name: str) -> None:
    """Refuse a graph that changes the module's buffers or the caller's inputs."""
    for node in graph_module.graph.nodes:
        written = written_state(node)
        if written is not None:
            raise CaptureError(
                f"{name} changes its {written} in {node.target}; that cannot be captured"
            )


def _mutates(graph_module: fx.GraphModule) -> bool:
    return any(
        isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable
        for node in graph_module.graph.nodes
    )


def _input(node: fx.Node, leaf: Any) -> TensorInput | Any:
    if not isinstance(leaf, Tensor):
        return leaf
    sizes = node.meta["val"].shape
    expressions = map(_expression, sizes)
    return TensorInput(
        leaf.dtype,
        leaf.device,
        tuple(
            int(size) if expression is None else formula(expression)
            for size, expression in zip(sizes, expressions, strict=True)
        ),
    )


def _expression(size: Any) -> sympy.Expr | None:
    """An open size in the symbols of the inputs' sizes; None for a fixed one."""
    if not isinstance(size, torch.SymInt) or size.node.expr.is_number:
        return None
    expression: sympy.Expr = size.node.expr
    return expression


def _guards(placeholders: Iterable[fx.Node]) -> Iterable[Formula]:
    """The conditions under which the traced path is the module's."""
    for node in placeholders:
        value = node.meta.get("val")
        if isinstance(value, Tensor) and hasattr(value, "fake_mode"):
            shapes = value.fake_mode.shape_env
            conditions = [guard.expr for guard in shapes.guards if not _about_layout(guard)]
            # That an open size is not 1, where the trace was not oblivious of that.
            conditions += [
                sympy.Ge(symbol, 2, evaluate=False)
                for symbol in {
                    expression
                    for each in placeholders
                    if isinstance(each.meta.get("val"), Tensor)
                    for expression in map(_expression, each.meta["val"].shape)
                    if isinstance(expression, sympy.Symbol)
                }
                if shapes.var_to_range[symbol].lower == 2
            ]
            # Symbols that turned out to be fixed are numbers in the placeholders.
            formulas = (formula(each.xreplace(shapes.replacements)) for each in conditions)
            return [each for each in formulas if each is not True]
    return []


def _about_layout(guard: Any) -> bool:
    """Whether it only says which memory format a fake convolution's output has."""
    where = guard.sloc.framework_loc
    return where is not None and where.filename.endswith("fake_impls.py") and where.name == "conv"
