"""Draws docs/networks.svg and fills docs/optimize.md: ``python docs/make_networks.py``.

Whole networks beside PyTorch and the inference engines, the losing rows first, on each machine. All
of it comes from the folders of benchmarks/results that benchmarks/networks.py writes: nothing is
measured.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from zoo.benchmark.names import plain_name
from zoo.benchmark.stats import geometric_mean

HERE = Path(__file__).parent
PAGE, PICTURE = HERE / "optimize.md", HERE / "networks.svg"
RESULTS = HERE.parent / "benchmarks" / "results"
LATENCIES = ("networks-avx512", "networks")  # folders, one for each machine
BEGIN, END = (f"<!-- {word} of what docs/make_networks.py writes -->" for word in ("Begin", "End"))
NAMES = {
    "zoo": "zoo", "eager-nhwc": "eager", "inductor": "inductor",
    "aotinductor": "AOTInductor", "openvino": "OpenVINO",
    "openvino-throughput": "OpenVINO's streams", "onnxruntime": "ONNX Runtime", "ncnn": "ncnn",
}  # fmt: skip
COLOURS = {"zoo": "#2ca25f", "best engine": "#9ecae1", "best of PyTorch": "#fdae6b"}

Row = dict[str, Any]


class Cell:
    """One network at one batch size on one number of threads: the rows of all candidates."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self.rows = {row["candidate"]: row for row in rows}
        first = self.rows["zoo"]
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
        """The quicker of both."""
        return min(self.engine, self.pytorch, key=self.ms)

    def gain(self, rival: str, ours: str = "zoo") -> float:
        """How many times a rival's speed ours is."""
        return self.ms(rival) / self.ms(ours)


def read(kind: str) -> tuple[list[Row], list[Cell], list[Row], list[float]]:
    """The headers of a folder, all cells, what was not timed, and the resolution of each cell."""
    documents = [json.loads(file.read_text()) for file in sorted((RESULTS / kind).glob("*.json"))]
    cells: dict[tuple[str, int], list[Row]] = {}
    for document in documents:
        for row in document["results"]:
            cells.setdefault((row["case"], row["threads"]), []).append(row)
    left_out = [row for document in documents for row in document["not_timed"]]
    resolutions = [row["resolution"] for document in documents for row in document["controls"]]
    headers = [document["header"] for document in documents]
    return headers, list(map(Cell, cells.values())), left_out, resolutions


def spell(ms: float) -> str:
    """Three digits of a time or speed."""
    return f"{ms:,.0f}" if ms >= 1000 else f"{ms:.3g}"


def plural(number: int, noun: str) -> str:
    """``2 threads``."""
    return f"{number} {noun}{'s' if number > 1 else ''}"


def summary(cells: Sequence[Cell]) -> list[str]:
    """How many times others' speed zoo's is."""
    gains: dict[str, Callable[[Cell, str], float]] = {
        "eager PyTorch, channels_last": lambda cell, ours: cell.gain("eager-nhwc", ours),
        "the best of PyTorch": lambda cell, ours: cell.gain(cell.pytorch, ours),
        "the best engine": lambda cell, ours: cell.gain(cell.engine, ours),
        "the best of all": lambda cell, ours: cell.gain(cell.rival, ours),
    }
    lines = [
        "| zoo's speed / that of | mean | lowest | cells where zoo is slower |",
        "|---|---|---|---|",
    ]
    for title, gain in gains.items():
        ours, exact = ([gain(cell, name) for cell in cells] for name in ("zoo", "zoo-exact"))
        slower = sum(ratio < 1 for ratio in ours)
        lines.append(
            f"| {title} | {geometric_mean(ours):.2f} ({geometric_mean(exact):.2f}) "
            f"| {min(ours):.2f} ({min(exact):.2f}) | {slower} of {len(ours)} |"
        )
    return lines


def latencies(cells: Sequence[Cell]) -> list[str]:
    """The time of each cell, where zoo loses or wins least first."""
    lines = [
        "| network | batch | threads | zoo | exact | best engine | best of PyTorch | eager "
        "| best of all / zoo |",
        "|---" * 9 + "|",
    ]
    for cell in sorted(cells, key=lambda cell: cell.gain(cell.rival)):
        named = (f"{spell(cell.ms(name))} ({NAMES[name]})" for name in (cell.engine, cell.pytorch))
        facts = [
            cell.network, str(cell.batch), str(cell.threads), spell(cell.ms("zoo")),
            spell(cell.ms("zoo-exact")), *named, spell(cell.ms("eager-nhwc")),
            f"{cell.gain(cell.rival):.2f}",
        ]  # fmt: skip
        lines.append(f"| {' | '.join(facts)} |")
    return lines


def tables() -> list[str]:
    """What the page says."""
    return [line for kind in LATENCIES for line in [*machine(kind), ""]] + throughput()


def machine(kind: str) -> list[str]:
    """What it says of one machine."""
    headers, cells, left_out, resolutions = read(kind)
    lines = [
        f"### {capability(headers)}",
        "",
        f"{where(headers)} Geometric means of {len(cells)} cells, and the lowest; in brackets with "
        '`precision="exact"`. The best of PyTorch, measured twice in each cell, differed from '
        f"itself by a factor of {median(resolutions):.2f} (median; at most "
        f"{max(resolutions):.2f}).",
        "",
        *summary(cells),
        "",
        "Medians in ms, where zoo loses or wins least first; in brackets whose they are.",
        "",
        *latencies(cells),
    ]
    return lines + failures(left_out)


