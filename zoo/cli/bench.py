"""``zoo bench``: time the native kernels beside their rivals."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from zoo.benchmark import engines
from zoo.benchmark.names import ACTIVATIONS, ENGINES, OURS, RIVALS
from zoo.benchmark.shapes import CONV_OPS, OPS, SET_NAMES, Case, cases_of_set, parse_case
from zoo.cli.output import (
    Column,
    check_output_file,
    format_csv,
    format_json,
    note,
    print_rows,
    write_file,
)
from zoo.errors import UsageError, ZooError


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


def _rivals(ctx: click.Context, option: click.Parameter, value: str) -> list[str]:
    """Read names of rivals and of groups of them, separated by commas."""
    every = {**RIVALS, **ENGINES}
    groups: dict[str, Iterable[str]] = {"builtin": RIVALS, "all": every, "none": ()}
    names = [name for part in value.split(",") for name in groups.get(part, [part])]
    unknown = [name for name in names if name not in every]
    if unknown:
        known = ", ".join([*every, *groups])
        raise click.BadParameter(f"unknown rival {unknown[0]!r}; there are {known}")
    return [name for name in every if name in names]


def _installed(rivals: list[str]) -> list[str]:
    """Leave out the engines that are not installed, and say so once."""
    missing = {name: engines.missing_packages(name) for name in rivals if name in ENGINES}
    needs = [
        f"{name} needs {', '.join(packages)}" for name, packages in missing.items() if packages
    ]
    if needs:
        note(f"engines not installed: {'; '.join(needs)} (make bench-env installs all)")
    return [name for name in rivals if not missing.get(name)]


def _candidates_help() -> str:
    def lines(names: dict[str, str]) -> str:
        return "\n".join(f"  {name:<15}{text}" for name, text in names.items())

    return (
        f"\b\nCandidates:\n{lines({**OURS, **RIVALS})}\n\n"
        f"\b\nEngines, which `make bench-env` installs:\n{lines(ENGINES)}"
    )


@click.command(epilog=_candidates_help())
@click.option("--op", type=click.Choice(OPS), help="The op to time.")
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
    help="Batch sizes of the named set.  [default: 1]",
)
@click.option(
    "--dtype", type=click.Choice(("float32", "float64")), default="float32", show_default=True
)
@click.option(
    "--activation", type=click.Choice(ACTIVATIONS),
    help="Activation after a convolution.  [default: relu]",
)  # fmt: skip
@click.option(
    "--weights", type=click.Choice(("hot", "cold")), default="hot", show_default=True,
    help="Whether a convolution's calls share one weight, or go through copies that do not fit "
    "into the caches, as in a network.",
)  # fmt: skip
@click.option(
    "--cpu-capability", type=click.Choice(("scalar", "avx2", "avx512")),
    help="Hold zoo and its rivals to this instruction set.  [default: the machine's best]",
)  # fmt: skip
@click.option(
    "--rivals", metavar="NAME[,NAME...]", callback=_rivals, default="builtin", show_default=True,
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
@click.option("--rounds", type=click.IntRange(5), default=20, show_default=True)
@click.option(
    "--min-time", type=click.FloatRange(0.1), default=5.0, show_default=True, metavar="MS",
    help="Least milliseconds that a candidate runs in a round.",
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
    set_name: str | None,
    shapes: tuple[str, ...],
    threads: tuple[int, ...] | None,
    batch: tuple[int, ...] | None,
    dtype: str,
    activation: str | None,
    weights: str,
    cpu_capability: str | None,
    rivals: list[str],
    candidates: tuple[str, ...],
    peak: bool,
    history: Path | None,
    rounds: int,
    min_time: float,
    format_: str,
    output: Path | None,
    plot: Path | None,
    force: bool,
) -> None:
    """Time the native kernels beside their rivals, on random data.

    Every candidate must first reproduce a float64 reference. Candidates are timed in turn, in
    blocks; one builtin races against itself, which states the resolution; rounds in which the
    machine was busy are repeated. Each number of threads has a process of its own.
    """
    from zoo.benchmark import report
    from zoo.benchmark.history import History, place_of
    from zoo.benchmark.machine import describe_machine, usable_cpus
    from zoo.benchmark.plot import check_plot, draw
    from zoo.benchmark.runner import run
    from zoo.benchmark.worker import Job

    if op is None and not peak:
        raise UsageError("say which op to time with --op, or --peak alone for the ceilings")
    own = (set_name, shapes, batch, activation, candidates, plot, history, weights == "cold")
    if op is None and any(own):
        raise UsageError("--peak alone times no op: say which with --op")
    if peak and dtype != "float32":
        raise UsageError(f"--peak measures float32: leave out --dtype {dtype}")
    cases = _cases(op, set_name, shapes, batch) if op else []
    if op in CONV_OPS:
        activation = activation or "relu"
    elif activation:
        raise UsageError(f"--activation belongs to convolutions, not to {op}")
    elif weights == "cold":
        raise UsageError(f"--weights belongs to convolutions: {op} has none")
    available = len(usable_cpus())
    threads = threads or (available,)
    if max(threads) > available:
        raise UsageError(f"--threads {max(threads)}: this process may use {available} processors")
    rivals = _installed(rivals)
    check_output_file(output, force)
    check_output_file(plot, force)
    if plot:
        check_plot(plot)

    header: dict[str, Any] = {
        "op": op,
        "dtype": dtype,
        "activation": activation,
        "weights": weights,
        "cpu_capability": cpu_capability,
        "rounds": rounds,
        "min_time_ms": min_time,
        "command": shlex.join(["zoo", *sys.argv[1:]]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        **describe_machine(),
        "engines": engines.versions(name for name in rivals if name in ENGINES),
        "processes": [],
    }
    earlier = History.read(history) if history else None
    if earlier:
        options = {"op": op, "dtype": dtype, "activation": activation, "weights": weights}
        rows = [{**options, "case": str(case), "threads": n} for case in cases for n in threads]
        earlier.check(place_of(row, header) for row in rows)
    document: dict[str, Any] = {"header": header, "results": [], "not_timed": [], "controls": []}
    for number in threads:
        job = Job(
            op=op or "",
            cases=[str(case) for case in cases],
            threads=number,
            dtype=dtype,
            activation=activation or "none",
            rivals=rivals,
            candidates=list(candidates),
            rounds=rounds,
            block_ms=min_time,
            weights=weights,
            cpu_capability=cpu_capability,
            peak=peak,
        )
        measured = run(job, note)
        header["processes"] += measured.processes
        document["results"] += measured.results
        document["not_timed"] += measured.not_timed
        document["controls"] += measured.controls
    if earlier:
        earlier.compare(document["results"], header)
        header["history"] = earlier.describe(header)

    if output:
        text = (
            format_csv(_csv_rows(document))
            if output.suffix.lower() == ".csv"
            else report.samples_on_one_line(format_json(document))
        )
        write_file(output, text + "\n")
    if plot and document["results"]:
        write_file(plot, draw(document, plot.suffix))
    _print(document, format_)
    failed = report.failures(document["not_timed"])
    if failed:
        first = failed[0]
        raise ZooError(
            f"{first['candidate']} {first['status']} on {first['case']}: {first['reason']}"
        )
    if op and not document["results"]:
        raise ZooError("nothing could be timed")


def _cases(
    op: str, set_name: str | None, shapes: tuple[str, ...], batch: tuple[int, ...] | None
) -> list[Case]:
    if shapes and (set_name or batch):
        raise UsageError("--shape states all by itself: leave out --set and --batch")
    if shapes:
        return list(dict.fromkeys(parse_case(op, text) for text in shapes))
    return cases_of_set(op, set_name or "resnet", batch or (1,))


def _csv_rows(document: dict[str, Any]) -> list[dict[str, Any]]:
    from zoo.benchmark import report

    if document["header"]["op"]:
        return report.csv_rows(document["results"])
    return report.ceiling_rows(document["header"])


def _number(key: str, form: str, title: str = "") -> Column:
    return Column(key, title, show=lambda value: format(value, form), right=True)


def _print(document: dict[str, Any], format_: str) -> None:
    from zoo.benchmark import report

    header, results = document["header"], document["results"]
    if format_ == "json":
        click.echo(report.samples_on_one_line(format_json(document)))
        return
    if format_ == "csv":
        print_rows(_csv_rows(document), "csv", [])
        return
    for line in report.header_lines(header):
        click.echo(line)
    ceilings = report.ceiling_rows(header)
    if ceilings:
        click.echo()
        titles = {key: key.replace("_gbps", " GB/s") for key in ceilings[0]}
        titles |= {"fma_gflops": "FMA GFLOP/s", "gemm_gflops": "GEMM GFLOP/s"}
        print_rows(ceilings, "table", [_number(key, ".0f", titles[key]) for key in titles])
        for line in report.ceiling_lines(header):
            click.echo(line)
    if header["op"]:
        click.echo()
        columns: list[Column | str] = [
            Column("case", "case (N,C,H,W,...)"),
            Column("threads", right=True),
            *(_number(name, ".3g") for name in report.candidate_names(results)),
            _number("gflops", ".0f", "GFLOP/s"),
            *([_number("percent_of_roofline", ".0f", "% roofline")] if ceilings else []),
            _number("ratio", ".2f"),
            Column("interval", "95 %", show=lambda ends: f"{ends[0]:.2f}..{ends[1]:.2f}"),
            "verdict",
        ]
        if any(row["best_rival"] for row in results):
            columns.append(_number("rival_ratio", ".2f", "to engines"))
        print_rows(report.case_rows(results), "table", columns)
        click.echo()
        for line in report.summary_lines(document):
            click.echo(line)
    if "history" in header:
        _print_history(document)


def _print_history(document: dict[str, Any]) -> None:
    from zoo.benchmark.history import compared_rows, history_lines

    results = document["results"]
    columns: list[Column | str] = [
        Column("case", "case (N,C,H,W,...)"),
        Column("threads", right=True),
        "candidate",
        _number("old_median_ms", ".3g", "ms then"),
        _number("median_ms", ".3g", "ms now"),
        _number("speedup", ".2f", "then/now"),
        _number("ratio_then", ".2f", "ratio then"),
        _number("ratio_now", ".2f", "ratio now"),
        _number("ratio_change", ".2f", "now/then"),
    ]
    click.echo()
    print_rows(compared_rows(results), "table", columns)
    click.echo()
    for line in history_lines(document["header"]["history"], results):
        click.echo(line)
