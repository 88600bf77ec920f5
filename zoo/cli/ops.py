"""``zoo ops``: the ops, their kernels on this machine, and which one a convolution gets."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

import click
from click.core import ParameterSource

from zoo.benchmark.names import ACTIVATIONS
from zoo.benchmark.shapes import Case, parse_case
from zoo.cli.output import Column, note, print_rows
from zoo.errors import UsageError

if TYPE_CHECKING:
    from zoo.ops import Activation, Precision
    from zoo.ops._introspection import Choice


class _How(TypedDict):
    activation: Activation
    precision: Precision
    packed: bool
    channels_last: bool


_TIMES = [
    Column(key, show=lambda time: "" if time is None else f"{time:.3g}")
    for key in ("estimated_ms", "measured_ms")
]


@click.command("ops")
@click.option(
    "--explain",
    nargs=2,
    metavar="OP SHAPE",
    help="Show what a case gets and why: conv2d N,C,H,W,O,K,S,P[,G].",
)
@click.option(
    "--dtype",
    type=click.Choice(["float32", "float64", "bfloat16", "float16"]),
    default="float32",
    show_default=True,
    help="The dtype of the case to explain.",
)
@click.option(
    "--activation",
    type=click.Choice(ACTIVATIONS),
    default="none",
    show_default=True,
    help="The activation after the convolution to explain.",
)
@click.option(
    "--precision",
    type=click.Choice(["default", "exact"]),
    default="default",
    show_default=True,
    help="The precision of the case to explain; exact avoids Winograd.",
)
@click.option(
    "--packed", is_flag=True, help="Explain what a weight that is packed beforehand gets."
)
@click.option("--channels-last", is_flag=True, help="Explain what an input in channels_last gets.")
@click.option(
    "--device",
    type=click.Choice(["cpu", "cuda"]),
    default="cpu",
    show_default=True,
    help="Where the case to explain runs; cuda (with a bias) needs neither GPU nor build for it.",
)
@click.option("--format", "format_", type=click.Choice(["table", "json"]),
              default="table", show_default=True)  # fmt: skip
@click.pass_context
def command(
    context: click.Context,
    explain: tuple[str, str] | None,
    dtype: str,
    activation: Activation,
    precision: Precision,
    packed: bool,
    channels_last: bool,
    device: str,
    format_: str,
) -> None:
    """List the ops and their kernels, or explain the choice for one convolution.

    An op's kernel of the instruction set in use is marked active; what no kernel takes (other
    dtypes, other devices) runs aten, PyTorch's own.

    \b
    Examples:
      zoo ops
      zoo ops --explain conv2d 1,64,56,56,64,3,1,1
      zoo ops --explain conv2d 1,512,7,7,512,3,1,1 --packed
      zoo ops --explain conv2d 32,3,32,32,32,3,1,1 --device cuda --channels-last --activation relu
    """
    if explain is not None:
        how: _How = {
            "activation": activation,
            "precision": precision,
            "packed": packed,
            "channels_last": channels_last,
        }
        (_explain if device == "cpu" else _explain_cuda)(*explain, dtype, how, format_)
        return
    for name in ("dtype", "device", *_How.__annotations__):
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            option = "--" + name.replace("_", "-")
            raise UsageError(f"{option} belongs to --explain: say which case to explain")
    from zoo import ops

    active = ops.cpu_capability()
    rows = _rows(ops.kernels(), active, ops.cpu_capabilities()) + _cuda_rows()
    rows.sort(key=lambda row: (row["op"], row["dtype"]))
    print_rows(rows, format_, ["op", "dtype", "isa", "kernel", Column("active", show=_mark)])
    if format_ == "table":
        build = ops.build_info()
        note(
            f"instruction set in use: {active} (built: {build['isas']}; ZOO_CPU_CAPABILITY forces "
            f"one); everything else runs aten; built by {build['compiler']} for torch "
            f"{build['torch']}; {_cuda_build()}"
        )


def _cuda_rows() -> list[dict[str, str | bool]]:
    """The kernels for CUDA, if they were built; active where there is a device."""
    import torch

    from zoo import ops

    return [{**row, "active": torch.cuda.is_available()} for row in ops.cuda_kernels()]


def _cuda_build() -> str:
    """What was built for CUDA, and whether there is a device for it."""
    import torch

    from zoo import ops

    build = ops.build_info()
    if build["cuda"] is None:
        return "built without CUDA"
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no device"
    return f"built with CUDA {build['cuda']} (for {build['cuda_archs']}), {device}"


def _rows(
    kernels: list[dict[str, str]], active: str, order: list[str]
) -> list[dict[str, str | bool]]:
    """The kernels by op and dtype; active is the best one that is not above the set in use."""
    usable = [row for row in kernels if order.index(row["isa"]) <= order.index(active)]

    best: dict[tuple[str, str, str], str] = {}
    for row in usable:
        best[row["op"], row["dtype"], _family(row)] = row["kernel"]
    rows: list[dict[str, str | bool]] = []
    for row in sorted(kernels, key=lambda row: (row["op"], row["dtype"])):
        chosen = best.get((row["op"], row["dtype"], _family(row))) == row["kernel"]
        rows.append({**row, "active": chosen and row in usable})
    return rows


def _family(row: dict[str, str]) -> str:
    """The kernel's name up to its instruction set: gemm_avx2_6x16 -> gemm."""
    return row["kernel"].split(f"_{row['isa']}")[0]


