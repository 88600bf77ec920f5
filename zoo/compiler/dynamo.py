"""``torch.compile(model, backend="zoo")``."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._dynamo.source import TensorProperty, TensorPropertySource

from zoo.compiler.network import ChangedWeightsError
from zoo.compiler.optimize import optimize
from zoo.compiler.optimized import OptimizedModule
from zoo.errors import UsageError
from zoo.ops._origin import Origin, counts_changes

_OPTIONS = ("keep", "precision")


def zoo(
    graph_module: fx.GraphModule,
    example_inputs: Sequence[Any],
    *,
    mode: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Callable[..., Any]:
    """A backend of dynamo: the graph, run by :func:`zoo.optimize`; found by its name.

    Every graph between two breaks is optimized at its first call. Changes to weights and to
    BatchNorm's statistics are noticed, and lead to plans anew; those through ``.data`` by new sizes
    of the inputs only. Where gradients are wanted the graph runs as it is.

    Args:
        graph_module: as dynamo captured it; parameters are inputs.
        example_inputs: not used: the first call brings its own.
        mode: inductor's; there are none here.
        options: ``precision`` and ``keep`` of :func:`zoo.optimize`.

    Raises:
        UsageError: a mode, other options, or other values of them.
    """
    if mode is not None:
        raise UsageError(f"the backend zoo has no modes, such as {mode!r}; see its options")
    options = dict(options or {})
    unknown = sorted(options.keys() - set(_OPTIONS))
    if unknown:
        raise UsageError(
            f"unknown option {unknown[0]!r} of the backend zoo; known are {', '.join(_OPTIONS)}"
        )
    return _Compiled(graph_module, options)


class _Compiled:
    """A graph of dynamo's with its plans, which are made when it is first called."""

    def __init__(self, graph_module: fx.GraphModule, options: dict[str, Any]) -> None:
        self._graph_module = graph_module
        self._options = options
        self._inner, self._numbers = _with_numbers(graph_module)
        placeholders = graph_module.graph.find_nodes(op="placeholder")
        self._static = [i for i, node in enumerate(placeholders) if _is_static(node)]
        # With inductor's `freezing` set, dynamo leaves parameters in the graph.
        self._held = [*graph_module.parameters(), *graph_module.buffers()]
        self._sizes = _sizes(placeholders)
        known = {*self._static, *self._sizes}
        self._given = [i for i in range(len(placeholders)) if i not in known]
        self._prepared: tuple[Origin, list[Tensor], Tensor, OptimizedModule] | None = None
        self._warned = False

    def __call__(self, *inputs: Any) -> Any:
        static = [inputs[i] for i in self._static]
        watched = [*static, *self._held]
        if torch.is_grad_enabled() and any(
            isinstance(each, Tensor) and each.requires_grad for each in (*inputs, *self._held)
        ):
            self._warn("gradients are wanted; call it under torch.no_grad() or inference_mode()")
            return self._graph_module(*inputs)
        # Two threads may both prepare at first; either result will do.
        prepared = self._prepared
        given = tuple(inputs[i].item() if i in self._numbers else inputs[i] for i in self._given)
        if (
            prepared is None
            or not prepared[0].still(watched)
            or not torch.equal(_bits(prepared[1]), prepared[2])
        ):
            if not all(map(counts_changes, watched)):
                self._warn("its weights were made under inference_mode, which hides their changes")
                return self._graph_module(*inputs)
            origin, statistics = Origin(watched), _statistics(watched)
            prepared = (origin, statistics, _bits(statistics), self._prepare(static, given))
            self._prepared = prepared
        try:
            return prepared[3](*given)
        except ChangedWeightsError:  # through .data
            self._prepared = None
            return self(*inputs)

    def _warn(self, reason: str) -> None:
        if not self._warned:
            warnings.warn(f"torch.compile(backend='zoo'): {reason}; it runs as it is", stacklevel=4)
            self._warned = True

    def _prepare(self, static: Sequence[Tensor], given: tuple[Any, ...]) -> OptimizedModule:
        tensors = dict(zip(self._static, static, strict=True))
        bound = _Bound(self._inner, tensors, self._sizes, self._given)
        return optimize(bound.eval(), given, **self._options)


class _Bound(nn.Module):
    """The graph with its weights in place, a function of what changes from call to call."""

    def __init__(
        self,
        graph_module: fx.GraphModule,
        tensors: Mapping[int, Tensor],
        sizes: Mapping[int, tuple[int, int]],
        given: Sequence[int],
    ) -> None:
        super().__init__()
        self.graph = graph_module
        for index, tensor in tensors.items():
            self.register_buffer(f"input_{index}", tensor.detach())
        self._static, self._sizes, self._order = list(tensors), dict(sizes), list(given)

    def forward(self, *given: Any) -> Any:
        """What the graph returns."""
        inputs: dict[int, Any] = dict(zip(self._order, given, strict=True))
        for index in self._static:
            inputs[index] = getattr(self, f"input_{index}")
        for index, (tensor, axis) in self._sizes.items():
            inputs[index] = inputs[tensor].shape[axis]
        return self.graph(*(inputs[index] for index in range(len(inputs))))


def _statistics(watched: Sequence[Any]) -> list[Tensor]:
    """What may be a BatchNorm's statistics, of which PyTorch does not count the changes."""
    return [
        each.detach()
        for each in watched
        if isinstance(each, Tensor)
        and not isinstance(each, nn.Parameter)
        and each.dtype == torch.float32
        and each.dim() == 1
    ]


def _bits(vectors: list[Tensor]) -> Tensor:
    """Their values, to be compared: as whole numbers, of which none is unequal to itself."""
    return torch.cat(vectors).view(torch.int32) if vectors else torch.empty(0)


def _is_static(node: fx.Node) -> bool:
    """Whether dynamo knows the input for a parameter or buffer."""
    return bool((node.meta.get("tensor_dict") or {}).get("_dynamo_static_input_type"))


def _with_numbers(graph_module: fx.GraphModule) -> tuple[fx.GraphModule, set[int]]:
    """The graph with numbers where dynamo passes tensors of one number; which inputs these are.

    With ``dynamic=True`` it does so with every float, a BatchNorm's epsilon among them.
    """
    graph = copy.deepcopy(graph_module.graph)
    numbers = set()
    for index, node in enumerate(graph.find_nodes(op="placeholder")):
        users = list(node.users)
        if users and all(user.op == "call_method" and user.target == "item" for user in users):
            numbers.add(index)
            for user in users:
                user.replace_all_uses_with(node)
                graph.erase_node(user)
    return fx.GraphModule(graph_module, graph), numbers


def _sizes(placeholders: Sequence[fx.Node]) -> dict[int, tuple[int, int]]:
    """Inputs that are a size of another: their index, the tensor's index and the dimension."""
    sources = {node._dynamo_source: i for i, node in enumerate(placeholders)}  # type: ignore[attr-defined]
    found = {}
    for source, index in sources.items():
        if isinstance(source, TensorPropertySource) and source.prop is TensorProperty.SIZE:
            tensor = sources.get(source.base)
            if tensor is not None:
                assert source.idx is not None
                found[index] = (tensor, source.idx)
    return found
