"""``zoo.nn.fuse_for_training``: any traceable model, its convolutions' chains as single ops."""

from __future__ import annotations

import copy
import copyreg
import functools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, TypeVar

import torch
from torch import Tensor, fx, nn
from torch.nn.modules import module as calls

from zoo.errors import UsageError
from zoo.nn._batch_norm import is_plain
from zoo.nn._chain import Chain
from zoo.nn._chains import ChainFinder, insert
from zoo.nn._effects import is_sequence
from zoo.nn._tracing import refusal, trace, traced_through

Model = TypeVar("Model", bound=nn.Module)

_FUSION = "_zoo_fusion"  # the attribute that a fused model has beside the model's
_OF_EVERY_MODULE = frozenset(vars(nn.Module()))


def fuse_for_training(model: Model) -> Model:
    """A view of a model that trains in fewer passes over memory.

    In train mode, convolution + BatchNorm + activation (+ residual) run as
    :func:`zoo.ops.conv2d_batch_norm`, convolution + activation as :func:`zoo.ops.conv2d`, and with
    a 2x2 max-pool as :func:`zoo.ops.conv2d_pool`. Everything else runs as it is. Outputs,
    gradients and running statistics are the model's, up to rounding. In eval mode the model's own
    forward runs. Only channels_last gains by it: put the model and its images into it by
    ``.to(memory_format=torch.channels_last)``. Chains in the default layout run module by module.

    The result shares parameters, buffers and submodules with the model, and its class is a
    subclass of the model's: names, state dict, methods and attributes are as they were. Its
    attribute ``fused_chains`` lists what is fused. A convolution or BatchNorm that a forward calls
    more than once is not. A module that is not traced through (it holds no convolution) and is not
    of a class of PyTorch's, timm's or torchvision's is taken to change its input in place, so a
    chain before it may end earlier.

    torch.fx traces the forward once. The model's own runs where the trace may not hold: with other
    arguments than tensors, under torch.compile, and where modules that were traced through have
    got hooks, other attributes or other items in them since. Chains run module by module on other
    devices than the CPU, in other dtypes than float32 and float64, in other layouts than
    channels_last, on no images, under autocast, with a BatchNorm in eval mode, and where one of
    their modules has got hooks, parametrizations, another activation or another window.

    Fuse before threads are started: while torch.fx traces, it takes the place of
    ``nn.Module.__call__`` in the whole process, and random numbers that another thread draws
    meanwhile are taken for the model's. Training in several threads is as safe as the model's own.

    ``copy.deepcopy`` copies the trace with the model. Pickles (``torch.save``, other processes)
    hold the model alone, which is traced where they are loaded.

    Raises:
        UsageError: the model cannot be traced; the message says why.
    """
    _check(model)
    base: type[nn.Module] = type(model)
    if _FUSION in model.__dict__:  # fused before
        base = base.__mro__[1]
    twin: Any = object.__new__(base)
    twin.__dict__.update(model.__dict__)
    # The first would run the model itself.
    for name in ("_compiled_call_impl", _FUSION, "fused_chains"):
        twin.__dict__.pop(name, None)
    _fuse(twin, base)
    twin.__class__ = _subclass(base)
    return twin  # type: ignore[no-any-return]


def _fuse(model: nn.Module, base: type[nn.Module]) -> None:
    """Trace what will be a fused model; its class's forward is that of ``base``."""
    fusion = _Fusion()
    through = traced_through(model)
    if through and through[0] is model:
        graph, inputs, by_mode = trace(model, base.forward, through)
        fusion.watch(model, graph, through, by_mode)
        fusion.leave_out(_erase_identities(graph, model))
        for chain, nodes, add in ChainFinder(graph, model.get_submodule).find():
            insert(graph, f"{_FUSION}.{fusion.add(chain)}", nodes, add)
        fusion.inputs, fusion.forward = inputs, _compiled(graph, base)
    model.__dict__[_FUSION] = fusion
    model.__dict__["fused_chains"] = [str(chain) for chain in vars(fusion.chains).values()]


