"""``zoo bench``: its options, and what is to be measured."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.benchmark.names import (
    ACTIVATIONS,
    CUDA_OURS,
    CUDA_RIVALS,
    ENGINES,
    NETWORK_OURS,
    NETWORK_RIVALS,
    OURS,
    RIVALS,
)
from zoo.benchmark.shapes import OPS, SET_NAMES, WEIGHTED_OPS
from zoo.cli.output import check_output_file
from zoo.errors import UsageError, ZooError

if TYPE_CHECKING:
    from zoo.benchmark.worker import Job


def _numbers(
    ctx: click.Context, option: click.Parameter, value: str | None
) -> tuple[int, ...] | None:
    """Read positive whole numbers, separated by commas."""
    if value is None:
        return None
    try:
        numbers = tuple(dict.fromkeys(int(part) for part in value.split(",")))
    except ValueError:
        numbers = ()
    if not numbers or min(numbers) < 1:
        raise click.BadParameter(f"{value!r} is not a list of positive whole numbers")
    return numbers


def choose_rivals(value: str, groups: Mapping[str, Iterable[str]]) -> list[str]:
    """Read names of rivals and of groups of them, separated by commas, into names in order.

    Args:
        groups: name -> the rivals that it stands for; a rival stands for itself.
    """
    names: list[str] = []
    for part in value.split(","):
        if part not in groups:
            known = ", ".join(groups)
            raise click.BadParameter(
                f"unknown rival {part!r}; there are {known}", param_hint="'--rivals'"
            )
        names += groups[part]
    return [name for name in groups if name in names and groups[name] == [name]]


def op_groups(device: str = "cpu") -> dict[str, list[str]]:
    """What --rivals may name beside --op."""
    builtin = [*RIVALS] if device == "cpu" else [*CUDA_RIVALS]
    every = [*builtin, *ENGINES] if device == "cpu" else builtin
    singles = {name: [name] for name in every}
    return {**singles, "builtin": builtin, "all": every, "none": []}


def _candidates_help() -> str:
    def lines(names: dict[str, str]) -> str:
        return "\n".join(f"  {name:<15}{text}" for name, text in names.items())

    return (
        f"\b\nCandidates for ops:\n{lines({**OURS, **RIVALS})}\n\n"
        f"\b\nCandidates for ops with --device cuda:\n{lines({**CUDA_OURS, **CUDA_RIVALS})}\n\n"
        f"\b\nEngines, which `make bench-env` installs:\n{lines(ENGINES)}\n\n"
        f"\b\nCandidates for networks, beside the installed backends (zoo list-backends):\n"
        f"{lines({**NETWORK_OURS, **NETWORK_RIVALS})}"
    )


@click.command(epilog=_candidates_help())
@click.option("--op", type=click.Choice(OPS), help="The op to time.")
@click.option(
    "--device", type=click.Choice(("cpu", "cuda")), default="cpu", show_default=True,
    help="Where to time convolutions and pools. On a GPU each call is timed by the device itself "
    "and begins with a cold L2 cache.",
)  # fmt: skip
@click.option(
    "--model", "models", multiple=True, metavar="NAME",
    help="A whole network to time instead, with random weights. Repeatable.",
)  # fmt: skip
@click.option(
    "--image-size", type=click.IntRange(1), metavar="N",
    help="Height and width of a network's images.  [default: the model's own]",
)  # fmt: skip
@click.option(
    "--throughput", is_flag=True,
    help="Run networks also as one-thread processes side by side, a batch in each.",
)  # fmt: skip
@click.option(
    "--set",
    "set_name",
    type=click.Choice((*SET_NAMES, "all")),
    help="Layers of known networks.  [default: resnet, unless there are shapes]",
)
@click.option(
    "--shape", "shapes", multiple=True, metavar="N,C,H,W,O,K,S,P[,G]",
    help="A case of your own: batch, channels, height, width, output channels, kernel, stride, "
    "padding, groups; pools: N,C,H,W,K,S,P; conv2d_pool: +max2, +avg2 or +max3s2 after it. "
    "Repeatable.",
)  # fmt: skip
@click.option(
    "--threads",
    metavar="N[,N...]",
    callback=_numbers,
    help="Numbers of threads.  [default: all processors]",
)
@click.option(
    "--batch",
    metavar="N[,N...]",
    callback=_numbers,
    help="Batch sizes of the named set, or of networks.  [default: 1]",
)
@click.option(
    "--dtype", type=click.Choice(("float32", "float64", "float16", "bfloat16")),
    default="float32", show_default=True,
    help="Of all tensors: float32 or float64, with --device cuda float32 (without TF32), float16 "
    "or bfloat16.",
)  # fmt: skip
@click.option(
    "--activation", type=click.Choice(ACTIVATIONS),
    help="Activation after a convolution.  [default: relu]",
)  # fmt: skip
@click.option(
    "--weights", type=click.Choice(("hot", "cold")),
    help="Whether a convolution's calls share one weight, or go through copies that do not fit "
    "into the caches, as in a network.  [default: hot]",
)  # fmt: skip
@click.option(
    "--cpu-capability", type=click.Choice(("scalar", "avx2", "avx512")),
    help="Hold zoo and its rivals to this instruction set.  [default: the machine's best]",
)  # fmt: skip
@click.option(
    "--rivals", metavar="NAME[,NAME...]", default="builtin", show_default=True,
    help="Whom to time beside zoo: candidates by name, builtin (those of PyTorch), all (and every "
    "engine that is installed) or none.",
)  # fmt: skip
@click.option(
    "--candidate", "candidates", multiple=True, metavar="MODULE:NAME",
    help="Another contestant: a zoo.benchmark.candidates.Candidate to import. Repeatable.",
)  # fmt: skip
@click.option(
    "--peak", is_flag=True,
    help="First measure the machine's ceilings, of arithmetic and of reading from each cache and "
    "from memory; cases get their per cent of the roofline. Without --op, print the ceilings.",
)  # fmt: skip
@click.option(
    "--history", type=click.Path(dir_okay=False, path_type=Path),
    help="Compare with an earlier --output FILE.json, slower cases first: the times, and the "
    "ratios to the best builtin that both have.",
)  # fmt: skip
@click.option(
    "--rounds", type=click.IntRange(5), metavar="N",
    help="Rounds to keep.  [default: 20; networks: 10]",
)  # fmt: skip
@click.option(
    "--min-time", type=click.FloatRange(0.1), metavar="MS",
    help="Least milliseconds that a candidate runs in a round.  [default: 5; networks: 20; cuda: "
    "1]",
)  # fmt: skip
@click.option(
    "--max-time", type=click.FloatRange(0), default=60.0, show_default=True, metavar="S",
    help="Seconds of a network's rounds, after which five suffice.",
)  # fmt: skip
@click.option(
    "--format", "format_", type=click.Choice(("table", "json", "csv")), default="table",
    show_default=True, help="What to print.",
)  # fmt: skip
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path),
    help="Also write all results to this file: CSV if it ends so, otherwise JSON.",
)  # fmt: skip
@click.option(
    "--plot", type=click.Path(dir_okay=False, path_type=Path),
    help="Also draw the ratios into this file, .png or .svg (needs the extra [plot]).",
)  # fmt: skip
@click.option("--force", is_flag=True, help="Replace the files if they exist.")
def command(
    op: str | None,
    device: str,
    models: tuple[str, ...],
    image_size: int | None,
    throughput: bool,
    set_name: str | None,
    shapes: tuple[str, ...],
    threads: tuple[int, ...] | None,
    batch: tuple[int, ...] | None,
    dtype: str,
    activation: str | None,
    weights: str | None,
    cpu_capability: str | None,
    rivals: str,
    candidates: tuple[str, ...],
    peak: bool,
    history: Path | None,
    rounds: int | None,
    min_time: float | None,
    max_time: float,
    format_: str,
    output: Path | None,
    plot: Path | None,
    force: bool,
) -> None:
    """Time the native kernels, or whole networks, beside their rivals.

    Every candidate must first reproduce a float64 reference on random data. Candidates are timed
    in turn, in blocks; one builtin races against itself, which states the resolution; rounds in
    which the machine was busy are repeated. Each number of threads has a process of its own; of a
    network each candidate has one.
    """
    from zoo.benchmark import report
    from zoo.benchmark.history import History
    from zoo.benchmark.machine import describe_machine, usable_cpus
    from zoo.benchmark.plot import check_plot
    from zoo.cli import bench_networks, bench_ops, bench_output

    if device == "cuda":
        cpu_only = {"--model": models, "--threads": threads, "--weights": weights, "--peak": peak}
        bench_ops.check_cuda(op, dtype, {**cpu_only, "--cpu-capability": cpu_capability})
    elif dtype in ("float16", "bfloat16"):
        raise UsageError(f"--dtype {dtype} is timed on a GPU: add --device cuda")
    others = (op, set_name, shapes, activation, candidates, peak, cpu_capability)
    if models and (any(others) or weights == "cold" or dtype != "float32"):
        raise UsageError(
            "--model times networks in float32: leave out --op and the options of ops (--set, "
            "--shape, --activation, --candidate, --peak, --cpu-capability, --weights, --dtype)"
        )
    if (image_size or throughput) and not models:
        raise UsageError("--image-size and --throughput belong to --model")
    if op is None and not peak and not models:
        raise UsageError(
            "say which op to time with --op, or --peak alone for the ceilings, or --model for a "
            "network"
        )
    available = len(usable_cpus())
    threads = threads or (available if device == "cpu" else 1,)
    if max(threads) > available:
        raise UsageError(f"--threads {max(threads)}: this process may use {available} processors")
    header: dict[str, Any] = {
        "op": "networks" if models else op,
        "device": device,
        "dtype": dtype,
        "activation": activation,
        "weights": weights or ("hot" if device == "cpu" else "cold"),
        "cpu_capability": cpu_capability,
        "rounds": rounds or (10 if models else 20),
        "min_time_ms": min_time or (20.0 if models else 5.0 if device == "cpu" else 1.0),
        "command": shlex.join(["zoo", *sys.argv[1:]]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        **describe_machine(),
        "engines": {},
        "processes": [],
    }
    if models:
        chosen = choose_rivals(rivals, bench_networks.groups())
        bench_networks.check(models)
    else:
        job = _job(
            op,
            set_name,
            shapes,
            batch,
            header,
            choose_rivals(rivals, op_groups(device)),
            candidates,
            peak,
            plot,
            history,
        )
    check_output_file(output, force)
    check_output_file(plot, force)
    if plot:
        check_plot(plot)
    earlier = History.read(history) if history else None
    if models:
        document = bench_networks.measure(
            list(dict.fromkeys(models)),
            batch or (1,),
            threads,
            image_size,
            chosen,
            max_time,
            throughput,
            header,
            earlier,
        )
        failed = bench_networks.failures(document["not_timed"])
    else:
        document = bench_ops.measure(job, threads, header, earlier)
        failed = report.failures(document["not_timed"])
    if earlier:
        earlier.compare(document["results"], header)
        header["history"] = earlier.describe(header)
    bench_output.write(document, output, plot)
    bench_output.show(document, format_)
    if failed:
        raise bench_output.failure(failed[0])
    if header["op"] and not document["results"]:
        raise ZooError("nothing could be timed")


def _job(
    op: str | None,
    set_name: str | None,
    shapes: tuple[str, ...],
    batch: tuple[int, ...] | None,
    header: dict[str, Any],
    rivals: list[str],
    candidates: tuple[str, ...],
    peak: bool,
    plot: Path | None,
    history: Path | None,
) -> Job:
    """What is to be measured of ops; the header is completed by the activation."""
    from zoo.benchmark.worker import Job
    from zoo.cli import bench_ops

    activation, on_cpu = header["activation"], header["device"] == "cpu"
    cold = header["weights"] == "cold" and on_cpu
    own = (set_name, shapes, batch, activation, candidates, plot, history, cold)
    if op is None and any(own):
        raise UsageError("--peak alone times no op: say which with --op")
    if peak and header["dtype"] != "float32":
        raise UsageError(f"--peak measures float32: leave out --dtype {header['dtype']}")
    bench_ops.check_capability(header["cpu_capability"])
    cases = bench_ops.cases(op, set_name, shapes, batch) if op else []
    if op in WEIGHTED_OPS:
        header["activation"] = activation or ("none" if op == "linear" else "relu")
    elif activation:
        raise UsageError(f"--activation belongs to convolutions, not to {op}")
    elif cold:
        raise UsageError(f"--weights belongs to convolutions: {op} has none")
    return Job(
        op=op or "",
        cases=[str(case) for case in cases],
        threads=1,
        dtype=header["dtype"],
        activation=header["activation"] or "none",
        rivals=bench_ops.installed(rivals),
        candidates=list(candidates),
        rounds=header["rounds"],
        block_ms=header["min_time_ms"],
        weights=header["weights"],
        device=header["device"],
        cpu_capability=header["cpu_capability"],
        peak=peak,
    )
