"""Draws docs/networks.svg and fills docs/optimize.md: ``python docs/make_networks.py``.

Whole networks beside PyTorch and the inference engines, the losing rows first, and what came of all
of timm's. It comes from networks-avx512 and sweep.json in benchmarks/results: nothing is measured.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from zoo.benchmark.stats import geometric_mean

HERE = Path(__file__).parent
PAGE, PICTURE = HERE / "optimize.md", HERE / "networks.svg"
RESULTS = HERE.parent / "benchmarks" / "results"
BEGIN, END = (f"<!-- {word} of what docs/make_networks.py writes -->" for word in ("Begin", "End"))
EAGER = "eager-nhwc"
ENGINES = {
    "openvino": "OpenVINO", "onnxruntime": "ONNX Runtime", "ncnn": "ncnn", "mnn": "MNN",
    "inductor": "inductor", EAGER: "eager",
}  # fmt: skip
COLOURS = {"zoo": "#2ca25f", "best engine": "#9ecae1", "best of PyTorch": "#fdae6b"}

Row = dict[str, Any]


class Cell:
    """One network at one batch size on one number of threads: the rows of all candidates."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self.rows = {row["candidate"]: row for row in rows}
        first = next(iter(self.rows.values()))
        self.network = first["model"].rpartition("/")[2]
        self.batch, self.threads = first["batch"], first["threads"]

    def ms(self, name: str) -> float:
        """A candidate's median."""
        return float(self.rows[name]["median_ms"])

    def best(self, counts: Callable[[Row], bool]) -> str:
        """The quickest of the candidates that count."""
        return min((name for name, row in self.rows.items() if counts(row)), key=self.ms)

    @property
    def engine(self) -> str:
        """The quickest engine."""
        return self.best(lambda row: row["engine"])

    @property
    def pytorch(self) -> str:
        """The quickest way that PyTorch has."""
        return self.best(lambda row: row["builtin"])

    @property
    def rival(self) -> str:
        """The quickest of both."""
        return self.best(lambda row: row["engine"] or row["builtin"])

    def gain(self, rival: str, ours: str = "zoo") -> float:
        """How many times a rival's speed ours is."""
        return self.ms(rival) / self.ms(ours)


def read() -> tuple[list[Row], list[Cell]]:
    """The headers of the files, and all cells."""
    files = sorted((RESULTS / "networks-avx512").glob("*.json"))
    documents = [json.loads(file.read_text()) for file in files]
    cells: dict[tuple[str, int], list[Row]] = {}
    for document in documents:
        for row in document["results"]:
            cells.setdefault((row["case"], row["threads"]), []).append(row)
    return [document["header"] for document in documents], [Cell(rows) for rows in cells.values()]


def place(batch: int, threads: int) -> str:
    """A column's title."""
    return f"batch {batch}, {threads} thread{'s' if threads > 1 else ''}"


def tables(headers: Sequence[Row], cells: Sequence[Cell]) -> str:
    """What the page says, as Markdown."""
    gains: dict[str, Callable[[Cell, str], float]] = {
        "eager PyTorch, channels_last": lambda cell, ours: cell.gain(EAGER, ours),
        "the best of PyTorch": lambda cell, ours: cell.gain(cell.pytorch, ours),
        "the best engine": lambda cell, ours: cell.gain(cell.engine, ours),
        "the best of all": lambda cell, ours: cell.gain(cell.rival, ours),
    }
    lines = [
        f"On {headers[0]['cpus']} cores of {headers[0]['cpu']}, float32, at "
        f"{' and '.join(dict.fromkeys(header['commit'][:9] for header in headers))}. How many "
        f"times others' speed zoo's is: geometric means of {len(cells)} cells, and the lowest; "
        'in brackets with `precision="exact"`.',
        "",
        "| against | mean | lowest |",
        "|---|---|---|",
    ]
    for title, gain in gains.items():
        ours, exact = ([gain(cell, name) for cell in cells] for name in ("zoo", "zoo-exact"))
        lines.append(
            f"| {title} | {geometric_mean(ours):.2f} ({geometric_mean(exact):.2f}) "
            f"| {min(ours):.2f} ({min(exact):.2f}) |"
        )
    lines += [
        "",
        "Medians in ms, where zoo loses or wins least first; in brackets whose they are.",
        "",
        "| network | batch | threads | zoo | exact | best engine | best of PyTorch | eager "
        "| zoo / best of all |",
        "|---" * 9 + "|",
    ]
    for cell in sorted(cells, key=lambda cell: cell.gain(cell.rival)):
        texts = [
            f"{cell.ms(name):.3g}{f' ({ENGINES[name]})' if named else ''}"
            for name, named in (
                ("zoo", False), ("zoo-exact", False), (cell.engine, True), (cell.pytorch, True),
                (EAGER, False),
            )
        ]  # fmt: skip
        gain = f"{cell.gain(cell.rival):.2f}"
        facts = [cell.network, str(cell.batch), str(cell.threads), *texts, gain]
        lines.append("| " + " | ".join(facts) + " |")
    return "\n".join(lines)


