"""What ``zoo evaluate`` prints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from zoo.cli.output import Column, format_csv, format_json, format_table
from zoo.evaluation.results import FIGURES, RESULT_COLUMNS, result_row

if TYPE_CHECKING:
    from zoo.evaluation.report import Report, Summary

_SHOWN_CLASSES = 20  # in a table; of more, those with the lowest F1


def result_rows(result: Report, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for the models together, then one for each of them if they are several."""
    if len(rows) == 1:
        figures = result.summary.figures
        return [result_row(rows[0], figures["top1"].value, figures["top5"].value)]
    figures = result.summary.figures
    together = {
        "model": " + ".join(row["model"] for row in rows),
        "param_count": sum(row["param_count"] for row in rows),
    }
    each = [
        result_row(
            row,
            100 * float(outcomes.correct.double().mean()),
            100 * float(outcomes.among_best.double().mean()),
        )
        for row, outcomes in zip(rows, result.by_member, strict=True)
    ]
    return [result_row(together, figures["top1"].value, figures["top5"].value), *each]


def format_report(document: dict[str, Any], result: Report, format_: str) -> str:
    """An evaluation as a table for people, JSON with everything, or CSV in timm's columns."""
    if format_ == "json":
        return format_json(document)
    if format_ == "csv":
        return format_csv(document["results"], RESULT_COLUMNS)
    header, speed = document["header"], result.speed
    parts = [
        f"{header['model']} on {header['dataset']} ({header['split']}): {header['images']} images, "
        f"{header['classes']} classes",
        _figures(result.summary),
        _classes(result.summary),
    ]
    if len(document["results"]) > 1:
        parts.append(format_table(document["results"][1:], _MEMBER_COLUMNS))
    if result.coarse is not None:
        named = ", ".join(header["level"])
        parts += [f"At the level of {named}:", _figures(result.coarse), _classes(result.coarse)]
    assert speed is not None
    parts.append(
        f"{header['images_per_second']:,.0f} images/s with reading; the model alone "
        f"{speed.throughput:,.0f} images/s in batches of {speed.batch_size}, "
        f"{speed.latency_ms:.3g} ms for one ({speed.device}, {speed.threads} threads)"
    )
    return "\n\n".join(parts)


def _figures(summary: Summary) -> str:
    rows = [{"figure": FIGURES[name], **asdict(figure)} for name, figure in summary.figures.items()]
    for row in rows:
        decimals = 3 if row["figure"] == FIGURES["nll"] else 2
        row["value"] = f"{row['value']:.{decimals}f}"
        if row["low"] is not None:
            row["interval"] = f"{row['low']:.{decimals}f}..{row['high']:.{decimals}f}"
    columns = [Column("figure"), Column("value", right=True), Column("interval", "95 % interval")]
    return format_table(rows, columns)


_CLASS_COLUMNS = [
    Column("class", shrink=True),
    Column("images", right=True),
    *(Column(name, show="{:.1f}".format, right=True) for name in ("precision", "recall", "f1")),
]
_MEMBER_COLUMNS = [
    Column("model", "member"),
    Column("top1", "top-1", right=True),
    Column("top5", "top-5", right=True),
]


def _classes(summary: Summary) -> str:
    rows = summary.rows()
    if len(rows) <= _SHOWN_CLASSES:
        return format_table(rows, _CLASS_COLUMNS)
    known = [row for row in rows if row["f1"] is not None]
    lowest = sorted(known, key=lambda row: row["f1"])[:_SHOWN_CLASSES]
    return (
        format_table(lowest, _CLASS_COLUMNS)
        + f"\n(the {len(lowest)} classes with the lowest F1; --format json has all {len(rows)})"
    )
