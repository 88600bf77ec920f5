"""The curves of a run as a picture."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence


def draw_curves(rows: Sequence[Mapping[str, float]], title: str) -> bytes:
    """Draw loss, accuracy and learning rate over the epochs, as PNG.

    Args:
        rows: of ``summary.csv``.
    """
    from matplotlib.figure import Figure

    epochs = [row["epoch"] + 1 for row in rows]
    figure = Figure(figsize=(12, 3.6))
    figure.subplots_adjust(left=0.05, right=0.985, bottom=0.14, top=0.82, wspace=0.18)
    panels = figure.subplots(1, 3)
    drawn = (
        ("loss", (("train_loss", "training"), ("eval_loss", "evaluation"))),
        ("accuracy, %", (("eval_top1", "top 1"), ("eval_top5", "top 5"))),
        ("learning rate", (("lr", ""),)),
    )
    for panel, (name, lines) in zip(panels, drawn, strict=True):
        for key, label in lines:
            panel.plot(epochs, [row[key] for row in rows], marker=".", label=label)
        panel.set_xlabel("epoch")
        panel.set_title(name)
        panel.grid(alpha=0.3)
        panel.xaxis.get_major_locator().set_params(integer=True)
        if len(lines) > 1:
            panel.legend()
    figure.suptitle(title)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=100)
    return stream.getvalue()
