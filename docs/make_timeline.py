"""Draws docs/training_step.svg and fills docs/training.md: ``python docs/make_timeline.py``.

The picture is the timeline of a step of the tutorial network; tables go between the markers of the
page. All of it comes from training_step.json and training.json (the digits) in benchmarks/results:
nothing is measured.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from zoo.benchmark.stats import ratio_interval

HERE = Path(__file__).parent
PAGE, PICTURE = HERE / "training.md", HERE / "training_step.svg"
RESULTS = HERE.parent / "benchmarks" / "results"
BEGIN, END = (f"<!-- {word} of what docs/make_timeline.py writes -->" for word in ("Begin", "End"))

CASE = "small_cnn, batch 128, 2 threads"
TITLES = {"eager": "PyTorch", "zoo": "zoo"}
NAMES = {"zoo": "zoo", "eager": "eager", "compile": "compiled", "keras": "Keras"}
SPEED_NAMES = {**NAMES, "keras-8": "Keras, 8 steps a call"}
COLOURS = {"forward": "#9ecae1", "backward": "#fdae6b", "optimizer": "#a1d99b"}

Record = dict[str, Any]


def draw(profile: Record) -> None:
    """Write the picture: PyTorch above, zoo below, on one scale."""
    mpl.rcParams["svg.hashsalt"] = "zoo"
    mpl.rcParams["svg.fonttype"] = "none"
    figure, rows = plt.subplots(2, 1, figsize=(10, 4.6), sharex=True, layout="constrained")
    longest = max(end_of(profile[name]["timeline"]) for name in TITLES)
    for axes, (name, title) in zip(rows, TITLES.items(), strict=True):
        bars = profile[name]["timeline"]
        draw_step(axes, bars, longest)
        axes.set_title(f"{title}: {end_of(bars):.1f} ms", loc="left", fontsize=10)
    rows[-1].set_xlim(-0.005 * longest, 1.005 * longest)
    rows[-1].set_xlabel("ms")
    patches = [Patch(facecolor=colour, label=phase) for phase, colour in COLOURS.items()]
    rows[0].legend(handles=patches, loc="lower right", ncols=3, fontsize=8, frameon=False,
                   bbox_to_anchor=(1, 0.98), borderaxespad=0)  # fmt: skip
    figure.savefig(PICTURE, metadata={"Date": None})
    plt.close(figure)


def draw_step(axes: Axes, bars: Sequence[Sequence[Any]], longest: float) -> None:
    """One bar for each op; upright names where they do not fit otherwise, none on slivers."""
    for kind, phase, start, ms in bars:
        axes.barh(0, ms, 1, start, color=COLOURS[phase], edgecolor="#444444", linewidth=0.4)
        share, words = ms / longest, kind.replace("_", " ")
        upright = share < 0.0095 * len(words)
        text = words if upright else f"{words}\n{ms:.1f}"
        if share > 0.012:
            axes.text(start + ms / 2, 0, text, ha="center", va="center", fontsize=7.5,
                      rotation=90 if upright else 0)  # fmt: skip
    axes.set_ylim(-0.55, 0.55)
    axes.set_yticks([])
    axes.spines[["left", "right", "top"]].set_visible(False)


def end_of(bars: Iterable[Sequence[Any]]) -> float:
    """When the last bar ends, in ms."""
    return max(float(start) + float(ms) for _, _, start, ms in bars)


def tables(record: Record) -> str:
    """The tables, as Markdown."""
    races = record["speed"].values()
    rounds = sorted({len(row["samples_ms"]) for race in races for row in race["results"]})
    control = max(race["control"]["resolution"] for race in races if race["control"])
    return "\n".join(
        [
            f"Images per second on {record['header']['cpu']}, medians of "
            f"{' or '.join(map(str, rounds))} blocks in turn, and how many times those of others "
            "that is (95 % interval; aim). PyTorch, measured twice, differed from itself by a "
            f"factor of up to {control:.2f}.",
            "",
            *speed_table(record["speed"]),
            "",
            "How far memory rises above the level before a step, in MiB, and in brackets what the "
            "forward keeps for the backward; likewise before the first three steps, which "
            "compiling is part of. TensorFlow's allocator keeps what it had, so one step of it "
            "says nothing.",
            "",
            *memory_table(record["memory"]),
            "",
            "Where a step goes (ms, medians, under PyTorch's profiler); ops below 0.1 ms are left "
            "out:",
            "",
            *profile_table(record["profile"][CASE]),
            "",
            *seeds(record["digits"]),
        ]
    )


def speed_table(cases: Record) -> list[str]:
    """Images per second by case."""
    lines = [
        "| | " + " | ".join(SPEED_NAMES.values()) + " | zoo / best PyTorch | zoo / best Keras |",
        "|" + "---|" * (len(SPEED_NAMES) + 3),
    ]
    for case, found in cases.items():
        rows = {row["candidate"]: row for row in found["results"]}
        speeds = [
            f"{rows[name]['images_per_s']:,.0f}" if name in rows else "–" for name in SPEED_NAMES
        ]
        ours = rows.get("zoo", {})
        ratios = [
            times(ours.get("ratio_to_best_builtin"), ours.get("ratio_interval"), found["aims"][0]),
            times(ours.get("ratio_to_best_rival"), rival_interval(rows), found["aims"][1]),
        ]
        lines.append(f"| {case} | " + " | ".join([*speeds, *ratios]) + " |")
    return lines


def rival_interval(rows: Record) -> tuple[float, float] | None:
    """The interval of the best rival's time over zoo's, by their samples of each round."""
    ours = rows.get("zoo", {})
    theirs = rows.get(ours.get("best_rival"), {})
    samples = theirs.get("samples_ms"), ours.get("samples_ms")
    if not all(samples) or len(samples[0]) != len(samples[1]):
        return None
    return ratio_interval(*samples)


def times(ratio: float | None, interval: Sequence[float] | None, aim: float | None) -> str:
    """A ratio with what is known about it."""
    if ratio is None:
        return "–"
    notes = [f"{interval[0]:.2f} to {interval[1]:.2f}"] if interval else []
    notes += [f"aim {aim}"] if aim else []
    return f"{ratio:.2f}" + (f" ({'; '.join(notes)})" if notes else "")


def memory_table(cases: Record) -> list[str]:
    """Peak memory by case: of one step, and of the first ones."""
    lines = [
        "| | " + " | ".join(NAMES.values()) + " | zoo / eager |",
        "|" + "---|" * (len(NAMES) + 2),
    ]
    for case, found in cases.items():
        facts = {name: found.get(name, {}) for name in NAMES}
        once = {
            name: middle(each["peak_mb"]) for name, each in facts.items() if each.get("peak_mb")
        }
        first = {name: each.get("first_steps_mb") for name, each in facts.items()}
        saved = {name: each.get("saved_mb") for name, each in facts.items()}
        lines.append(memory_row(f"{case}: a step", once, saved))
        lines.append(memory_row("the first three", first, {}))
    return lines


def memory_row(title: str, peaks: Record, saved: Record) -> str:
    """A row of that table."""
    cells = []
    for name in NAMES:
        cell = f"{peaks[name]:,.0f}" if peaks.get(name) else "–"
        cells.append(cell + (f" ({saved[name]:,.0f})" if saved.get(name) else ""))
    both = peaks.get("zoo") and peaks.get("eager")
    cells.append(f"{peaks['zoo'] / peaks['eager']:.2f}" if both else "–")
    return f"| {title} | " + " | ".join(cells) + " |"


def middle(values: Sequence[float]) -> float:
    """The median, the upper one of an even number."""
    return sorted(values)[len(values) // 2]


def profile_table(profile: Record, least_ms: float = 0.1) -> list[str]:
    """ms of each kind of op, PyTorch's and zoo's."""
    ops = {name: profile[name]["ops"] for name in TITLES}
    columns = [(name, phase) for name in TITLES for phase in COLOURS]
    lines = [
        "| | " + " | ".join(f"{TITLES[name]}: {phase}" for name, phase in columns) + " |",
        "|---|" + "---:|" * len(columns),
    ]
    kinds = dict.fromkeys(kind for name in TITLES for kind in ops[name])
    for kind in kinds:
        spent = [ops[name].get(kind, {}).get(phase) for name, phase in columns]
        if max(ms or 0 for ms in spent) >= least_ms:
            cells = [f"{ms:.1f}" if ms is not None and ms >= 0.05 else "" for ms in spent]
            lines.append(f"| `{kind}` | " + " | ".join(cells) + " |")
    return lines


def seeds(digits: Record) -> list[str]:
    """What seeds ended at, by either ops."""
    said = []
    for ops, name in (("fused", "by fused ops"), ("torch", "by PyTorch's")):
        found = digits[ops]["eval_top1"]
        said.append(
            f"{min(found):.2f} to {max(found):.2f} %, mean {sum(found) / len(found):.2f} %, {name}"
        )
    return [f"`{digits['command']}`, {len(found)} seeds each: {'; '.join(said)}."]


def main() -> None:
    """Write both."""
    record = json.loads((RESULTS / "training_step.json").read_text())
    record["digits"] = json.loads((RESULTS / "training.json").read_text())["digits"]
    draw(record["profile"][CASE])
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n\n{tables(record)}\n\n{END}{after}")


if __name__ == "__main__":
    main()
