"""``zoo.optimize``: a network whose inference runs in one call of zoo's kernels."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from zoo import backends
from zoo.backends.prepared import Prepared
from zoo.backends.pytorch import channels_last
from zoo.compiler.capture import Captured, capture
from zoo.compiler.choices import Choices, Measured
from zoo.compiler.fingerprint import fingerprint
from zoo.compiler.network import Network, PlanError
from zoo.compiler.optimized import OptimizedModule
from zoo.compiler.passes import rewrite
from zoo.compiler.precision import inexact_layers, set_precision
from zoo.errors import UsageError, ZooError
from zoo.ops import Precision, cpu_capability
from zoo.specs import Backend

TOLERANCE = 1e-4  # of the output's maximum, for whole networks

Keep = Literal["faster", "zoo"]

Case = tuple[tuple[Any, ...], dict[str, Any], Any]
"""Inputs, inputs by name, and what the module returns for them."""


_OWN = Backend("zoo", prepare="zoo.compiler:prepare", dynamic=True)

_log = logging.getLogger(__name__)


def optimize(
    module: nn.Module,
    example_inputs: Tensor | tuple[Any, ...] | None = None,
    example_kwargs: Mapping[str, Any] | None = None,
    *,
    backend: str = "zoo",
    precision: Precision = "default",
    tune: Literal["measure"] | None = None,
    keep: Keep = "faster",
) -> OptimizedModule:
    """A module for inference that computes what ``module`` computes, faster.

    With zoo's own backend the graph is captured by ``torch.export`` and rewritten (BatchNorm
    folded, activations, sums and pools fused into convolutions), its weights are packed, its memory
    is planned, and the whole network runs in one call. What zoo has no kernel for runs in PyTorch's
    within the same call. ``module`` itself and the example are not changed. Later changes to the
    weights are not seen, but make inputs of a new size an error: they are shared until they are
    packed. Batch, height and width may change from call to call; what the graph does not allow for
    is captured anew, and other backends prepare anew for each size.

    The result is compared with ``module`` on the example and on random inputs. Where it differs by
    more than 1e-4 of the output's maximum, the layers that add most to it give up Winograd's method
    (a warning names them); where that does not help, the backend is given up. What a backend cannot
    take, and what is faster as it is, runs as it is; a warning says why.

    Args:
        module: on the CPU, in float32 and in eval mode.
        example_inputs: a tensor, or the tuple of positional inputs. None: one image of the size
            that the module's ``pretrained_cfg`` or ``default_cfg`` names.
        example_kwargs: inputs by name.
        backend: what runs it, one of ``zoo list-backends``; "auto" measures those that are
            installed on the example (but for AOTInductor, which compiles for a minute or more) and
            takes the fastest of those whose results are right. ``tried`` of the result says what
            came of each.
        precision: of zoo's backend: "exact" avoids Winograd's convolutions.
        tune: of zoo's backend: "measure" times each convolution in the network by zoo's kernels,
            without Winograd's method, and by oneDNN, and takes the fastest. What it finds is kept
            in the user's cache for this processor and these versions. None: by a fixed list.
        keep: of zoo's backend alone: "faster" compares the speed with eager PyTorch in
            channels_last on the example and keeps the faster; "zoo" does not ask.

    Raises:
        UsageError: what is no module, one in training mode, not on the CPU or optimized already, an
            option's unknown value, no example and no way to make one, a backend that requires what
            is not installed, or a ``ZOO_CPU_CAPABILITY`` that this machine lacks.
        UnknownName, AmbiguousName: of the backend.
    """
    _check(
        module,
        backend,
        tune=(tune, None, "measure"),
        keep=(keep, *get_args(Keep)),
        precision=(precision, *get_args(Precision)),
    )
    if example_inputs is None:
        example_inputs = (_example(module),)
    args = (example_inputs,) if isinstance(example_inputs, Tensor) else tuple(example_inputs)
    kwargs = dict(example_kwargs or {})
    if backend == "auto":
        chosen = {name: spec for name, spec in backends.usable().items() if spec.auto}
    else:
        # zoo's own is there even where the user has blocked all plugins.
        chosen = {backend: _OWN if backend == _OWN.name else backends.find(backend)}
    runs: dict[str, Network | Prepared] = {}
    tried: dict[str, float | str] = {}
    with torch.no_grad():
        cases = _Cases(module, args, kwargs)
        args, kwargs = _copy((args, kwargs))  # which a module may write to
        for name, spec in chosen.items():
            try:
                if spec.prepare == _OWN.prepare:
                    choices = Choices() if tune is None else Measured()
                    runs[name] = _checked(module, cases, precision, choices)
                else:
                    runs[name] = Prepared(spec, module, args, kwargs)
                    _pass(runs[name], cases)
            except ZooError as error:
                runs.pop(name, None)
                tried[name] = str(error)
        if backend == "auto" and runs:
            calls = [lambda run=run: run(*args, **kwargs) for run in runs.values()]
            tried |= zip(runs, _minima(calls), strict=True)
            backend = min(runs, key=lambda name: float(tried[name]))
        elif backend in runs and chosen[backend].prepare == _OWN.prepare and keep == "faster":
            reason = _slower(runs[backend], module, args, kwargs)
            if reason:
                del runs[backend]
                tried[backend] = reason
    for name, outcome in tried.items():
        _log.info(
            "%s: %s", name, outcome if isinstance(outcome, str) else f"{outcome * 1e3:.3f} ms"
        )
    reason = None
    if backend not in runs:
        reason = "; ".join(map(str, tried.values())) or "no backend is installed"
        warnings.warn(f"zoo.optimize: {reason}; it runs as it is", stacklevel=2)
    return OptimizedModule(module, runs.get(backend), reason, backend, tried)


def prepare(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Network:
    """zoo's own backend: plans that give what the module gives.

    Raises:
        PlanError, CaptureError: there are none.
    """
    with torch.no_grad():
        return _checked(module, _Cases(module, args, kwargs), "default")


def prepare_exact(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Network:
    """The same without Winograd's convolutions, for comparison."""
    with torch.no_grad():
        return _checked(module, _Cases(module, args, kwargs), "exact")


