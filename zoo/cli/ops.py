"""``zoo ops``: the ops, their kernels on this machine, and which one a convolution gets."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

import click
from click.core import ParameterSource

from zoo.benchmark.names import ACTIVATIONS
from zoo.benchmark.shapes import parse_case
from zoo.cli.output import Column, note, print_rows
from zoo.errors import UsageError

if TYPE_CHECKING:
    from zoo.ops import Activation, Precision


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
    """
    if explain is not None:
        how: _How = {
            "activation": activation,
            "precision": precision,
            "packed": packed,
            "channels_last": channels_last,
        }
        _explain(*explain, dtype, how, format_)
        return
    for name in ("dtype", *_How.__annotations__):
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            option = "--" + name.replace("_", "-")
            raise UsageError(f"{option} belongs to --explain: say which case to explain")
    from zoo import ops

    active = ops.cpu_capability()
    rows = _rows(ops.kernels(), active, ops.cpu_capabilities())
    print_rows(rows, format_, ["op", "dtype", "isa", "kernel", Column("active", show=_mark)])
    if format_ == "table":
        build = ops.build_info()
        note(
            f"instruction set in use: {active} (built: {build['isas']}; ZOO_CPU_CAPABILITY forces "
            f"one); everything else runs aten; built by {build['compiler']} for torch "
            f"{build['torch']}"
        )


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


def _explain(op: str, shape: str, dtype: str, how: _How, format_: str) -> None:
    if op != "conv2d":
        raise UsageError(f"--explain knows conv2d only, not {op!r}: the pools have one kernel each")
    case = parse_case(op, shape, "--explain conv2d")

    import torch

    from zoo import ops
    from zoo.benchmark import explain

    explain.check_memory(case, getattr(torch, dtype))
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
        if choice["chosen"]:
            why = "accepts the case"
        elif choice["reason"] is not None:
            why = f"declines: {choice['reason']}"
        else:
            why = "accepts, but an earlier one is preferred"
        name = choice["implementation"]
        row = {"implementation": name, "kernel": names.get(name)}
        times = {"estimated_ms": estimated, "measured_ms": measured.get(name)}
        rows.append({**row, "chosen": choice["chosen"], **times, "why": why})
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