def coverage(sweep: Row) -> str:
    """What came of all of timm's architectures, as Markdown."""
    summary, header = sweep["summary"], sweep["header"]
    slower, beyond = summary["slower"], summary["beyond_tolerance"]
    lines = [
        f"Of {summary['architectures']} convolutional architectures of timm {header['timm']} below "
        f"60 million parameters {summary['planned']} run as plans, {summary['wholly_zoo']} of them "
        f"without a step in PyTorch's kernels: {summary['ratio']:.2f} times the speed of eager "
        "PyTorch in channels_last (geometric mean; batch 1, one thread, "
        f"{header['cpu']}). Slower: {', '.join(slower) or 'none'}. Beyond the tolerance: "
        f"{', '.join(beyond) or 'none'}. These run as they are:",
        "",
        "| architecture | why | eager's own error |",
        "|---|---|---|",
    ]
    for row in sweep["results"]:
        if row["status"] != "plan":
            error = f"{row['eager_error']:.1e}" if "eager_error" in row else ""
            lines.append(f"| {row['model']} | {row['reason']} | {error} |")
    return "\n".join(lines)


def draw(headers: Sequence[Row], cells: Sequence[Cell]) -> None:
    """Write the picture: speed beside eager's, a panel for each batch size and thread count."""
    import matplotlib as mpl
    from matplotlib import pyplot as plt

    mpl.rcParams["svg.hashsalt"] = "zoo"
    mpl.rcParams["svg.fonttype"] = "none"
    networks = sorted(
        dict.fromkeys(cell.network for cell in cells),
        key=lambda name: geometric_mean(
            [cell.gain(cell.rival) for cell in cells if cell.network == name]
        ),
    )
    panels = sorted({(cell.batch, cell.threads) for cell in cells})
    figure, axes = plt.subplots(1, len(panels), figsize=(11, 5), sharey=True, layout="constrained")
    for panel, each in zip(panels, axes, strict=True):
        for cell in cells:
            if (cell.batch, cell.threads) != panel:
                continue
            bars = {"zoo": "zoo", "best engine": cell.engine, "best of PyTorch": cell.pytorch}
            at = networks.index(cell.network)
            for i, (title, name) in enumerate(bars.items()):
                speed = cell.gain(EAGER, name)
                label = title if at == 0 else None
                each.barh(at + (i - 1) * 0.28, speed, 0.28, color=COLOURS[title], label=label)
                text = f"{speed:.1f}" + (f" {ENGINES[name]}" if name in ENGINES else "")
                each.text(speed + 0.05, at + (i - 1) * 0.28, text, va="center", fontsize=6.5)
        each.axvline(1, color="#444444", linewidth=0.8)
        each.set_title(place(*panel), fontsize=10)
        each.spines[["right", "top"]].set_visible(False)
        each.set_xlim(0, 1.35 * each.get_xlim()[1])
    axes[0].set_yticks(range(len(networks)), networks)
    axes[0].invert_yaxis()
    figure.supxlabel(
        "speed, eager PyTorch (channels_last) = 1; "
        f"{headers[0]['cpu']}, {headers[0]['cpus']} cores, float32",
        fontsize=9,
    )
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3,
                  fontsize=9, frameon=False)  # fmt: skip
    figure.savefig(PICTURE, metadata={"Date": None})
    plt.close(figure)


def page() -> str:
    """docs/optimize.md as it should be."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    headers, cells = read()
    parts = [coverage(json.loads((RESULTS / "sweep.json").read_text()))]
    if cells:
        parts = ["![Networks beside the best engine and PyTorch](networks.svg)",
                 tables(headers, cells), *parts]  # fmt: skip
    return "\n\n".join([before + BEGIN, *parts, END]) + after


if __name__ == "__main__":
    if read()[1]:
        draw(*read())
    PAGE.write_text(page())
