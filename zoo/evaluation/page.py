"""A report as one HTML page that needs nothing else."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.resources import files
from typing import Any

import numpy as np

from zoo.evaluation.pictures import heat_map, map_step, similarity_order, thumbnail
from zoo.evaluation.plots import classes_chart, confidence_chart, reliability_chart
from zoo.evaluation.report import Report, Summary
from zoo.evaluation.results import FIGURES

_WHOLE = 25  # classes up to which a confusion matrix is written out
_PART = 20  # classes of a larger one that are
_CHARTED = 40  # classes up to which all are in the chart
_PAIRS = 15
_MISTAKES = 24


def render(document: Mapping[str, Any], report: Report, dataset: Any) -> str:
    """Make the page.

    Args:
        document: the report as plain values, with ``header`` and ``results``.
        dataset: has ``images`` or ``paths``, for the pictures of mistakes.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    header = document["header"]
    report = replace(
        report,
        summary=replace(report.summary, classes=_titles(report.summary.classes)),
        coarse=report.coarse and replace(report.coarse, classes=_titles(report.coarse.classes)),
    )
    outcomes = report.outcomes
    confidence = outcomes.probabilities[:, 0]
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    environment.filters["data"] = lambda part: {k: part[k] for k in ("names", "cells", "step")}
    # The charts are made here; all else on the page is text, and escaped.
    template = environment.from_string(files(__package__).joinpath("page.html").read_text("utf-8"))
    return template.render(
        header=header,
        names=FIGURES,
        number=_number,
        fine=_part(report.summary, Markup),
        coarse=None if report.coarse is None else _part(report.coarse, Markup),
        speed=document["speed"],
        members=document["results"][1:],
        reliability=Markup(reliability_chart(report.summary.reliability)),
        confidence=Markup(
            confidence_chart(
                confidence[outcomes.correct].tolist(), confidence[~outcomes.correct].tolist()
            )
        ),
        wrong=int((~outcomes.correct).sum()),
        mistakes=[_mistake(report, at, dataset) for at in report.worst(_MISTAKES).tolist()],
        method=_method(header, document),
    )


def _titles(classes: Sequence[str]) -> list[str]:
    """Names without synonyms ("tench, Tinca tinca"), where they still differ."""
    short = [name.partition(",")[0] for name in classes]
    times = Counter(short)
    return [whole if times[name] > 1 else name for whole, name in zip(classes, short, strict=True)]


def _number(key: str, value: float) -> str:
    return f"{value:.3f}" if key == "nll" else f"{value:.2f}"


def _part(summary: Summary, markup: Any) -> dict[str, Any]:
    """What the page shows of classes, or of groups of them."""
    rows = summary.rows()
    known = sorted((row for row in rows if row["f1"] is not None), key=lambda row: row["f1"])
    if len(known) <= _CHARTED:
        charted, note = known, "F1 of each class, the lowest first."
    else:
        half = _CHARTED // 2
        charted = known[:half] + known[-5:]
        note = f"F1 of the {half} lowest and the 5 highest of {len(known)} classes."
    return {
        "figures": summary.figures,
        "table": rows,
        "chart": markup(classes_chart(charted)),
        "chart_note": note,
        **_confusion(summary),
    }


def _confusion(summary: Summary) -> dict[str, Any]:
    confusion, classes = summary.per_class.confusion, summary.classes
    counts = confusion.numpy()
    cells = summary.confusions()
    wrong = sorted((cell for cell in cells if cell[0] != cell[1]), key=lambda cell: -cell[2])
    pairs = [
        {
            "name": classes[row],
            "taken": classes[column],
            "count": count,
            "share": 100 * count / counts[row].sum(),
        }
        for row, column, count in wrong[:_PAIRS]
    ]
    if len(classes) <= _WHOLE:
        return {"map": None, "pairs": pairs, **_matrix(summary, list(range(len(classes))))}
    order = similarity_order(confusion)
    rank = np.argsort(order)
    whole = {
        "image": heat_map(confusion, order),
        "step": map_step(len(classes)),
        "names": [classes[index] for index in order],
        "cells": [[int(rank[row]), int(rank[column]), count] for row, column, count in cells],
    }
    # Those of the most frequent confusions, next to each other.
    chosen: list[int] = []
    for row, column, _ in wrong:
        new = [index for index in (row, column) if index not in chosen]
        if len(chosen) + len(new) <= _PART:
            chosen += new
    return {"map": whole, "pairs": pairs, **_matrix(summary, sorted(chosen, key=rank.item))}


def _matrix(summary: Summary, chosen: list[int]) -> dict[str, Any]:
    """The confusion matrix of some classes; what they were taken for beyond them is others."""
    counts = summary.per_class.confusion.numpy()
    names = [summary.classes[index] for index in chosen]
    others = len(chosen) < len(counts)
    rows = []
    for index, name in zip(chosen, names, strict=True):
        images = int(counts[index].sum())
        values = [int(counts[index, column]) for column in chosen]
        titles = [*names, "others"] if others else names
        if others:
            values.append(images - sum(values))
        rows.append(
            {
                "name": name,
                "images": images,
                "cells": [
                    {
                        "name": title,
                        "count": value,
                        "share": f"{100 * value / max(images, 1):.1f}",
                        "right": title is name,
                    }
                    for title, value in zip(titles, values, strict=True)
                ],
            }
        )
    turned = max(map(len, names), default=0) > 3
    return {"names": names, "rows": rows, "others": others, "turned": turned}


def _mistake(report: Report, position: int, dataset: Any) -> dict[str, Any]:
    found = report.mistake(position)
    picture = thumbnail(dataset, found["index"])
    paths = getattr(dataset, "paths", None)
    name = f"image {found['index']}" if paths is None else os.path.basename(paths[found["index"]])
    tiny = picture is not None and picture.startswith("data:image/png")
    # File names may hold bytes that are no text.
    name = name.encode(errors="replace").decode()
    return {**found, "picture": picture, "tiny": tiny, "name": name}


def _method(header: Mapping[str, Any], document: Mapping[str, Any]) -> list[tuple[str, str]]:
    versions = ", ".join(f"{name} {version}" for name, version in header["versions"].items())
    rows = [
        ("images", f"{header['images']:,}, of {header['dataset']}, split {header['split']}"),
        ("left out", f"{len(header['unreadable'])} that cannot be read"),
    ]
    for row in document["results"]:
        if row["img_size"] is not None:
            size = f"{row['img_size']} pixels, {row['interpolation']}, crop {row['crop_pct']}"
            rows.append(("input", f"{row['model']}: {size}; {row['param_count']} M parameters"))
    speed = document["speed"]
    where = "by zoo.optimize" if header["optimized"] else "as it is"
    rows.append(("run", f"{where}, on {speed['device']}, {speed['threads']} threads"))
    rows += [
        ("images/s", f"{header['images_per_second']:,.1f} with reading and preparing them"),
        ("machine", header["cpu"]),
        ("versions", versions),
        ("date", header["date"]),
    ]
    return rows
