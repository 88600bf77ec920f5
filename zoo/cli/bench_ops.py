"""``zoo bench --op``: single ops beside PyTorch's and the engines'."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from zoo.benchmark import engines
from zoo.benchmark.history import History, place_of
from zoo.benchmark.names import ENGINES
from zoo.benchmark.runner import run
from zoo.benchmark.shapes import Case, cases_of_set, parse_case
from zoo.benchmark.worker import Job
from zoo.cli.output import note
from zoo.errors import UsageError


def measure(
    job: Job,
    threads: tuple[int, ...],
    header: dict[str, Any],
    earlier: History | None,
) -> dict[str, Any]:
    """Measure a job with each number of threads, and return the JSON document."""
    header["engines"] = engines.versions(name for name in job.rivals if name in ENGINES)
    if earlier:
        options = {
            "op": job.op,
            "dtype": job.dtype,
            "activation": header["activation"],
            "weights": job.weights,
        }
        rows = [{**options, "case": case, "threads": n} for case in job.cases for n in threads]
        earlier.check(place_of(row, header) for row in rows)
    document: dict[str, Any] = {"header": header, "results": [], "not_timed": [], "controls": []}
    for number in threads:
        measured = run(replace(job, threads=number), note)
        header["processes"] += measured.processes
        document["results"] += measured.results
        document["not_timed"] += measured.not_timed
        document["controls"] += measured.controls
    return document


def check_cuda(op: str | None, dtype: str, cpu_only: Mapping[str, object]) -> None:
    """Raise UsageError for what --device cuda does not time: options of ``cpu_only``, a dtype."""
    given = [option for option, value in cpu_only.items() if value]
    if given:
        raise UsageError(f"--device cuda times ops on a GPU: leave out {', '.join(given)}")
    if op == "linear":
        raise UsageError("--device cuda times convolutions and pools, not linear")
    if dtype == "float64":
        raise UsageError("--device cuda takes --dtype float32, float16 or bfloat16, not float64")


def check_capability(name: str | None) -> None:
    """Raise UsageError for an instruction set that this machine lacks."""
    if name is None:
        return
    try:
        from zoo import ops
    except ImportError:  # then zoo's candidates are skipped, and say so
        return
    known = ops.cpu_capabilities()
    if name not in known:
        raise UsageError(
            f"--cpu-capability {name}: this machine lacks it; choose of {', '.join(known)}"
        )


def installed(rivals: list[str]) -> list[str]:
    """Leave out the engines that are not installed, and say so once."""
    missing = {name: engines.missing_packages(name) for name in rivals if name in ENGINES}
    needs = [
        f"{name} needs {', '.join(packages)}" for name, packages in missing.items() if packages
    ]
    if needs:
        note(f"engines not installed: {'; '.join(needs)} (make bench-env installs all)")
    return [name for name in rivals if not missing.get(name)]


def cases(
    op: str, set_name: str | None, shapes: tuple[str, ...], batch: tuple[int, ...] | None
) -> list[Case]:
    """The cases that the options name."""
    if shapes and (set_name or batch):
        raise UsageError("--shape states all by itself: leave out --set and --batch")
    if shapes:
        return list(dict.fromkeys(parse_case(op, text) for text in shapes))
    return cases_of_set(op, set_name or "resnet", batch or (1,))
