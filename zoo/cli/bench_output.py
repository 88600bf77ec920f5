"""What ``zoo bench`` prints and writes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from zoo.cli.output import Column, format_csv, format_json, print_rows, write_file
from zoo.errors import ZooError


def failure(row: Mapping[str, Any]) -> ZooError:
    """The error that tells of a candidate which was not timed, and fails the command."""
    return ZooError(f"{row['candidate']} {row['status']} on {row['case']}: {row['reason']}")


def write(document: dict[str, Any], output: Path | None, plot: Path | None) -> None:
    """Write the results, and draw them, into the files that were asked for."""
    from zoo.benchmark import report
    from zoo.benchmark.plot import draw

    if output:
        text = (
            format_csv(_csv_rows(document))
            if output.suffix.lower() == ".csv"
            else report.samples_on_one_line(format_json(document))
        )
        write_file(output, text + "\n")
    if plot and document["results"]:
        write_file(plot, draw(document, plot.suffix))


def _csv_rows(document: dict[str, Any]) -> list[dict[str, Any]]:
    from zoo.benchmark import report

    if document["header"]["op"]:
        return report.csv_rows(document["results"])
    return report.ceiling_rows(document["header"])


def _number(key: str, form: str, title: str = "") -> Column:
    return Column(key, title, show=lambda value: format(value, form), right=True)


def show(document: dict[str, Any], format_: str) -> None:
    """Print the results: a table with what it means, JSON or CSV."""
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
            *_place_columns(header),
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
        if header["op"] == "networks":
            _print_candidates(report.candidate_rows(results))
        click.echo()
        for line in report.summary_lines(document):
            click.echo(line)
    if "history" in header:
        _print_history(document)


def _place_columns(header: Mapping[str, Any]) -> list[Column | str]:
    networks, on_cpu = header["op"] == "networks", header["device"] == "cpu"
    case = Column("case", "network" if networks else "case (N,C,H,W,...)")
    return [case, Column("threads", right=True)] if on_cpu else [case]


def _print_candidates(rows: list[dict[str, Any]]) -> None:
    """What else is known of each candidate."""
    click.echo()
    columns: list[Column | str] = [
        Column("case", "network"),
        Column("threads", right=True),
        "candidate",
        _number("median_ms", ".3g", "ms"),
        _number("min_ms", ".3g", "min"),
        _number("p99_ms", ".3g", "p99"),
        _number("cold_ms", ".3g", "cold"),
        _number("images_per_s", ".1f", "images/s"),
        _number("first_call_ms", ".3g", "first call"),
        _number("prepare_ms", ".0f", "prepare"),
        _number("network_mb", ".0f", "MiB"),
        _number("error", ".0e"),
    ]
    print_rows(rows, "table", columns)


def _print_history(document: dict[str, Any]) -> None:
    from zoo.benchmark.history import compared_rows, history_lines

    results = document["results"]
    columns: list[Column | str] = [
        *_place_columns(document["header"]),
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
