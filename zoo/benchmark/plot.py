"""A chart of the ratios: one row per case, one mark per candidate, losing cases at the top."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoo.benchmark.report import candidate_names, case_rows, measured_on
from zoo.errors import UsageError

SUFFIXES = (".png", ".svg")
_MARKERS = "os^Dv<>Pp*"


def check_plot(path: Path) -> None:
    """Raise UsageError unless the chart can be drawn into such a file."""
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"--plot {path}: the name must end in {' or '.join(SUFFIXES)}")
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise UsageError(
            "--plot needs matplotlib: run pip install 'zoo-vision[plot]', or leave it out"
        ) from None


def draw(document: Mapping[str, Any], suffix: str) -> bytes:
    """Draw the results of ``zoo bench`` and return the file's bytes (PNG or SVG)."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    header, results = document["header"], document["results"]
    lines = case_rows(results)
    places = {(line["case"], line["threads"]): i for i, line in enumerate(lines)}
    figure = Figure(figsize=(9, 2 + 0.3 * len(lines)), layout="constrained")
    axes = figure.add_subplot()
    for index, name in enumerate(candidate_names(results)):
        rows = [row for row in results if row["candidate"] == name and row["ratio_interval"]]
        if not rows:
            continue
        ratios = [row["ratio_to_best_builtin"] for row in rows]
        ends = [row["ratio_interval"] for row in rows]
        axes.errorbar(
            ratios,
            [places[row["case"], row["threads"]] for row in rows],
            xerr=[
                [max(0.0, ratio - low) for ratio, (low, _) in zip(ratios, ends, strict=True)],
                [max(0.0, high - ratio) for ratio, (_, high) in zip(ratios, ends, strict=True)],
            ],
            fmt=_MARKERS[index % len(_MARKERS)],
            markersize=5,
            capsize=2,
            alpha=0.5 if rows[0]["builtin"] else 1,
            label=name,
        )
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(LogLocator(base=2))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    with_threads = header.get("device", "cpu") == "cpu"
    names = [line["case"] + f" ({line['threads']}T)" * with_threads for line in lines]
    axes.set_yticks(range(len(lines)), names)
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)
    axes.set_xlabel("speed relative to the best PyTorch builtin (log scale; right is faster)")
    what = f"{header['op']}, {header['dtype']}"
    axes.set_title(f"{what}, measured on {measured_on(header)}", fontsize=10)
    figure.legend(loc="outside right upper", fontsize=8)
    stream = io.BytesIO()
    figure.savefig(stream, format=suffix.lower().lstrip("."), dpi=150)
    return stream.getvalue()
