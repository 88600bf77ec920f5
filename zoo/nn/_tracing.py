"""A model's forward in train mode as a graph, or the reason why there is none.

torch.fx runs ``forward`` once, on stand-ins for tensors, and writes down what is called. Whatever
Python decides on the way is decided for good, so what could be decided otherwise is refused.
"""

from __future__ import annotations

import copy
import inspect
import operator
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.utils import checkpoint as checkpointing

from zoo.errors import UsageError
from zoo.names import one_line
from zoo.nn._batch_norm import is_plain
from zoo.nn._chains import is_batch_norm
from zoo.nn._effects import IN_PLACE
from zoo.nn.fused import FusedConv2d


def traced_through(model: nn.Module) -> list[nn.Module]:
    """The model and the modules in it whose calls may go into its graph, the model first.

    All others are called: PyTorch's layers, what holds no convolution, what has hooks.
    """
    return [
        module
        for module in model.modules()
        if not isinstance(module, FusedConv2d)
        and not is_batch_norm(module)
        and (not _is_torchs(module) or isinstance(module, nn.Sequential))
        and (module is model or is_plain(module))
        and any(isinstance(part, nn.Conv2d) for part in module.modules() if part is not module)
    ]


def trace(
    model: nn.Module, forward: Callable[..., Any], through: list[nn.Module]
) -> tuple[fx.Graph, int, bool]:
    """What a model's forward does in train mode.

    Args:
        through: the modules that may be traced through; those that cannot be are removed.

    Returns:
        the graph, how many tensors it takes, and whether it depends on the modes of ``through``.

    Raises:
        UsageError: the model itself cannot be traced.
    """
    inputs = _inputs(model, forward)
    graph = _traced(model, inputs, through, training=True)
    other = _traced(model, inputs, through, training=False)
    return graph, len(inputs), str(graph) != str(other)


def _traced(
    model: nn.Module, inputs: list[str], through: list[nn.Module], training: bool
) -> fx.Graph:
    while True:
        tracer = _Tracer(inputs, through)
        try:
            with _unchanged(through, training), _without_checkpointing():
                return tracer.trace(model)
        except Exception as error:  # whatever the model's code raises when it sees no tensor
            if tracer.failed in (None, model):
                raise refusal(model, f"torch.fx cannot trace its forward: {error}") from error
            through[:] = [module for module in through if module is not tracer.failed]


def refusal(model: nn.Module, reason: str) -> UsageError:
    """The error that says why a model is not fused."""
    name = type(model).__name__
    return UsageError(one_line(f"{name} cannot be fused for training; train it as it is: {reason}"))


def _is_torchs(module: nn.Module) -> bool:
    return type(module).__module__.startswith(("torch.nn.", "torch.ao.nn."))


def _inputs(model: nn.Module, forward: Callable[..., Any]) -> list[str]:
    """The arguments that forward has to be given; the others keep their defaults."""
    _, *parameters = inspect.signature(forward).parameters.values()
    needed = [each for each in parameters if each.default is inspect.Parameter.empty]
    if any(each.kind is not inspect.Parameter.POSITIONAL_OR_KEYWORD for each in needed):
        raise refusal(model, "its forward takes any number of arguments, or some by name only")
    return [each.name for each in needed]


class _Tracer(fx.Tracer):
    """Writes modules that are not to be traced through, and changes in place, as they are.

    Attributes:
        failed: the innermost of the modules traced through whose forward raised an error.
    """

    proxy_buffer_attributes = True

    def __init__(self, inputs: list[str], through: list[nn.Module]) -> None:
        super().__init__(autowrap_functions=_opaque_functions())
        self._inputs, self._through = inputs, set(through)
        self._surroundings = _surroundings()
        self.failed: nn.Module | None = None

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return m not in self._through

    def call_module(
        self,
        m: nn.Module,
        forward: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        try:
            return super().call_module(m, forward, args, kwargs)
        except Exception:
            if m in self._through:
                self.failed = self.failed or m
            raise

    def create_args_for_root(
        self, root_fn: Callable[..., Any], is_module: bool, concrete_args: Any = None
    ) -> tuple[Callable[..., Any], list[Any]]:
        proxies = [self.create_proxy("placeholder", name, (), {}) for name in self._inputs]
        return root_fn, [self.root, *proxies]

    def create_proxy(self, *args: Any, **kwargs: Any) -> fx.Proxy:
        # A graph says what is called, not within which ``with``.
        if _surroundings() != self._surroundings:
            raise ValueError("it switches gradients or autocast on or off on its way")
        return super().create_proxy(*args, **kwargs)

    def create_arg(self, a: Any) -> Any:
        if isinstance(a, Tensor) and not isinstance(a, nn.Parameter):
            held = a in self.tensor_attrs or any(a is buffer for buffer in self.root.buffers())
            if not held:
                raise ValueError("it makes tensors that do not depend on its input")
        return super().create_arg(a)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)


