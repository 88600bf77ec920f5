"""``zoo race``: one photograph through every installed engine, on the user's own processor."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from zoo.cli.output import Column, check_output_file, format_json, note, print_rows, write_file
from zoo.errors import UsageError, WeightsError
from zoo.evaluation.labels import load_labels
from zoo.registry import get_registry

_BAR = 30  # characters of the fastest


@click.command("race")
@click.argument(
    "photo", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="IMAGE"
)
@click.option("--model", required=True, metavar="NAME", help="Model, with .TAG for its weights.")
@click.option(
    "--threads", type=click.IntRange(1), metavar="N",
    help="Threads of each.  [default: all processors]",
)  # fmt: skip
@click.option(
    "--rivals", metavar="NAME[,NAME...]", default="all", show_default=True,
    help="Whom to race beside zoo: names, builtin (PyTorch's ways), all or none.",
)  # fmt: skip
@click.option("--rounds", type=click.IntRange(5), default=20, show_default=True, metavar="N")
@click.option(
    "--max-time", type=click.FloatRange(0), default=60.0, show_default=True, metavar="S",
    help="Seconds of the race, after which five rounds suffice.",
)  # fmt: skip
@click.option(
    "--format", "format_", type=click.Choice(["table", "json"]), default="table", show_default=True
)
@click.option(
    "--output", "-o", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
    help="Also write everything that was measured to this file, as JSON.",
)  # fmt: skip
@click.option("--force", is_flag=True, help="Overwrite the output file.")
def command(
    photo: Path,
    model: str,
    threads: int | None,
    rivals: str,
    rounds: int,
    max_time: float,
    format_: str,
    output: Path | None,
    force: bool,
) -> None:
    """Classify a photograph by every installed engine, and see which is fastest here.

    Each engine has a process of its own and prepares the pretrained network in its best way. All
    must agree with PyTorch in float64; then they run in turn. The table says how long a call takes
    with hot and with cold caches, each with a 95 % interval, and how many of the five most probable
    classes are those of PyTorch, in its order. Those that failed are listed too.

    \b
    Example:
      zoo race photo.jpg --model efficientnet-lite/efficientnet_lite0 --output race.json
    """
    from zoo.benchmark.machine import describe_machine, usable_cpus
    from zoo.cli import bench_networks
    from zoo.cli.bench import choose_rivals
    from zoo.cli.bench_output import failure

    check_output_file(output, force)
    entry, _ = get_registry().resolve_weights(model)
    if not entry.tags:
        raise WeightsError(
            f"{entry.name} has no pretrained weights: choose one of zoo list-models --pretrained"
        )
    available = len(usable_cpus())
    threads = threads or available
    if threads > available:
        raise UsageError(f"--threads {threads}: this process may use {available} processors")
    chosen = choose_rivals(rivals, bench_networks.groups())
    bench_networks.check([model])

    from zoo.benchmark.networks.candidates import choose, versions
    from zoo.benchmark.networks.measure import Job, measure
    from zoo.benchmark.timing import CONTROL, Plan

    candidates = choose(chosen)
    names = [candidate.name for candidate in candidates]
    made, outcome = measure(
        Job(model, 1, None, threads, str(photo.absolute())),
        candidates,
        Plan(rounds, block_s=0.02, patience=2, limit_s=max_time),
        lambda name: note(f"preparing {name}" if name != CONTROL else "racing"),
        _Bars(names, rounds) if sys.stderr.isatty() else lambda seconds: None,
    )
    labels = load_labels(made["labels"])
    document = {
        "header": {
            "photo": str(photo),
            "model": model,
            "threads": threads,
            "input_shape": made["input_shape"],
            "command": shlex.join(["zoo", *sys.argv[1:]]),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            **describe_machine(),
            "engines": versions(chosen),
            "process": made["process"],
        },
        "predictions": _named(made["top"], labels),
        "results": _rows(outcome.results, made["top"]),
        "not_timed": outcome.not_timed,
        "control": outcome.control,
    }
    from zoo.benchmark.report import samples_on_one_line

    text = samples_on_one_line(format_json(document))
    if output:
        write_file(output, text + "\n")
    if format_ == "json":
        click.echo(text)
    else:
        _print(document)
    failed = bench_networks.failures(outcome.not_timed)
    if failed:
        raise failure(failed[0])


class _Bars:
    """Bars on a terminal, the longer the faster, drawn anew after each round."""

    def __init__(self, names: Sequence[str], rounds: int) -> None:
        self._best: dict[str, float] = dict.fromkeys(names, float("inf"))
        self._rounds, self._done, self._lines = rounds, 0, 0

    def __call__(self, seconds: Mapping[str, float]) -> None:
        self._done += 1
        best = self._best
        for name, value in seconds.items():
            if name in best:
                best[name] = min(best[name], value)
        fastest = min(best.values())
        lines = [f"round {self._done} of {self._rounds} or more; best so far"]
        for name in sorted((name for name in best if name in seconds), key=best.__getitem__):
            bar = "█" * max(1, round(_BAR * fastest / best[name]))
            lines.append(f"{name:<14} {bar:<{_BAR}} {best[name] * 1e3:.3g} ms")
        back = f"\x1b[{self._lines}F\x1b[J" if self._lines else ""
        click.echo(back + "\n".join(lines), err=True, color=True)
        self._lines = len(lines)


def _named(top: Sequence[tuple[int, float]], labels: Sequence[str] | None) -> list[dict[str, Any]]:
    return [
        {
            "label": labels[index] if labels and index < len(labels) else str(index),
            "class_index": index,
            "probability": probability,
        }
        for index, probability in top
    ]


def _rows(
    results: Sequence[dict[str, Any]], reference: Sequence[tuple[int, float]]
) -> list[dict[str, Any]]:
    """The results, the fastest first, with intervals and agreement."""
    from zoo.benchmark.stats import median_interval

    fastest = min((row["median_ms"] for row in results), default=1.0)
    return [
        {
            **row,
            "hot_interval_ms": list(median_interval(row["samples_ms"])),
            "cold_interval_ms": list(median_interval(row["cold_samples_ms"])),
            "times_the_fastest": row["median_ms"] / fastest,
            "top5_agreement": sum(
                mine == theirs for (mine, _), (theirs, _) in zip(row["top"], reference, strict=True)
            ),
        }
        for row in sorted(results, key=lambda row: row["median_ms"])
    ]


def _print(document: dict[str, Any]) -> None:
    from zoo.benchmark.report import left_out_lines

    header, top = document["header"], document["predictions"]
    threads = header["threads"]
    shown = ", ".join(f"{each['label']} {each['probability']:.3f}" for each in top)
    click.echo(f"{header['photo']}: {shown}")
    click.echo(
        f"{header['model']}, {threads} thread{'s' * (threads > 1)}, {header['cpu']}, float32, "
        "times in ms"
    )
    click.echo()

    def number(key: str, form: str, title: str = "") -> Column:
        return Column(key, title, show=lambda value: format(value, form), right=True)

    def interval(key: str) -> Column:
        return Column(key, "95 %", show=lambda ends: f"{ends[0]:.3g}..{ends[1]:.3g}")

    columns: list[Column | str] = [
        "candidate",
        number("median_ms", ".3g", "hot"),
        interval("hot_interval_ms"),
        number("times_the_fastest", ".2f", "behind"),
        number("cold_ms", ".3g", "cold"),
        interval("cold_interval_ms"),
        number("first_call_ms", ".3g", "first call"),
        number("prepare_ms", ".0f", "prepare"),
        number("network_mb", ".0f", "MiB"),
        Column("top5_agreement", "top-5", show=lambda count: f"{count}/{len(top)}", right=True),
    ]
    print_rows(document["results"], "table", columns)
    click.echo()
    control = document["control"]
    if control:
        click.echo(
            f"Resolution: {control['candidate']} differed from itself by a factor of up to "
            f"{control['resolution']:.3f}"
        )
        if control["disturbed_kept"]:
            click.echo(
                f"The machine was busy in {control['disturbed_kept']} of {control['rounds']} rounds"
            )
    for line in left_out_lines(document["not_timed"]):
        click.echo(line)
