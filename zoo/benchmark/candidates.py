"""The contestants, in ordered tables that can be read: ours, the best of PyTorch, engines.

Each does the same work in its own best way. What a network does once (packing a weight,
choosing a layout, compiling) is done in ``build`` and not timed.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.benchmark.engines.remote import EngineRun
from zoo.benchmark.problem import Problem
from zoo.benchmark.shapes import CONV_OPS, OPS, POOL_OPS, POOLS, WEIGHTED_OPS, WINDOW_OPS
from zoo.errors import UsageError, ZooError

if TYPE_CHECKING:
    from zoo.ops import Precision

DEVICES = ("cpu", "cuda")

Run = Callable[[], Tensor]


@runtime_checkable
class SelfTimed(Protocol):
    """A run that computes elsewhere, and times itself there."""

    def __call__(self) -> Tensor:
        """Compute once and bring the output here."""

    def block(self, calls: int) -> float:
        """Seconds per call over a block of calls, after an untimed one."""

    def close(self) -> None:
        """Give up what it holds; it is not used any more."""


def _nothing(problem: Problem) -> str | None:
    return None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A way to compute a case.

    Attributes:
        name: how results call it.
        build: prepares everything for a problem and returns the function to be timed.
        declines: why it cannot take a problem, or None if it can.
        explain: name of the implementation that runs inside, where that is known.
        ops: the ops that it competes in.
        rotates: whether it can be built for many copies of a weight in reasonable time.
        builtin: whether PyTorch brings it: the best of these is what others are held against.
        rotate: builds for a number of copies of the weight in a way of its own.
        engine: whether it is an inference engine, in a process of its own.
        devices: the kinds of device that it competes on.
    """

    name: str
    build: Callable[[Problem], Run]
    declines: Callable[[Problem], str | None] = _nothing
    explain: Callable[[Problem], str | None] = _nothing
    ops: tuple[str, ...] = OPS
    rotates: bool = True
    builtin: bool = False
    rotate: Callable[[Problem, int], Run] | None = None
    engine: bool = False
    devices: tuple[str, ...] = DEVICES


def _nhwc(tensor: Tensor) -> Tensor:
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor


# Ours ------------------------------------------------------------------------------------


def _needs_extension(problem: Problem) -> str | None:
    if importlib.util.find_spec("zoo._C") is None:
        return "the extension zoo._C is not built"
    if problem.input.is_cuda:
        from zoo import ops

        return None if ops.build_info().get("cuda") else "zoo is built without CUDA (ZOO_CUDA=1)"
    return None


def _chosen_kernel(
    problem: Problem,
    packed: bool = False,
    precision: Precision = "default",
    channels_last: bool = True,
) -> str | None:
    from zoo import ops

    case = problem.case
    # Of the pool behind a convolution CUDA's list is not told.
    if case.op not in (("conv2d",) if problem.input.is_cuda else WEIGHTED_OPS):
        return None
    pixel = (1, 1) if case.op == "linear" else ()  # a linear layer convolves maps of one pixel
    shapes = (*problem.input.shape, *pixel), (*case.weight_shape, *pixel)
    window, dtype = (case.stride or 1, case.padding, 1, case.groups), problem.input.dtype
    ends: dict[str, Any] = {
        "activation": problem.activation,
        "precision": precision,
        "channels_last": channels_last,
    }
    if problem.input.is_cuda:
        choices = ops.explain_cuda_conv2d(*shapes, *window, dtype, **ends)
    else:
        choices = ops.explain_conv2d(*shapes, *window, dtype, packed=packed, **ends)
    return next(choice["implementation"] for choice in choices if choice["chosen"])


def _plain_kernel(problem: Problem) -> str | None:
    return _chosen_kernel(problem, channels_last=False)


def _packed_kernel(problem: Problem) -> str | None:
    return _chosen_kernel(problem, packed=True)


def _exact_kernel(problem: Problem) -> str | None:
    return _chosen_kernel(problem, packed=True, precision="exact")


def _pool_arguments(problem: Problem) -> dict[str, Any]:
    if problem.case.pool is None:
        return {}
    kind, kernel, stride, padding = POOLS[problem.case.pool]
    return {"pool": kind, "pool_kernel": kernel, "pool_stride": stride, "pool_padding": padding}


def _zoo_plain(
    problem: Problem, input: Tensor, weight: Tensor, precision: Precision = "default"
) -> Run:
    from zoo import ops

    case = problem.case
    if case.op not in CONV_OPS:
        pool = getattr(ops, case.op)
        if case.op == "adaptive_avg_pool2d":
            return lambda: pool(input, case.result)
        return lambda: pool(input, case.kernel, case.stride, case.padding)
    conv = getattr(ops, case.op)
    where = (case.stride, case.padding, 1, case.groups)
    extra = {"activation": problem.activation, "precision": precision, **_pool_arguments(problem)}
    return lambda: conv(input, weight, problem.bias, *where, **extra)


