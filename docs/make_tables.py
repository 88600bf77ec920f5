"""Fills in tables of docs/cpu.md, benchmark.md and optimize.md: ``python docs/make_tables.py``.

All of it comes from files in benchmarks/results, and goes between the markers of the pages: nothing
is measured.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE.parent / "benchmarks" / "results"
BEGIN, END = (f"<!-- {word} of what docs/make_tables.py writes -->" for word in ("Begin", "End"))
MACHINES = {"AVX2": "", "AVX-512": "-avx512"}

Row = dict[str, Any]

# What is shown -> the op's results, and which of their rows count.
ERRORS: dict[str, tuple[str, Callable[[Row], bool]]] = {
    **{
        name: ("conv2d", lambda row, name=name: row["implementation"] == name)
        for name in ("winograd4", "winograd2", "direct", "gemm", "depthwise")
    },
    "linear": ("linear", lambda row: row["candidate"].startswith("zoo")),
    "avg_pool2d": ("avg_pool2d", lambda row: row["candidate"].startswith("zoo")),
    "adaptive_avg_pool2d": ("adaptive_avg_pool2d", lambda row: row["candidate"].startswith("zoo")),
    "max_pool2d": ("max_pool2d", lambda row: row["candidate"].startswith("zoo")),
    "oneDNN's convolutions, for comparison": ("conv2d", lambda row: row["candidate"] == "onednn"),
    "NNPACK's Winograd, for comparison": ("conv2d", lambda row: row["candidate"] == "nnpack"),
}


def read(name: str) -> dict[str, Any]:
    """One of the files of results."""
    document: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return document


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table."""
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]


def commit(document: dict[str, Any]) -> str:
    """What was measured, short; with + it had changes that were not committed."""
    name = document["header"]["commit"]
    return name[:9] + ("+" if name.endswith("+") else "")


def errors() -> list[str]:
    """The largest error of each kernel over all layers."""
    ops = dict.fromkeys(op for op, _ in ERRORS.values())
    documents = {op + suffix: read(op + suffix) for suffix in MACHINES.values() for op in ops}
    rows = []
    for title, (op, counts) in ERRORS.items():
        largest = [
            max(row["error"] for row in documents[op + suffix]["results"] if counts(row))
            for suffix in MACHINES.values()
        ]
        rows.append(
            [title, *(f"{error:.1e}".replace("e-0", "e-") if error else "0" for error in largest)]
        )
    sources = []
    for machine, suffix in MACHINES.items():
        names = [f"`{op}{suffix}.json` at {commit(documents[op + suffix])}" for op in ops]
        cpu = documents["conv2d" + suffix]["header"]["cpu"]
        sources.append(f"{machine} ({cpu}): {', '.join(names)}")
    return [*table(["", *MACHINES], rows), "", f"From benchmarks/results, {'; '.join(sources)}."]


def folded() -> list[str]:
    """The largest errors of each kernel with channels of very unequal scale."""
    document = read("folded_batch_norm")
    header, results = document["header"], document["results"]
    worst: dict[str, list[float]] = {}
    for row in results:
        pair = [row["of_channel"], row["backward_error"]]
        worst[row["implementation"]] = list(
            map(max, pair, worst.get(row["implementation"], [0.0, 0.0]))
        )
    rows = (
        [name, *(f"{error:.1e}".replace("e-0", "e-") for error in worst[name])]
        for name in ERRORS
        if name in worst
    )
    layers = ", ".join(dict.fromkeys(row["layer"] for row in results))
    sets = ", ".join(dict.fromkeys(row["cpu_capability"] for row in results))
    return [
        *table(["with unequal channels", "of the channel's maximum", "of the output's sum"], rows),
        "",
        f"The largest of {header['seeds']} seeds, of {layers}, on {sets} ({header['cpu']}); from "
        f"`benchmarks/results/folded_batch_norm.json` at {commit(document)}.",
    ]


def rivals(machine: str, op: str) -> list[str]:
    """What zoo-packed does beside the quickest engine, losing rows first."""
    name = f"{op}_rivals{MACHINES[machine]}"
    document = read(name)
    resolution = {(row["case"], row["threads"]): row["resolution"] for row in document["controls"]}
    cases: dict[str, dict[int, tuple[float, str]]] = {}
    for row in document["results"]:
        if row["candidate"] == "zoo-packed":
            ratio, place = row["ratio_to_best_rival"], (row["case"], row["threads"])
            unsure = "~" if max(ratio, 1 / ratio) <= resolution[place] else ""
            cell = f"{unsure}{ratio:.2f} {row['best_rival']}"
            cases.setdefault(row["case"], {})[row["threads"]] = ratio, cell
    threads = sorted({number for cells in cases.values() for number in cells})
    ordered = sorted(cases.items(), key=lambda item: item[1][threads[0]])
    ratios = [ratio for cells in cases.values() for ratio, _ in cells.values()]
    controls = document["controls"]
    rounds, kept = (sum(row[key] for row in controls) for key in ("rounds", "disturbed_kept"))
    return [
        f"**{op}, {machine}** ({document['header']['cpu']}), from `benchmarks/results/{name}.json` "
        f"at {commit(document)}. Slower than the quickest engine in "
        f"{sum(ratio < 1 for ratio in ratios)} of {len(ratios)}. {kept} of {rounds} rounds were "
        "disturbed, and one builtin differed from itself by up to a factor of "
        f"{max(resolution.values()):.2f}.",
        "",
        *table(
            ["case", *(f"{number} thread{'s' if number > 1 else ''}" for number in threads)],
            ([case, *(cells[number][1] for number in threads)] for case, cells in ordered),
        ),
    ]


def coverage() -> list[str]:
    """What came of all of timm's architectures, and why some run as they are."""
    sweep = read("sweep")
    summary, header = sweep["summary"], sweep["header"]
    left = [row for row in sweep["results"] if row["status"] != "plan"]
    return [
        f"Of {summary['architectures']} convolutional architectures of timm {header['timm']} below "
        f"60 million parameters {summary['planned']} run as plans, {summary['wholly_zoo']} of them "
        f"without a step in PyTorch's kernels: {summary['ratio']:.2f} times the speed of eager "
        f"PyTorch in channels_last (geometric mean; batch 1, one thread, {header['cpu']}). Slower: "
        f"{', '.join(summary['slower']) or 'none'}. Beyond the tolerance, on a batch that the "
        f"check does not see: {', '.join(summary['beyond_tolerance']) or 'none'}. These run as "
        "they are:",
        "",
        *table(
            ["architecture", "why", "eager's own error"],
            (
                [row["model"], row["reason"], f"{row['eager_error']:.1e}".replace("e-0", "e-")]
                for row in left
            ),
        ),
    ]


def pages() -> dict[Path, str]:
    """Each page as it should be."""
    measured = [(machine, op) for op in ("conv2d", "conv2d_pool") for machine in MACHINES]
    engines = [line for place in measured for line in (*rivals(*place), "")]
    return {
        page: _fill_in(page.read_text(), lines)
        for page, lines in (
            (HERE / "cpu.md", [*errors(), "", *folded()]),
            (HERE / "benchmark.md", engines[:-1]),
            (HERE / "optimize.md", coverage()),
        )
    }


def _fill_in(page: str, lines: Sequence[str]) -> str:
    """Put the lines between the page's markers."""
    before, _, rest = page.partition(BEGIN)
    after = rest.partition(END)[2]
    return "\n".join([before + BEGIN, "", *lines, "", END]) + after


if __name__ == "__main__":
    for page, text in pages().items():
        page.write_text(text)
