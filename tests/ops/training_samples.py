"""The samples that the tests of training share, and what gradients are held to.

All have at least one tensor in channels_last: there the ops are differentiated by kernels of ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from op_samples import Sample
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

OPS = ["conv2d", "conv2d_pool", "conv2d_batch_norm"]

# What the backward of each is made of.
BACKWARD = {
    "conv2d": "zoo::conv2d_backward",
    "conv2d_pool": "zoo::conv2d_max_pool2_backward",
    "conv2d_batch_norm": "zoo::conv2d_batch_norm_backward",
}

# name: sizes of input and weight, then stride, padding, dilation, groups
WINDOWS: dict[str, tuple[Any, ...]] = {
    "3x3": ((3, 8, 9, 8), (33, 8, 3, 3), 1, 1),
    "3x3-valid": ((1, 3, 9, 7), (8, 3, 3, 3)),
    "1x1": ((3, 33, 7, 5), (8, 33, 1, 1)),
    "2x2": ((2, 3, 6, 7), (3, 3, 2, 2), 1, 1),
    "asymmetric": ((2, 3, 9, 11), (8, 3, 1, 7), 1, (0, 3)),
    "asymmetric-tall": ((2, 8, 11, 6), (3, 8, 5, 2), 1, (2, 0)),
    "stride": ((3, 8, 11, 10), (33, 8, 3, 3), 2, 1),
    "stride-unequal": ((1, 4, 12, 9), (7, 4, 2, 5), (2, 1), (1, 3)),
    "stride-even-window": ((2, 3, 13, 12), (8, 3, 4, 4), 2, 1),
    "stride-beyond-window": ((2, 5, 11, 13), (8, 5, 2, 1), 3),
    "stride-1x1": ((3, 8, 9, 9), (33, 8, 1, 1), 2),
    "stride-leaves-a-rest": ((2, 3, 14, 15), (5, 3, 3, 3), 3),
    "dilation": ((2, 8, 12, 13), (8, 8, 3, 3), 1, 2, 2),
    "dilation-unequal": ((1, 3, 9, 14), (8, 3, 2, 3), 1, (0, 3), (1, 3)),
    "groups": ((3, 6, 9, 8), (33, 2, 3, 3), 1, 1, 1, 3),
    "groups-stride": ((2, 16, 9, 8), (16, 4, 3, 3), 2, 1, 1, 4),
    "groups-1x1": ((2, 16, 6, 5), (34, 8, 1, 1), 1, 0, 1, 2),
    "depthwise": ((3, 33, 9, 9), (33, 1, 3, 3), 1, 1, 1, 33),
    "depthwise-5x5-stride": ((2, 16, 11, 10), (16, 1, 5, 5), 2, 2, 1, 16),
    "depthwise-dilation": ((2, 9, 11, 10), (9, 1, 3, 3), 1, 2, 2, 9),
    "depthwise-asymmetric": ((2, 8, 9, 12), (8, 1, 1, 11), 1, (0, 5), 1, 8),
    "multiplier": ((2, 4, 7, 6), (8, 1, 3, 3), 1, 1, 1, 4),
    "one-channel": ((3, 1, 9, 8), (1, 1, 3, 3), 1, 1),
    "from-one-channel": ((2, 1, 6, 7), (33, 1, 3, 3), 1, 1),
    "to-one-channel": ((2, 33, 6, 7), (1, 33, 3, 3), 1, 1),
    "stem": ((2, 3, 23, 21), (64, 3, 7, 7), 2, 3),
    "deep": ((1, 130, 4, 4), (64, 130, 3, 3), 1, 1),
    "two-pixels": ((1, 8, 2, 2), (3, 8, 1, 1)),
    "winograd4": ((2, 17, 25, 22), (35, 17, 3, 3), 1, 1),
    "winograd2": ((1, 17, 14, 10), (35, 17, 3, 3), 1, 1),
    "passes": ((7, 3, 40, 40), (64, 3, 3, 3), 1, 1),  # five images at a time
}


def last(tensor: Tensor) -> Tensor:
    """In channels_last by its strides too, where one channel leaves them open."""
    return torch.empty_like(tensor, memory_format=torch.channels_last).copy_(tensor)


def make(
    op: str,
    window: str | tuple[Any, ...] = "3x3",
    dtype: torch.dtype = torch.float32,
    *,
    bias: bool = True,
    residual: bool = False,
    affine: bool = True,
    seed: int = 7,
    **options: Any,
) -> Sample:
    """A call of the op with random tensors, in channels_last where they are maps."""
    generator = torch.Generator().manual_seed(seed)

    def tensor(*size: int) -> Tensor:
        return torch.randn(size, generator=generator, dtype=torch.float64).to(dtype)

    name = window if isinstance(window, str) else "window"
    input_size, weight_size, *rest = WINDOWS[window] if isinstance(window, str) else window
    channels = weight_size[0]
    x, w, b = last(tensor(*input_size)), tensor(*weight_size), tensor(channels)
    sample = Sample(name, op, (x, w, b if bias else None, *rest), options)
    if op == "conv2d_batch_norm" and affine:
        options |= {"bn_weight": tensor(channels), "bn_bias": tensor(channels)}
    if residual:
        output = sample.expected()
        size = output[0].shape if isinstance(output, tuple) else output.shape
        options["residual"] = last(tensor(*size))
    return sample


def whole(sample: Sample, seed: int = 7) -> Sample:
    """The same call on a few whole numbers: many are equal, and their sums exact."""
    generator = torch.Generator().manual_seed(seed)
    return sample.map(lambda tensor: torch.empty_like(tensor).random_(-2, 3, generator=generator))


def leaves(sample: Sample, wanted: Sequence[str] | None = None) -> dict[str, Tensor]:
    """The sample's tensors by name."""
    names = ["input", "weight", "bias"]
    named = {**dict(zip(names, sample.args[:3], strict=False)), **sample.kwargs}
    return {
        name: value
        for name, value in named.items()
        if torch.is_tensor(value) and (wanted is None or name in wanted)
    }