class _Fusion:
    """A model's traced forward and its chains, and what the trace depends on.

    Copied with a model it belongs to the copy, since it refers to modules and not to their names.
    Functions that are made from a trace cannot be pickled, so a pickle has None in its place.
    """

    def __init__(self) -> None:
        self.forward: Callable[..., Any] | None = None
        self.inputs = 0
        self.chains = SimpleNamespace()
        self._own: dict[str, Any] = {}
        self._through: list[tuple[nn.Module, dict[str, Any]]] = []
        self._inplace: list[tuple[nn.Module, dict[str, Any]]] = []
        self._children: list[tuple[dict[str, nn.Module | None], dict[str, nn.Module | None]]] = []

    def __reduce__(self) -> Any:
        return type(None), ()

    def __deepcopy__(self, memo: dict[int, Any]) -> _Fusion:
        twin = memo[id(self)] = _Fusion()
        vars(twin).update(copy.deepcopy(vars(self), memo))
        return twin

    def add(self, chain: Chain) -> str:
        """Take a chain; return where it is."""
        name = f"c{len(vars(self.chains))}"
        setattr(self.chains, name, chain)
        return f"chains.{name}"

    def watch(
        self, model: nn.Module, graph: fx.Graph, through: list[nn.Module], by_mode: bool
    ) -> None:
        """Remember what was traced."""
        self._own = _attributes(model, False)
        self._through = [(module, _attributes(module, by_mode)) for module in through[1:]]
        called = [str(node.target) for node in graph.nodes if node.op == "call_module"]
        modules = [model.get_submodule(name) for name in called]
        # Whether these change their input decided what may move past them.
        parts = [part for module in modules for part in module.modules()]
        self._inplace = [
            (part, {"inplace": part.inplace}) for part in parts if hasattr(part, "inplace")
        ]
        names = {""} | {
            path[:end] for path in called for end, letter in enumerate(path) if letter == "."
        }
        holders = [model.get_submodule(name) for name in sorted(names)]
        holders += [part for part in parts if is_sequence(part)]
        self._children = [(holder._modules, dict(holder._modules)) for holder in holders]

    def leave_out(self, modules: list[nn.Module]) -> None:
        """Take modules that are not called."""
        self._through += [(module, {}) for module in modules]

    def holds(self, model: nn.Module) -> bool:
        """Whether all of that is as it was."""
        return (
            not calls._has_any_global_hook()  # type: ignore[no-untyped-call]
            and _has(model, self._own)
            and all(is_plain(module) and _has(module, held) for module, held in self._through)
            and all(_has(module, held) for module, held in self._inplace)
            and all(now == before for now, before in self._children)
        )


def _attributes(module: nn.Module, with_mode: bool) -> dict[str, Any]:
    """The attributes that a trace may have decided by, and what was in them."""
    return {
        name: _contents(value)
        for name, value in module.__dict__.items()
        if name not in _OF_EVERY_MODULE or (with_mode and name == "training")
    }


def _contents(value: Any) -> Any:
    """A collection's copy, with those in it; anything else as it is."""
    if type(value) is dict:
        return {key: _contents(each) for key, each in value.items()}
    if type(value) in (list, tuple, set):
        return type(value)(map(_contents, value))
    return value


def _has(module: nn.Module, attributes: dict[str, Any]) -> bool:
    held = module.__dict__
    return all(name in held and _is_same(held[name], was) for name, was in attributes.items())


def _is_same(now: Any, was: Any) -> bool:
    """Whether it is the same object or an equal number or name, or a collection of such."""
    if now is was:
        return True
    if type(was) in (list, tuple):
        return type(now) is type(was) and len(now) == len(was) and all(map(_is_same, now, was))
    if type(was) is dict:
        return (
            type(now) is dict
            and list(now) == list(was)
            and all(map(_is_same, now.values(), was.values()))
        )
    return isinstance(was, bool | int | float | str | set) and bool(now == was)