def _zoo(problem: Problem) -> Run:
    return _zoo_plain(problem, problem.input, problem.weight)


def _zoo_nhwc(problem: Problem) -> Run:
    return _zoo_plain(problem, _nhwc(problem.input), _nhwc(problem.weight))


def _zoo_packed(problem: Problem, precision: Precision = "default") -> Run:
    from zoo import ops

    case, input = problem.case, _nhwc(problem.input)
    if case.op == "linear":
        packed = ops.linear_prepack(problem.weight)
        size, bias = case.weight_shape, problem.bias
        last: dict[str, Any] = {"activation": problem.activation}
        return lambda: ops.linear_packed(input, packed, size, bias, **last)
    conv = ops.conv2d_pool_packed if case.op == "conv2d_pool" else ops.conv2d_packed
    where = (case.stride, case.padding, 1, case.groups)
    packed = ops.conv2d_prepack(
        problem.weight,
        case.groups,
        *where[:3],
        input_size=tuple(input.shape),
        precision=precision,
    )
    extra = {
        "activation": problem.activation,
        "precision": precision,
        **_pool_arguments(problem),
    }
    return lambda: conv(input, packed, case.weight_shape, problem.bias, *where, **extra)


def _zoo_exact(problem: Problem) -> Run:
    if problem.input.is_cuda:
        return _zoo_plain(problem, _nhwc(problem.input), _nhwc(problem.weight), "exact")
    return _zoo_packed(problem, "exact")


def _exact_declines(problem: Problem) -> str | None:
    reason = _needs_extension(problem)
    if reason or problem.input.is_cuda or str(_packed_kernel(problem)).startswith("winograd"):
        return reason
    return "zoo-packed does not use Winograd's method here, and is exact itself"


# PyTorch's -------------------------------------------------------------------------------


def _eager(problem: Problem) -> Run:
    return lambda: problem.plain(problem.input, problem.weight, problem.bias)


def _eager_nhwc(problem: Problem) -> Run:
    input, weight = _nhwc(problem.input), _nhwc(problem.weight)
    return lambda: problem.plain(input, weight, problem.bias)


def _needs_compiler(problem: Problem) -> str | None:
    if problem.input.is_cuda:
        return None if importlib.util.find_spec("triton") else "torch.compile needs triton on a GPU"
    from torch._inductor import cpp_builder, exc

    try:
        cpp_builder.get_cpp_compiler()
    except (exc.InvalidCxxCompiler, OSError) as error:
        return f"torch.compile finds no C++ compiler ({type(error).__name__})"
    return None


class _Module(nn.Module):
    """The case as a module with fixed parameters, which inductor folds and packs on the CPU."""

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self.problem = problem
        self.weight = nn.Parameter(_nhwc(problem.weight), requires_grad=False)
        self.bias = nn.Parameter(problem.bias, requires_grad=False)

    def forward(self, input: Tensor) -> Tensor:
        return self.problem.plain(input, self.weight, self.bias)


def _inductor(problem: Problem) -> Run:
    import torch._dynamo
    import torch._inductor.config

    on_cuda = problem.input.is_cuda
    torch._dynamo.reset()
    # It looks for CUDA's headers, and warns where there is no such device.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    input, module = _nhwc(problem.input), _Module(problem).eval()
    if on_cuda:
        from torch._inductor import select_algorithm

        select_algorithm.PRINT_AUTOTUNE = False
        # Its CUDA graph would copy the input at each call, as it need not within a network.
        torch._dynamo.mark_static_address(input)
    with (
        torch._inductor.config.patch(freezing=not on_cuda),
        torch._dynamo.config.patch(automatic_dynamic_shapes=False),
    ):
        compiled = torch.compile(module, fullgraph=True, mode="max-autotune" if on_cuda else None)
        compiled(input)
    return lambda: compiled(input)


def _onednn_declines(problem: Problem) -> str | None:
    from zoo.ops import onednn

    if not onednn.available():
        return "this PyTorch has no oneDNN"
    return None if problem.input.dtype == torch.float32 else "oneDNN has no float64"


def _onednn(problem: Problem) -> Run:
    from zoo.ops import onednn

    case = problem.case
    fused = onednn.ACTIVATIONS[problem.activation]
    if case.op == "linear":
        packed = torch.ops.mkldnn._reorder_linear_weight(problem.weight, case.batch)
        linear, input, bias = (
            torch.ops.mkldnn._linear_pointwise.default,
            problem.input,
            problem.bias,
        )
        return lambda: linear(input, packed, bias, *fused)
    if case.op not in CONV_OPS:
        blocked = problem.input.to_mkldnn()
        pool = F.max_pool2d if case.op == "max_pool2d" else F.avg_pool2d
        return lambda: pool(blocked, case.kernel, case.stride, case.padding)
    input = _nhwc(problem.input)
    padding, stride, dilation = [case.padding] * 2, [case.stride] * 2, [1, 1]
    packed = onednn.pack(problem.weight, padding, stride, dilation, case.groups, list(input.shape))
    conv = torch.ops.mkldnn._convolution_pointwise.default
    where = (padding, stride, dilation, case.groups)
    return lambda: problem.pool(conv(input, packed, problem.bias, *where, *fused))


