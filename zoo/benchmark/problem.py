"""The data of a case, and the correctness gate that every candidate passes before it is timed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.benchmark.machine import available_bytes
from zoo.benchmark.shapes import POOLS, WEIGHTED_OPS, Case
from zoo.errors import ZooError

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda x: x,
    "relu": torch.relu_,
    "relu6": lambda x: F.hardtanh_(x, 0.0, 6.0),
    "sigmoid": torch.sigmoid_,
    "tanh": torch.tanh_,
    "silu": lambda x: F.silu(x, inplace=True),
    "gelu": F.gelu,
    "hardswish": lambda x: F.hardswish(x, inplace=True),
    "hardsigmoid": lambda x: F.hardsigmoid(x, inplace=True),
    "leaky_relu": lambda x: F.leaky_relu_(x, 0.01),
}
"""Activations the way PyTorch does them fastest: in place where it can."""

TOLERANCES = {
    torch.float32: 1e-4,
    torch.float64: 1e-12,
    torch.float16: 2**-9,
    torch.bfloat16: 2**-6,
}
"""Largest error that passes the gate, relative to the largest output. Winograd's F(4x4, 3x3)
needs 2e-5 in float32; arithmetic of lower precision (TF32, bfloat16) is 1e-3 and more off. The
half types have room for four roundings of the largest output, with sums in float32.
"""


class LeftOut(Exception):
    """A candidate takes no part any more.

    Attributes:
        status: skipped, failed, wrong or crashed.
        reason: in a line.
        error: of a wrong one, as :meth:`Problem.error_of` states it.
    """

    def __init__(self, status: str, reason: str, error: float | None = None) -> None:
        super().__init__(reason)
        self.status, self.reason, self.error = status, reason, error


def check_memory(case: Case, dtype: torch.dtype) -> None:
    """Raise ZooError, of exit code 1, where the tensors of a case do not fit into memory."""
    shapes = [case.input_shape, case.output_shape]
    if case.op in WEIGHTED_OPS:
        shapes.append(case.weight_shape)
    sizes = [math.prod(shape) for shape in shapes]
    # They are drawn, or computed for reference, in float64, one after the other.
    needed = sum(sizes) * dtype.itemsize + max(sizes) * torch.float64.itemsize
    available = available_bytes()
    if available is not None and needed > available:
        raise ZooError(
            f"{case.op} {case} takes {needed / 2**30:.3g} GiB of memory, and "
            f"{available / 2**30:.3g} GiB are free: choose a smaller case"
        )


@contextmanager
def in_memory(case: Case) -> Iterator[None]:
    """Turn an allocation that fails on the way, for what else the case needs, into a ZooError."""
    try:
        yield
    except RuntimeError as error:
        if "allocate memory" not in str(error):
            raise
        raise ZooError(
            f"{case.op} {case} does not fit into memory: choose a smaller case"
        ) from None


@dataclass(frozen=True)
class Problem:
    """The tensors of a case, in PyTorch's default layout (NCHW, OIHW).

    Attributes:
        case: what to compute.
        activation: name of the activation after a convolution.
        input: (N, C, H, W). weight: (O, C / groups, K, K) and bias: (O,); empty for pools.
            Of linear (N, C), (O, C) and (O,).
    """

    case: Case
    activation: str
    input: Tensor
    weight: Tensor
    bias: Tensor

    @classmethod
    def make(
        cls, case: Case, dtype: torch.dtype, activation: str, seed: int = 0, device: str = "cpu"
    ) -> Problem:
        """Draw the tensors: normal inputs, weights scaled as He et al. 2015 initialise them.

        They are the same on every device.
        """
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> Tensor:
            numbers = torch.randn(shape, generator=generator, dtype=torch.float64)
            return numbers.to(device, dtype)

        weight, bias = torch.empty(2, 0, dtype=dtype, device=device)
        if case.op in WEIGHTED_OPS:
            fan_in = math.prod(case.weight_shape[1:])
            weight = normal(*case.weight_shape) * math.sqrt(2 / fan_in)
            bias = normal(case.out_channels) * 0.1
        return cls(case, activation, normal(*case.input_shape), weight, bias)

    def activate(self, output: Tensor) -> Tensor:
        """Apply the activation, in place where PyTorch can."""
        return ACTIVATIONS[self.activation](output)

    def pool(self, output: Tensor) -> Tensor:
        """Apply the pool of conv2d_pool; without one return the tensor itself."""
        if self.case.pool is None:
            return output
        kind, kernel, stride, padding = POOLS[self.case.pool]
        if kind == "max":
            return F.max_pool2d(output, kernel, stride, padding)
        return F.avg_pool2d(output, kernel, stride, padding)

    def plain(self, input: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Compute the case by PyTorch's own functions on tensors of any layout."""
        case = self.case
        if case.op == "max_pool2d":
            return F.max_pool2d(input, case.kernel, case.stride, case.padding)
        if case.op == "avg_pool2d":
            return F.avg_pool2d(input, case.kernel, case.stride, case.padding)
        if case.op == "adaptive_avg_pool2d":
            return F.adaptive_avg_pool2d(input, case.result)
        if case.op == "linear":
            return self.activate(F.linear(input, weight, bias))
        output = F.conv2d(input, weight, bias, case.stride, case.padding, 1, case.groups)
        return self.pool(self.activate(output))

    @cached_property
    def reference(self) -> Tensor:
        """The result in float64, from these same inputs."""
        exact = replace(self, weight=self.weight.double(), bias=self.bias.double())
        # Image by image, because PyTorch's float64 convolution unfolds its whole input.
        images = [
            self.plain(x.double(), exact.weight, exact.bias) for x in torch.split(self.input, 1)
        ]
        return torch.cat(images)

    def error_of(self, output: object) -> float:
        """Return max |output - reference| / max |reference|.

        Infinite if the output is not a tensor of the right shape and dtype, or not finite.
        """
        if not isinstance(output, Tensor) or output.shape != self.reference.shape:
            return math.inf
        if output.dtype != self.input.dtype:
            return math.inf
        error, scale = float(self._distances(output).max()), float(self.reference.abs().max())
        error = error / scale if scale else error
        return error if math.isfinite(error) else math.inf

    def backward_error_of(self, output: Tensor) -> float:
        """Return max |output - reference| / (sum |weight| |input| + |bias|), each output by itself.

        It is the relative change of weights and inputs that explains the error (the componentwise
        backward error: Higham, "Accuracy and Stability of Numerical Algorithms", section 3.1);
        unlike :meth:`error_of` it sees small channels beside large ones. Of pools the sum is their
        result on ``|input|``. The output is one that passed the gate.
        """
        distances = self._distances(output)
        return float(torch.where(distances == 0, distances, distances / self._magnitudes).max())

    def _distances(self, output: Tensor) -> Tensor:
        """|output - reference| in float64."""
        dense = output.to_dense() if output.is_mkldnn else output
        return (dense.double() - self.reference).abs()

    @cached_property
    def _magnitudes(self) -> Tensor:
        tensors = {name: getattr(self, name).abs() for name in ("input", "weight", "bias")}
        return replace(self, activation="none", **tensors).reference

    def passes(self, error: float) -> bool:
        """Whether a candidate with that error is right."""
        return error <= TOLERANCES[self.input.dtype]