def _subclass(base: type[nn.Module]) -> type[nn.Module]:
    """A class like another, whose forward is the traced one where that holds."""

    @functools.wraps(base.forward)
    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if not torch.compiler.is_compiling() and self.training and not kwargs:
            # What a method makes by type(self)(...), such as a slice of a Sequential, has none.
            fusion: _Fusion | None = self.__dict__.get(_FUSION)
            if (
                fusion is not None
                and fusion.forward is not None
                and len(args) == fusion.inputs
                and all(isinstance(each, Tensor) for each in args)
                and fusion.holds(self)
            ):
                return fusion.forward(self, *args)
        return base.forward(self, *args, **kwargs)

    def reduce(self: nn.Module, protocol: Any) -> Any:
        # Pickles name classes, and this one has the name of its base.
        reduced: Any = base.__reduce_ex__(self, max(2, protocol))
        make, arguments, *rest = reduced
        if make is copyreg.__newobj__:  # type: ignore[attr-defined]
            make, arguments = _blank, (base,)
        return (make, arguments, *rest)

    def set_state(self: nn.Module, state: Any) -> None:
        base.__setstate__(self, state)  # type: ignore[no-untyped-call]
        if self.__dict__[_FUSION] is None:  # from a pickle
            _fuse_again(self, base)

    same = {name: getattr(base, name) for name in ("__module__", "__qualname__", "__doc__")}
    own = {"forward": forward, "__reduce_ex__": reduce, "__setstate__": set_state}
    return type(base.__name__, (base,), same | own)


def _blank(base: type[nn.Module]) -> nn.Module:
    """A fused model that has nothing yet."""
    return object.__new__(_subclass(base))


def _fuse_again(model: nn.Module, base: type[nn.Module]) -> None:
    """Trace a fused model that was loaded; what cannot be traced any more runs as it is."""
    del model.__dict__[_FUSION], model.__dict__["fused_chains"]
    try:
        _fuse(model, base)
    except UsageError:
        model.__dict__.update({_FUSION: _Fusion(), "fused_chains": []})


def _compiled(graph: fx.Graph, base: type[nn.Module]) -> Callable[..., Any]:
    """A graph as a function of the model and its inputs."""
    code = graph.python_code("self")
    # Lines before it would make fx treat functions in this scope otherwise from now on.
    source = code.src[code.src.index("def forward") :]
    scope = dict(code.globals)
    exec(compile(source, f"<{base.__name__}, fused>", "exec"), scope)
    return scope["forward"]  # type: ignore[no-any-return]


def _erase_identities(graph: fx.Graph, model: nn.Module) -> list[nn.Module]:
    """Take calls of nothing out of a graph; return what was called."""
    erased: list[nn.Module] = []
    for node in graph.nodes:
        if node.op == "call_module" and len(node.args) == 1 and not node.kwargs:
            module = model.get_submodule(str(node.target))
            if type(module) is nn.Identity and is_plain(module):
                node.replace_all_uses_with(node.args[0])
                graph.erase_node(node)
                erased.append(module)
    return erased


def _check(model: nn.Module) -> None:
    """Refuse what is no module of Python's, and what a trace would take apart."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be an nn.Module, not {type(model).__name__}")
    wrappers = (nn.parallel.DistributedDataParallel, nn.DataParallel)
    if isinstance(model, wrappers) or type(model).__name__ == "OptimizedModule":
        raise refusal(model, "it is a wrapper, and is put around a fused model")
    if isinstance(model, torch.jit.ScriptModule):
        raise refusal(model, "TorchScript has no forward in Python")
    if any(getattr(module, "grad_checkpointing", False) for module in model.modules()):
        raise refusal(model, "activation checkpointing (set_grad_checkpointing) is on")
