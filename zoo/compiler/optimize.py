"""``zoo.optimize``: a network whose inference runs in one call of zoo's kernels."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from zoo.compiler.capture import Captured, CaptureError, capture
from zoo.compiler.network import Network, PlanError
from zoo.compiler.optimized import OptimizedModule
from zoo.compiler.passes import rewrite
from zoo.errors import UsageError
from zoo.ops import Precision

TOLERANCE = 1e-4  # of the output's maximum, for whole networks


def optimize(
    module: nn.Module,
    example_inputs: Tensor | tuple[Any, ...] | None = None,
    example_kwargs: Mapping[str, Any] | None = None,
    *,
    precision: Precision = "default",
    keep: Literal["faster", "zoo"] = "faster",
) -> OptimizedModule:
    """A module for inference that computes what ``module`` computes, faster.

    The graph is captured by ``torch.export`` and rewritten (BatchNorm folded, activations, sums and
    pools fused into convolutions), its weights are packed, its memory is planned, and the whole
    network runs in one call. What zoo has no kernel for runs in PyTorch's within the same call.
    ``module`` itself is not changed; later changes to its weights are not seen. Batch, height and
    width may change from call to call; what the graph does not allow for is captured anew.

    The result is compared with ``module`` on the example and on random inputs. Where it differs by
    more than 1e-4 of the output's maximum, Winograd's convolutions are given up, then the whole
    plan. What cannot be captured, and what is faster as it is, runs as it is; a warning says why.

    Args:
        module: on the CPU, in float32 and in eval mode.
        example_inputs: a tensor, or the tuple of positional inputs. None: one image of the size
            that the module's ``pretrained_cfg`` or ``default_cfg`` names.
        example_kwargs: inputs by name.
        precision: "exact" avoids Winograd's convolutions.
        keep: "faster" compares the speed with eager PyTorch in channels_last on the example and
            keeps the faster; "zoo" does not ask.

    Raises:
        UsageError: a module in training mode, or no example and no way to make one.
    """
    if module.training:
        raise UsageError("zoo.optimize is for inference: call .eval() on the module first")
    if example_inputs is None:
        example_inputs = (_example(module),)
    args = (example_inputs,) if isinstance(example_inputs, Tensor) else tuple(example_inputs)
    kwargs = dict(example_kwargs or {})
    with torch.no_grad():
        expected = module(*args, **kwargs)
        reason = None
        try:
            network = _checked(module, args, kwargs, expected, precision)
        except (CaptureError, PlanError) as error:
            network, reason = None, str(error)
        if network is not None and keep == "faster":
            reason = _slower(network, module, args, kwargs)
            network = None if reason else network
    if reason is not None:
        warnings.warn(f"zoo.optimize: {reason}; it runs as it is", stacklevel=2)
    return OptimizedModule(module, network, reason)


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


def _checked(
    module: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    expected: Any,
    precision: Precision,
) -> Network:
    """The network in the first precision that gives what the module gives."""
    generator = torch.Generator().manual_seed(1)

    def other(leaf: Any) -> Any:
        if isinstance(leaf, Tensor) and leaf.is_floating_point():
            return torch.randn(leaf.shape, generator=generator).to(leaf)
        return leaf

    cases = [(args, kwargs, expected)]
    more_args, more_kwargs = pytree.tree_map(other, (args, kwargs))
    cases.append((more_args, more_kwargs, module(*more_args, **more_kwargs)))

    def rewritten(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Captured:
        captured = capture(module, args, kwargs)
        rewrite(captured.graph_module)
        return captured

    captured = rewritten(args, kwargs)
    worst = 0.0
    tries: list[Precision] = ["default", "exact"] if precision == "default" else ["exact"]
    for each in tries:
        network = Network(captured, each, rewritten)
        worst = max(difference(network(*these, **named), wanted) for these, named, wanted in cases)
        if worst <= TOLERANCE:
            return network
    raise PlanError(f"the outputs differ by {worst:.1e} of their maximum")


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
    runs: list[Callable[[], Any]] = [
        lambda: network(*args, **kwargs),
        lambda: module(*args, **kwargs),
    ]
    best = [float("inf"), float("inf")]
    end = time.perf_counter() + 0.5  # seconds
    rounds = 0
    while rounds < 3 or (rounds < 20 and time.perf_counter() < end):
        for i, run in enumerate(runs):
            start = time.perf_counter()
            run()
            best[i] = min(best[i], time.perf_counter() - start)
        rounds += 1
    mine, eager = best
    if mine <= 1.02 * eager:
        return None
    return f"PyTorch takes {eager * 1e3:.2f} ms where zoo's plan takes {mine * 1e3:.2f} ms"


def channels_last(leaf: Any) -> Any:
    """A batch of images in channels_last; anything else as it is."""
    if isinstance(leaf, Tensor) and leaf.dim() == 4:
        return leaf.contiguous(memory_format=torch.channels_last)
    return leaf
