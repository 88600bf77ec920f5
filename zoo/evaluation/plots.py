"""Charts of an evaluation as SVG that takes its colours from the page it stands in."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Sequence
from typing import Any

from zoo.evaluation.metrics import Bin

# Colours that no chart would have by chance, and what they become within the page.
_COLOURS = {
    "#010203": "var(--ink)",
    "#020304": "var(--muted)",
    "#030405": "var(--line)",
    "#040506": "var(--accent)",
    "#050607": "var(--bad)",
}
_INK, _MUTED, _LINE, _ACCENT, _BAD = _COLOURS


def reliability_chart(bins: Sequence[Bin]) -> str:
    """Accuracy over confidence, and below how many images there are; as SVG."""
    from matplotlib.ticker import MaxNLocator

    figure, (upper, lower) = _figure(5.2, 5.0, rows=2, height_ratios=[3, 1], sharex=True)
    width = bins[0].high - bins[0].low
    filled = [each for each in bins if each.images]
    places = [100 * each.low for each in filled]
    accuracy = [100 * (each.accuracy or 0) for each in filled]
    confidence = [100 * (each.confidence or 0) for each in filled]
    upper.plot([0, 100], [0, 100], color=_MUTED, linewidth=1, linestyle=(0, (4, 3)))
    upper.bar(places, accuracy, 92 * width, align="edge", color=_ACCENT, alpha=0.75)
    upper.plot(confidence, accuracy, "o", color=_INK, markersize=3.5)
    upper.set_ylim(0, 102)
    upper.set_ylabel("correct, %")
    lower.bar(
        places, [each.images for each in filled], 92 * width, align="edge", color=_MUTED, alpha=0.6
    )
    lower.set_xlim(0, 100)
    lower.set_ylabel("images")
    lower.set_xlabel("confidence, %")
    lower.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    return _svg(figure, "reliability")


def confidence_chart(right: Sequence[float], wrong: Sequence[float]) -> str:
    """Histogram of the confidence of right and of wrong predictions, in [0, 1]; as SVG."""
    from matplotlib.ticker import MaxNLocator

    figure, (axes,) = _figure(5.2, 5.0)
    edges = [5 * i for i in range(21)]
    axes.hist(
        [[100 * value for value in right], [100 * value for value in wrong]],
        bins=edges,
        stacked=True,
        color=[_ACCENT, _BAD],
        alpha=0.8,
        rwidth=0.92,
        label=[f"right ({len(right)})", f"wrong ({len(wrong)})"],
    )
    axes.set_xlim(0, 100)
    axes.set_xlabel("confidence, %")
    axes.set_ylabel("images")
    axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    legend = axes.legend(frameon=False, loc="best", labelcolor=_INK)
    legend.set_in_layout(False)
    return _svg(figure, "confidence")


def classes_chart(rows: Sequence[dict[str, Any]]) -> str:
    """F1 of classes with intervals, a line each, in the order given; as SVG."""
    figure, (axes,) = _figure(7.2, 0.9 + 0.27 * len(rows))
    places = range(len(rows))
    values = [row["f1"] for row in rows]
    axes.hlines(
        places,
        [row["f1_low"] for row in rows],
        [row["f1_high"] for row in rows],
        color=_ACCENT,
        linewidth=5,
        alpha=0.35,
    )
    axes.plot(values, places, "o", color=_ACCENT, markersize=6)
    axes.set_yticks(list(places), [_short(row["class"]) for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    low = min(row["f1_low"] for row in rows)
    axes.set_xlim(max(-1.0, min(low - 3, 90.0)), 101)
    axes.set_xlabel("F1, %")
    axes.grid(axis="y", visible=False)
    return _svg(figure, "classes")


def _short(name: str, limit: int = 28) -> str:
    # Names of folders may hold bytes that are no text; a dollar would begin a formula.
    name = name.encode(errors="replace").decode()
    name = name if len(name) <= limit else name[: limit - 1] + "…"
    return name.replace("$", r"\$")


def _figure(width: float, height: float, rows: int = 1, **ratios: Any) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(rows, squeeze=False, **ratios)[:, 0]
    for each in axes:
        each.set_facecolor("none")
        each.tick_params(colors=_MUTED, labelcolor=_INK, labelsize=9, length=0)
        each.xaxis.label.set_color(_MUTED)
        each.yaxis.label.set_color(_MUTED)
        each.grid(color=_LINE, linewidth=0.8)
        each.set_axisbelow(True)
        each.spines[:].set_visible(False)
    return figure, axes


def _svg(figure: Any, name: str) -> str:
    import matplotlib

    stream = io.StringIO()
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": name, "font.family": "sans-serif"}
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        # The page's fonts count, not those that matplotlib lays text out by.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    # Of several pictures in one page only names that are referred to may stay, and these differ.
    text = re.sub(r' id="[\w.]+_\d+"', "", text)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font-size: \1", text)
    for colour, variable in _COLOURS.items():
        text = text.replace(colour, variable)
    return text