def _nnpack_declines(problem: Problem) -> str | None:
    case = problem.case
    if (case.kernel, case.stride, case.groups) != (3, 1, 1):
        return "NNPACK's Winograd takes 3x3 convolutions with stride 1 and one group"
    if problem.input.dtype != torch.float32:
        return "NNPACK has no float64"
    if torch.backends.cpu.get_cpu_capability() == "DEFAULT":
        return "NNPACK has nothing below AVX2"
    # The call also initialises the library; without it every convolution fails.
    return None if torch._nnpack_available() else "NNPACK does not run on this machine"


def _nnpack(problem: Problem) -> Run:
    padding = [problem.case.padding] * 2
    conv = torch._nnpack_spatial_convolution

    def run() -> Tensor:
        output = conv(problem.input, problem.weight, problem.bias, padding, [1, 1])
        return problem.pool(problem.activate(output))

    return run


MAP_OPS = CONV_OPS + POOL_OPS
_CPU = ("cpu",)

OURS = (
    Candidate("zoo", _zoo, _needs_extension, _plain_kernel, ops=MAP_OPS),
    Candidate("zoo-nhwc", _zoo_nhwc, _needs_extension, _chosen_kernel, ops=MAP_OPS),
    Candidate(
        "zoo-packed", _zoo_packed, _needs_extension, _packed_kernel, ops=WEIGHTED_OPS, devices=_CPU
    ),
    Candidate("zoo-exact", _zoo_exact, _exact_declines, _exact_kernel, ops=CONV_OPS),
)

RIVALS = (
    Candidate("eager", _eager, builtin=True),
    Candidate("eager-nhwc", _eager_nhwc, ops=MAP_OPS, builtin=True),
    Candidate("inductor", _inductor, _needs_compiler, rotates=False, builtin=True),
    Candidate(
        "onednn", _onednn, _onednn_declines, ops=(*WINDOW_OPS, "linear"), builtin=True, devices=_CPU
    ),
    Candidate("nnpack", _nnpack, _nnpack_declines, ops=CONV_OPS, builtin=True, devices=_CPU),
)


# Engines -----------------------------------------------------------------------------------


def _engine_declines(problem: Problem) -> str | None:
    from zoo import ops

    if problem.input.dtype != torch.float32:
        return "engines are measured in float32"
    if importlib.util.find_spec("zoo._C") and ops.cpu_capability() != ops.cpu_capabilities()[-1]:
        return "engines cannot be held to a lower instruction set"
    return None


def engine(name: str, loader: str) -> Candidate:
    """Return an engine as a candidate.

    ``loader`` is "module:function", imported in the engine's process: it takes a
    ``zoo.benchmark.engines.task.Task`` and returns a ``Loaded``.
    """
    start = partial(EngineRun, loader)
    return Candidate(
        name, start, _engine_declines, ops=WINDOW_OPS, rotate=start, engine=True, devices=_CPU
    )


_MODULES = "zoo.benchmark.engines"

ENGINES = (
    engine("openvino", f"{_MODULES}.openvino:load"),
    engine("openvino-nhwc", f"{_MODULES}.openvino:load_nhwc"),
    engine("onnxruntime", f"{_MODULES}.onnxruntime:load"),
    engine("ncnn", f"{_MODULES}.ncnn:load"),
    engine("mnn", f"{_MODULES}.mnn:load"),
    engine("mnn-exact", f"{_MODULES}.mnn:load_exact"),
)


def choose(
    op: str, rivals: Sequence[str], extra: Sequence[str] = (), device: str = "cpu"
) -> list[Candidate]:
    """Return ours, the named rivals and the extra ones, which are import targets, for an op.

    ``device`` is a kind, one of :data:`DEVICES`.

    Raises UsageError for a target that is no candidate.
    """
    chosen = [*OURS, *(rival for rival in (*RIVALS, *ENGINES) if rival.name in rivals)]
    for target in extra:
        from zoo.registry import load_target

        try:
            candidate = load_target(target)
        except ZooError as error:
            raise UsageError(f"--candidate: {error}") from None
        if not isinstance(candidate, Candidate):
            raise UsageError(f"{target} is no zoo.benchmark.candidates.Candidate")
        if candidate.name in {other.name for other in (*OURS, *RIVALS, *ENGINES, *chosen)}:
            raise UsageError(f"{target}: the name {candidate.name!r} is taken")
        chosen.append(candidate)
    return [
        candidate for candidate in chosen if op in candidate.ops and device in candidate.devices
    ]
