"""Whether a run trains by zoo's fused ops or by PyTorch's: as it was asked, or whichever is faster.

What is measured is measured on a copy, so that weights, running statistics and random numbers are
those of a run that measures nothing. The choice itself may differ from one start to the next, and
with it the last bits of the weights; so it is a setting of the run, which ``args.yaml`` holds.
"""

from __future__ import annotations

import copy
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from zoo.errors import UsageError
from zoo.names import one_line
from zoo.nn import fuse_for_training
from zoo.training.config import TrainConfig

_BUDGET_S = 2.0
_GAIN = 1.03  # below that the measurement says little

Choice = tuple[str, nn.Module, str | None]
"""``"fused"`` or ``"torch"``, the module to train, and a line that tells it."""


def choose(config: TrainConfig, module: nn.Module, size: tuple[int, ...], device: str) -> Choice:
    """What a run trains by.

    Args:
        module: what is trained, on the CPU; a fused one shares its parameters.
        size: of its images.
        device: the kind that it will be trained on.

    Raises:
        UsageError: fused ops are asked for, and the module cannot be fused or has nothing to fuse.
    """
    name, kernels = type(module).__name__, device == "cpu" and not config.amp
    if config.ops == "torch" or (config.ops == "auto" and not kernels):
        return "torch", module, None
    try:
        fused = fuse_for_training(module)
        if not fused.fused_chains:
            raise UsageError(f"{name} has no convolution with something to fuse behind it")
        images = _images(config, size)
        with _apart(config, module, fused) as twins:
            if not _agree(*twins, images[:4]):
                raise UsageError(f"{name} computes something else when it is traced")
            if config.ops == "auto":
                return _faster(module, fused, *_race(*twins, images))
    except Exception as error:  # whatever the model's code raises; then it is not fused
        if config.ops == "fused":
            raise UsageError(one_line(f"{error}: leave out --ops fused")) from error
        return "torch", module, one_line(f"trains by PyTorch's ops: {error}")
    told = f"trains by fused ops: {_some(fused)}"
    if not kernels:
        told = "--ops fused is for the CPU in float32: here the same ops are PyTorch's"
    return "fused", fused, told


def _faster(module: nn.Module, fused: nn.Module, torchs: float, ours: float) -> Choice:
    took = f"a step took {ours / torchs:.0%} of the time of PyTorch's"
    if torchs > _GAIN * ours:
        return "fused", fused, f"trains by fused ops: {took}; {_some(fused)}"
    return "torch", module, f"trains by PyTorch's ops: fused, {took}"


def _some(fused: nn.Module) -> str:
    chains: list[str] = fused.fused_chains  # type: ignore[assignment]
    return f"{len(chains)} chains, as {chains[0]}"


def _images(config: TrainConfig, size: tuple[int, ...]) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(config.batch_size, *size, generator=generator)
    return images.contiguous(memory_format=torch.channels_last) if config.channels_last else images


@contextmanager
def _apart(
    config: TrainConfig, module: nn.Module, fused: nn.Module
) -> Iterator[tuple[nn.Module, nn.Module]]:
    """Copies of both that share their parameters; random numbers stay as they are."""
    twins: tuple[nn.Module, nn.Module] = copy.deepcopy((module, fused))
    if config.channels_last:
        twins[0].to(memory_format=torch.channels_last)
    for twin in twins:
        twin.train()
    states = np.random.get_state(), random.getstate()
    try:
        with torch.random.fork_rng(devices=[]):
            yield twins
    finally:
        np.random.set_state(states[0])
        random.setstate(states[1])


# Outputs and gradients of both, by the largest value and by the norm. What a ReLU passes on differs
# where rounding carries something over its zero; in float64 that is seldom, and BatchNorm's
# division by a small deviation remains.
_BOUNDS = {torch.float64: (1e-6, 1e-4), torch.float32: (1e-2, 1e-1)}


def _agree(plain: nn.Module, fused: nn.Module, images: Tensor) -> bool:
    """Whether both compute the same: in float64, where rounding does not matter, if that works."""
    for dtype, (bound, bound_of_gradients) in _BOUNDS.items():
        plain.to(dtype)
        try:
            (theirs, their_gradient), (ours, our_gradient) = (
                _computed(each, images.to(dtype)) for each in (plain, fused)
            )
            off = (our_gradient - their_gradient).norm()
            return bool(
                (ours - theirs).abs().max() <= bound * theirs.abs().max().clamp(min=1)
                and off <= bound_of_gradients * their_gradient.norm()
            )
        except Exception:  # of a model that makes float32 tensors of its own
            if dtype is torch.float32:
                raise
        finally:
            plain.zero_grad()
            plain.float()
    return False


def _computed(model: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """A model's output, and the gradient of all its parameters as one vector."""
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
    model.zero_grad()
    output: Tensor = model(images)
    if output.requires_grad:
        torch.autograd.backward(output, torch.randn_like(output))
    gradients = [
        torch.zeros_like(each) if each.grad is None else each.grad for each in model.parameters()
    ]
    return output.detach(), torch.cat(
        [images.new_zeros(1), *(each.flatten() for each in gradients)]
    )


def _race(plain: nn.Module, fused: nn.Module, images: Tensor) -> tuple[float, float]:
    """Seconds of a step without the optimizer, the quickest of each; on fewer images if it is slow.

    Other work only ever adds to a step's time. Both take steps in turn until a second one has
    confirmed each one's quickest, or the time is up.
    """
    few = images[:4]
    _step(plain, few)
    images = images[: max(len(few), int(_BUDGET_S / 10 / _step(plain, few) * len(few)))]
    seconds: tuple[list[float], list[float]] = ([], [])
    start = time.monotonic()
    while len(seconds[0]) < 3 or (
        not all(map(_is_confirmed, seconds)) and time.monotonic() - start < _BUDGET_S
    ):
        for model, taken in zip((plain, fused), seconds, strict=True):
            taken.append(_step(model, images))
    return min(seconds[0]), min(seconds[1])


def _is_confirmed(seconds: list[float]) -> bool:
    """Whether the quickest two of some steps took nearly the same."""
    quickest, second = sorted(seconds)[:2]
    return second <= 1.1 * quickest


def _step(model: nn.Module, images: Tensor) -> float:
    model.zero_grad()
    start = time.perf_counter()
    model(images).sum().backward()
    return time.perf_counter() - start