def capability(headers: Sequence[Row]) -> str:
    """The instruction set that was used."""
    return str(headers[0]["processes"][0]["torch_capability"]).replace("AVX512", "AVX-512")


def where(headers: Sequence[Row]) -> str:
    """The machine and the commits."""
    commits = dict.fromkeys(header["commit"][:9] for header in headers)
    return (
        f"On {headers[0]['cpus']} cores of an {headers[0]['cpu']} "
        f"({capability(headers)}), float32, at {' and '.join(commits)}."
    )


def failures(left_out: Sequence[Row]) -> list[str]:
    """What was not timed."""
    failed = (f"{row['candidate']} on {row['case']} ({row['reason']})" for row in left_out)
    return ["", f"Not timed: {'; '.join(dict.fromkeys(failed))}."] if left_out else []


def throughput() -> list[str]:
    """Images per second of one process and of two, by zoo and by ncnn, where there are files."""
    headers, cells, left_out, resolutions = read("throughput")
    compared = [cell for cell in cells if any(row["engine"] for row in cell.rows.values())]
    if not compared:
        return []

    def ours(cell: Cell) -> str:
        return cell.best(lambda row: plain_name(row["candidate"]) == "zoo")

    def gain(cell: Cell) -> float:
        return cell.gain(cell.engine, ours(cell))

    ways = ["zoo", "zoo x2", "ncnn", "ncnn x2"]
    lines = [
        "### Throughput",
        "",
        "Batches of eight: images per second of one process with two threads, and of two processes "
        "with one thread and a batch each (x2); the last column compares the better of zoo's with "
        f"the better of ncnn's. {where(headers)} Geometric mean "
        f"{geometric_mean(list(map(gain, compared))):.2f}; what was measured twice differed from "
        f"itself by a factor of {median(resolutions):.2f} (median; at most "
        f"{max(resolutions):.2f}).",
        "",
        f"| network | {' | '.join(ways)} | zoo / ncnn |",
        "|---" * (len(ways) + 2) + "|",
    ]
    for cell in sorted(compared, key=gain):
        speeds = [spell(cell.rows[way]["images_per_s"]) if way in cell.rows else "" for way in ways]
        lines.append(f"| {cell.network} | {' | '.join(speeds)} | {gain(cell):.2f} |")
    return lines + failures(left_out)


def draw() -> None:
    """Write the picture: speed beside eager's, a row of panels for each machine."""
    mpl.rcParams["svg.hashsalt"] = "zoo"
    mpl.rcParams["svg.fonttype"] = "none"
    machines = [read(kind)[:2] for kind in LATENCIES]
    gains: dict[str, list[float]] = {}
    for cell in (cell for _, cells in machines for cell in cells):
        gains.setdefault(cell.network, []).append(cell.gain(cell.rival))
    networks = sorted(gains, key=lambda network: geometric_mean(gains[network]))
    panels = sorted({(cell.batch, cell.threads) for _, cells in machines for cell in cells})
    figure, axes = plt.subplots(
        len(machines), len(panels), figsize=(11, 4.9 * len(machines)), sharey=True,
        layout="constrained", squeeze=False,
    )  # fmt: skip
    for (headers, cells), row in zip(machines, axes, strict=True):
        for panel, each in zip(panels, row, strict=True):
            for cell in cells:
                if (cell.batch, cell.threads) == panel:
                    draw_cell(each, cell, networks.index(cell.network))
            each.axvline(1, color="#444444", linewidth=0.8)
            each.set_title(f"batch {panel[0]}, {plural(panel[1], 'thread')}", fontsize=10)
            each.spines[["right", "top"]].set_visible(False)
            each.set_xlim(0, 1.45 * each.get_xlim()[1])
        row[0].set_yticks(range(len(networks)), networks)
        row[0].set_ylabel(f"{headers[0]['cpu']}, {capability(headers)}", fontsize=10)
    axes[0, 0].invert_yaxis()
    figure.supxlabel("speed, eager PyTorch (channels_last) = 1; float32", fontsize=9)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3,
                  fontsize=9, frameon=False)  # fmt: skip
    figure.savefig(PICTURE, metadata={"Date": None})
    plt.close(figure)


def draw_cell(axes: Axes, cell: Cell, at: int) -> None:
    """Three bars: zoo's speed, the best engine's and PyTorch's best."""
    bars = {"zoo": "zoo", "best engine": cell.engine, "best of PyTorch": cell.pytorch}
    for i, (title, name) in enumerate(bars.items()):
        speed, y = cell.gain("eager-nhwc", name), at + (i - 1) * 0.28
        axes.barh(y, speed, 0.28, color=COLOURS[title], label=None if at else title)
        whose = "" if name == "zoo" else f" {NAMES[name]}"
        axes.text(speed + 0.05, y, f"{speed:.1f}{whose}", va="center", fontsize=6.5)


def pages() -> dict[Path, str]:
    """The page as it should be."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    return {PAGE: "\n".join([before + BEGIN, "", *tables(), "", END]) + after}


if __name__ == "__main__":
    draw()
    for page, text in pages().items():
        page.write_text(text)