class _Proxy(fx.Proxy):
    """A stand-in for a tensor, on which ``x += y`` stays a change in place."""


def _recorded(function: Callable[..., Any]) -> Callable[[fx.Proxy, Any], fx.Proxy]:
    def call(self: fx.Proxy, other: Any) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", function, (self, other), {})

    return call


for _name, _function in IN_PLACE.items():
    setattr(_Proxy, _name, _recorded(_function))


_CHECKPOINTING = ("checkpoint", "checkpoint_sequential")


def _surroundings() -> tuple[Any, ...]:
    return (
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.get_autocast_dtype("cpu"),
    )


def _opaque_functions() -> tuple[Callable[..., Any], ...]:
    """Functions that look at their arguments; of activation checkpointing no graph can be made."""
    found: list[Callable[..., Any]] = [getattr(checkpointing, name) for name in _CHECKPOINTING]
    timm = sys.modules.get("timm.layers")
    if timm is not None:
        found += timm.get_notrace_functions()
    return tuple(found)


def _refuse_checkpointing(*_args: Any, **_kwargs: Any) -> None:
    raise ValueError("it uses activation checkpointing, of which no graph can be made")


@contextmanager
def _without_checkpointing() -> Iterator[None]:
    """fx wraps what a forward's module calls by a name of its own, not attributes of modules."""
    functions = {name: getattr(checkpointing, name) for name in _CHECKPOINTING}
    for name in functions:
        setattr(checkpointing, name, _refuse_checkpointing)
    try:
        yield
    finally:
        for name, function in functions.items():
            setattr(checkpointing, name, function)


@contextmanager
def _unchanged(through: list[nn.Module], training: bool) -> Iterator[None]:
    """Set the modes for the time of a trace, and raise an error if it had effects of its own."""
    modes = [module.training for module in through]
    for module in through:
        module.training = training
    held = [dict(module.__dict__) for module in through]
    # Parameters, buffers and parts among them.
    contents: list[tuple[nn.Module, str, Any, Any]] = [
        (module, name, value, copy.copy(value))
        for module, attributes in zip(through, held, strict=True)
        for name, value in attributes.items()
        if isinstance(value, dict | list | set)
    ]
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    try:
        yield
        for module, before in zip(through, held, strict=True):
            now = module.__dict__
            changed = [name for name in now if now[name] is not before.get(name, now)]
            if changed:
                raise ValueError(f"it sets {type(module).__name__}.{changed[0]}")
        for module, name, now, before in contents:
            if not _same_items(now, before):
                what = name.removeprefix("_")
                raise ValueError(f"it changes what is in {type(module).__name__}'s {what}")
        if not _same(states, (torch.get_rng_state(), np.random.get_state(), random.getstate())):
            raise ValueError("it decides by random numbers")
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])
        for module, before, mode in zip(through, held, modes, strict=True):
            module.__dict__.clear()
            module.__dict__.update(before, training=mode)
        for _, _, now, before in contents:
            _put_back(now, before)


def _put_back(now: Any, before: Any) -> None:
    """Give a collection the things that it held."""
    if isinstance(now, list):
        now[:] = before
    else:
        now.clear()
        now.update(before)


def _same_items(now: Any, before: Any) -> bool:
    """Whether a collection holds the very same things."""
    if isinstance(now, dict):
        return list(now) == list(before) and _same_items([*now.values()], [*before.values()])
    if isinstance(now, set):
        return bool(now == before)
    return len(now) == len(before) and all(map(operator.is_, now, before))


def _same(before: tuple[Any, ...], now: tuple[Any, ...]) -> bool:
    return torch.equal(before[0], now[0]) and str(before[1]) == str(now[1]) and before[2] == now[2]