def _mark(active: object) -> str:
    return "yes" if active else ""


def _case(op: str, shape: str) -> Case:
    if op != "conv2d":
        raise UsageError(f"--explain knows conv2d only, not {op!r}: see docs/ops.md for the others")
    return parse_case(op, shape, "--explain conv2d")


def _why(choice: Choice) -> str:
    if choice["chosen"]:
        return "accepts the case"
    if choice["reason"] is not None:
        return f"declines: {choice['reason']}"
    return "accepts, but an earlier one is preferred"


def _explain(op: str, shape: str, dtype: str, how: _How, format_: str) -> None:
    case = _case(op, shape)

    import torch

    from zoo import ops
    from zoo.benchmark import explain
    from zoo.benchmark.problem import check_memory

    check_memory(case, getattr(torch, dtype))
    choices = ops.explain_conv2d(
        case.input_shape,
        case.weight_shape,
        case.stride,
        case.padding,
        1,
        case.groups,
        getattr(torch, dtype),
        **how,
    )
    kernels = _rows(ops.kernels(), ops.cpu_capability(), ops.cpu_capabilities())
    names = {
        _family({key: str(value) for key, value in row.items()}): row["kernel"]
        for row in kernels
        if row["op"] == "conv2d" and row["dtype"] == dtype and row["active"]
    }
    estimates = explain.estimate(choices, getattr(torch, dtype))
    chosen = next(choice["implementation"] for choice in choices if choice["chosen"])
    measured = explain.measure(case, chosen, getattr(torch, dtype), **how)
    rows = []
    for choice, estimated in zip(choices, estimates, strict=True):
        name = choice["implementation"]
        row = {"implementation": name, "kernel": names.get(name)}
        times = {"estimated_ms": estimated, "measured_ms": measured.get(name)}
        rows.append({**row, "chosen": choice["chosen"], **times, "why": _why(choice)})
    columns: list[Column | str] = [
        "implementation",
        "kernel",
        Column("chosen", show=_mark),
        *_TIMES,
        "why",
    ]
    print_rows(rows, format_, columns)
    if format_ == "table":
        note("times: one thread; estimated from the measured rate of multiply-adds")


def _explain_cuda(op: str, shape: str, dtype: str, how: _How, format_: str) -> None:
    if how["packed"]:
        raise UsageError("--packed is for the CPU: the kernels for CUDA read plain weights")
    case = _case(op, shape)

    import torch

    from zoo import ops

    choices = ops.explain_cuda_conv2d(
        case.input_shape,
        case.weight_shape,
        case.stride,
        case.padding,
        1,
        case.groups,
        getattr(torch, dtype),
        activation=how["activation"],
        precision=how["precision"],
        channels_last=how["channels_last"],
    )
    rows = [
        {
            "implementation": choice["implementation"],
            "chosen": choice["chosen"],
            "why": _why(choice),
        }
        for choice in choices
    ]
    print_rows(rows, format_, ["implementation", Column("chosen", show=_mark), "why"])
    if format_ == "table":
        note(f"expected by a model, not measured; {_cuda_build()}")