def _example(module: nn.Module) -> Tensor:
    for name in ("pretrained_cfg", "default_cfg"):
        config = getattr(module, name, None)
        size = config.get("input_size") if isinstance(config, Mapping) else None
        if size is not None:
            return torch.randn(1, *size, generator=torch.Generator().manual_seed(0))
    raise UsageError(
        f"{type(module).__name__} does not say what its inputs are; "
        "give an example: zoo.optimize(module, (torch.randn(1, 3, 224, 224),))"
    )


def _check(module: nn.Module, backend: str, **options: tuple[Any, ...]) -> None:
    """Refuse what is no module for inference on the CPU, and values that an option does not have.

    Args:
        module: the one to optimize.
        backend: what is to run it.
        options: by name, the given value and those that there are.
    """
    cpu_capability()
    if not isinstance(backend, str):
        raise UsageError(f"backend is a name that zoo list-backends knows, not {backend!r}")
    if not isinstance(module, nn.Module):
        raise UsageError(f"zoo.optimize takes an nn.Module, not a {type(module).__name__}")
    if isinstance(module, OptimizedModule):
        raise UsageError("the module is optimized already; give the original")
    if module.training:
        raise UsageError("zoo.optimize is for inference: call .eval() on the module first")
    for name, tensor in module.state_dict().items():
        if isinstance(tensor, Tensor) and tensor.device.type != "cpu":
            raise UsageError(
                f"zoo.optimize is for modules on the CPU, but {name} is on {tensor.device}: load "
                "or move it there first"
            )
    for option, (value, *known) in options.items():
        if value not in known:
            raise UsageError(f"{option} is {' or '.join(map(repr, known))}, not {value!r}")


def _copy(inputs: Any) -> Any:
    """Inputs with tensors of their own, in the same layout."""
    return pytree.tree_map(
        lambda leaf: leaf.detach().clone() if isinstance(leaf, Tensor) else leaf, inputs
    )


