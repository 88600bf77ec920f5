"""``zoo bench --model``: whole networks beside PyTorch's ways and the engines of plugins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from zoo import backends
from zoo.benchmark.history import History, place_of
from zoo.benchmark.names import NETWORK_OURS, NETWORK_RIVALS, plain_name
from zoo.cli.output import note
from zoo.errors import ZooError
from zoo.registry import get_registry


def groups() -> dict[str, list[str]]:
    """What --rivals may name: the single ones by their own name, and groups of them."""
    from zoo.benchmark.networks.candidates import engines

    every = [*NETWORK_RIVALS, *engines()]
    singles = {name: [name] for name in every}
    return {**singles, "builtin": list(NETWORK_RIVALS), "all": every, "none": []}


def check(models: Sequence[str]) -> None:
    """Raise UnknownName for a model that is not there; say which backends are not installed."""
    for model in models:
        get_registry().resolve_weights(model)
    missing = {
        entry.bare: backends.missing(entry.spec) for entry in get_registry().entries("backends")
    }
    needs = [f"{name} needs {', '.join(lack)}" for name, lack in missing.items() if lack]
    if needs:
        note(f"backends that cannot be used: {'; '.join(needs)} (make bench-env installs all)")


def measure(
    models: Sequence[str],
    batches: Sequence[int],
    threads: Sequence[int],
    image_size: int | None,
    rivals: Sequence[str],
    max_time: float,
    throughput: bool,
    header: dict[str, Any],
    earlier: History | None,
) -> dict[str, Any]:
    """Measure every network, batch and number of threads, and return the JSON document."""
    from zoo.benchmark.networks.candidates import choose, side_by_side, versions
    from zoo.benchmark.networks.measure import Job, measure
    from zoo.benchmark.timing import Plan

    header["engines"] = versions(rivals)
    header["max_time_s"] = max_time
    header["throughput"] = throughput
    candidates = choose(rivals)
    plan = Plan(header["rounds"], header["min_time_ms"] / 1e3, patience=2, limit_s=max_time)
    document: dict[str, Any] = {"header": header, "results": [], "not_timed": [], "controls": []}
    jobs = [
        Job(model, batch, image_size, number)
        for number in threads
        for model in models
        for batch in batches
    ]
    for index, job in enumerate(jobs):
        common = {"threads": job.threads, "dtype": "float32", "activation": None, "weights": "hot"}
        entrants = candidates
        if throughput and job.threads > 1:
            entrants = [*candidates, *side_by_side(candidates, job.threads)]
        try:
            made, outcome = measure(job, entrants, plan, _teller(job))
        except ZooError as error:  # the others are measured all the same
            left = {"candidate": "all", "status": "failed", "reason": str(error), "error": None}
            document["not_timed"].append({"op": "networks", "case": str(job), **left, **common})
            note(f"[{index + 1}/{len(jobs)}] {job}: {error}")
            continue
        if all(known["threads"] != job.threads for known in header["processes"]):
            header["processes"].append(made["process"])
        gemm = next(p["gemm_gflops"] for p in header["processes"] if p["threads"] == job.threads)
        for row in outcome.results:
            row["percent_of_gemm"] = 100 * row["gflops"] / gemm
        document["results"] += [{**row, **common} for row in outcome.results]
        document["not_timed"] += [{**row, **common} for row in outcome.not_timed]
        document["controls"] += [{**outcome.control, **common}] if outcome.control else []
        note(f"[{index + 1}/{len(jobs)}] {job}: {_quickest(outcome.results)}")
    if earlier:
        earlier.check(place_of(row, header) for row in document["results"])
    return document


def _teller(job: object) -> Callable[[str], None]:
    """Tells who is being prepared, which may take minutes, and when the rounds begin."""
    from zoo.benchmark.timing import CONTROL

    return lambda name: note(f"{job}: preparing {name}" if name != CONTROL else f"{job}: measuring")


def _quickest(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return "nothing could be timed"
    best = min(rows, key=lambda row: row["median_ms"])
    return f"quickest is {best['candidate']} at {best['median_ms']:.3g} ms"


def failures(not_timed: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of our own candidates that did not do their work."""
    return [row for row in not_timed if plain_name(row["candidate"]) in (*NETWORK_OURS, "all")]