def output_of(result: Any) -> Tensor:
    output: Tensor = result[0] if isinstance(result, tuple) else result
    return output


def gradients(
    sample: Sample,
    grad: Tensor | None = None,
    *,
    run: str = "run",
    wanted: Sequence[str] | None = None,
) -> dict[str, Tensor]:
    """The output, and the gradients of the sample's tensors, by name."""
    copies = iter(
        value.detach().requires_grad_(wanted is None or name in wanted)
        for name, value in leaves(sample).items()
    )
    call = sample.map(lambda _: next(copies))
    output = output_of(getattr(call, run)())
    if grad is None:
        grad = grad_of(output)
    inputs = leaves(call, wanted)
    found = torch.autograd.grad(output, list(inputs.values()), grad.to(output.dtype))
    return {"output": output.detach(), **dict(zip(inputs, found, strict=True))}


def grad_of(output: Tensor) -> Tensor:
    """A gradient of the output, the same for each dtype."""
    generator = torch.Generator().manual_seed(output.numel())
    grad = torch.randn(output.shape, generator=generator, dtype=torch.float64)
    return last(grad.to(output.dtype))


def exact(sample: Sample, grad: Tensor | None = None, **options: Any) -> dict[str, Tensor]:
    """The same by PyTorch's own ops, in float64."""
    double = sample.map(lambda tensor: tensor.double())
    return gradients(double, grad, run="expected", **options)


def check(
    sample: Sample, grad: Tensor | None = None, *, bound: float | None = None, **options: Any
) -> dict[str, Tensor]:
    """Hold output and gradients to the exact ones: off by at most ``bound`` of their maximum, which
    is 1e-5 for float32 and 1e-12 for float64, or by four times as much as PyTorch's own."""
    ours, right = gradients(sample, grad, **options), exact(sample, grad, **options)
    if bound is None:
        bound = 1e-5 if sample.args[0].dtype == torch.float32 else 1e-12
        theirs = gradients(sample, grad, run="expected", **options)
    else:
        theirs = right
    for name, value in ours.items():
        assert value.dtype == sample.args[0].dtype, name
        assert value.shape == right[name].shape, name
        if name == "bias" and sample.op == "conv2d_batch_norm":
            assert value.abs().max() < bound * 10, "the mean takes the bias away"
        elif value.numel() > 0:
            error, usual = (
                (tensor.double() - right[name]).abs().max().item()
                for tensor in (value, theirs[name])
            )
            allowed = max(bound * right[name].abs().max().item(), 4 * usual)
            assert error <= allowed, f"{name} is off by {error:.3g}, more than {allowed:.3g}"
    return ours


class Calls(TorchDispatchMode):
    """The names of the ops that are called within."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func._schema.name)
        return func(*args, **(kwargs or {}))


def is_fused(sample: Sample) -> bool:
    """Whether the sample is differentiated by the op made for it."""
    with Calls() as calls:
        gradients(sample)
    return BACKWARD[sample.op] in calls.names


def samples(dtype: torch.dtype = torch.float32) -> Iterator[Sample]:
    """Each op with each window."""
    for window in WINDOWS:
        for op in OPS:
            residual = op != "conv2d_pool" and len(window) % 2 == 0
            if op == "conv2d_pool" and window in ("stride-1x1", "two-pixels", "3x3"):
                yield make(op, window, dtype, bias=False)
            else:
                yield make(op, window, dtype, activation="relu", residual=residual)


def names() -> list[str]:
    return [f"{op}-{window}" for window in WINDOWS for op in OPS]


def by_name(name: str, dtype: torch.dtype = torch.float32) -> Sample:
    return next(sample for sample in samples(dtype) if str(sample) == name)