class _Cases:
    """The example and random inputs like it, and what the module makes of them.

    The module runs when that is first asked for: one that changes its state is refused before.
    """

    def __init__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._module = module
        self.example = _copy((args, kwargs))

    @cached_property
    def _all(self) -> list[Case]:
        generator = torch.Generator().manual_seed(1)

        def other(leaf: Any) -> Any:
            if isinstance(leaf, Tensor) and leaf.is_floating_point():
                return torch.randn(leaf.shape, generator=generator).to(leaf)
            return leaf

        return [
            (args, kwargs, self._expected(args, kwargs))
            for args, kwargs in (self.example, pytree.tree_map(other, self.example))
        ]

    def _expected(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        args, kwargs = _copy((args, kwargs))
        return self._module(*args, **kwargs)

    def worst(self, run: Callable[..., Any]) -> float:
        """The largest error of a way to run the module."""
        errors = []
        for args, kwargs, expected in self._all:
            args, kwargs = _copy((args, kwargs))
            errors.append(difference(run(*args, **kwargs), expected))
        return max(errors)


def _pass(run: Callable[..., Any], cases: _Cases) -> None:
    """Raise PlanError unless all outputs are right."""
    worst = cases.worst(run)
    if not worst <= TOLERANCE:
        raise PlanError(f"the outputs differ by {worst:.1e} of their maximum")


def _checked(
    module: nn.Module, cases: _Cases, precision: Precision, choices: Choices | None = None
) -> Network:
    """The network, with Winograd's convolutions where the outputs stay right.

    Raises PlanError where they are not right without them either.
    """
    exact: dict[str, float] = {}

    def rewritten(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Captured:
        captured = capture(module, args, kwargs)
        rewrite(captured.graph_module)
        set_precision(captured.graph_module, dict.fromkeys(exact, "exact"))
        return captured

    args, kwargs = cases.example
    captured = rewritten(args, kwargs)
    before = fingerprint(module)

    def unchanged() -> bool:
        return fingerprint(module) == before

    def network_of(choices: Choices | None = None) -> Network:
        return Network(captured, precision, rewritten, choices, unchanged)

    network = network_of(choices)
    worst = cases.worst(network)
    if worst <= TOLERANCE:
        return network
    # By the fixed list: of each of the networks that are tried kernels would be measured.
    layers = network_of().winograd_layers(args, kwargs)

    def without(some: Collection[str], choices: Choices | None = None) -> Network:
        chosen: dict[str, Precision] = dict.fromkeys(layers, "default")
        set_precision(captured.graph_module, chosen | dict.fromkeys(some, "exact"))
        return network_of(choices)

    found = inexact_layers(layers, lambda some: cases.worst(without(some)), TOLERANCE)
    if found is None:
        raise PlanError(
            f"the outputs differ by {worst:.1e} of their maximum, with Winograd's convolutions or "
            "without"
        )
    exact |= found
    named = ", ".join(f"{layer} ({cost:.0e})" for layer, cost in exact.items())
    warnings.warn(
        f"zoo.optimize: {named} run without Winograd's convolutions, whose errors the network "
        "amplifies",
        stacklevel=3,
    )
    return without(exact, choices)


def difference(got: Any, expected: Any) -> float:
    """The largest error of any output tensor, relative to the largest value of that tensor."""
    worst = 0.0
    pairs = zip(pytree.tree_leaves(got), pytree.tree_leaves(expected), strict=True)
    for one, other in pairs:
        if not isinstance(other, Tensor):
            if one != other:
                return float("inf")
            continue
        if one.shape != other.shape or one.dtype != other.dtype:
            return float("inf")
        if other.numel() == 0:
            continue
        finite = torch.isfinite(other)
        if not torch.equal(torch.isfinite(one), finite):
            return float("inf")
        one, other = (torch.where(finite, x, 0).double() for x in (one, other))
        largest = float(other.abs().max())
        error = float((one - other).abs().max())
        worst = max(worst, error / largest if largest > 0 else error)
    return worst


def _slower(
    network: Callable[..., Any], module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> str | None:
    """Why not to use the network: None, or by how much PyTorch is faster on these inputs."""
    args, kwargs = pytree.tree_map(channels_last, (args, kwargs))
    mine, eager = _minima(
        [lambda: network(*args, **kwargs), lambda: module(*args, **kwargs)],
        clear=lambda best: 1.5 * best[0] < best[1],  # more than noise usually comes to
    )
    if mine <= 1.02 * eager:
        return None
    return f"PyTorch takes {eager * 1e3:.2f} ms where zoo's plan takes {mine * 1e3:.2f} ms"


def _minima(
    runs: Sequence[Callable[[], Any]], clear: Callable[[list[float]], bool] = lambda best: False
) -> list[float]:
    """The least seconds of each of several ways, which run in turn.

    It takes less time where the result is ``clear`` early.
    """
    best = [float("inf")] * len(runs)
    begin, enough = time.perf_counter(), 0.25 * len(runs)  # seconds
    for count in range(1, 21):
        for i, run in enumerate(runs):
            for _ in range(2):  # the first while another's threads may still spin
                start = time.perf_counter()
                run()
                best[i] = min(best[i], time.perf_counter() - start)
        spent = time.perf_counter() - begin
        if (spent > enough and count > 1) or (spent > enough / 2 and clear(best)):
            break
    return best
