"""Draw docs/resnet18.svg: resnet18's graph as captured, and after the rewriting."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from torch import fx

import zoo
from zoo.compiler import capture, rewrite
from zoo.compiler.graph import arguments, shape

STAGES = (56, 28, 14, 0)  # the least height of the maps in each column
COLOURS = {
    "conv2d": "#9ecae1", "batch_norm": "#fdd0a2", "relu": "#c7e9c0", "add": "#dadaeb",
    "pool": "#fcbba1", "linear": "#9ecae1",
}  # fmt: skip
ROWS = (20, 9)  # of the two halves
WIDTH, HEIGHT, STEP_X, STEP_Y = 3.6, 0.6, 4.8, 0.86


def kind(node: fx.Node) -> str:
    """The op's family, which gives its colour."""
    name = str(node.target).split(".")[1]
    if "pool" in name and "conv" not in name:
        return "pool"
    return next((family for family in COLOURS if name.startswith(family)), name)


def label(node: fx.Node) -> str:
    """What the node computes, in a few words."""
    family, bound = kind(node), arguments(node)
    if family == "pool":
        return "max pool" if "max" in str(node.target) else "average pool"
    if family != "conv2d":
        return family.replace("_", " ")
    weight = shape(bound["weight"])
    assert weight is not None
    stride = bound["stride"][0] if isinstance(bound["stride"], (list, tuple)) else bound["stride"]
    text = f"conv {weight[2]}x{weight[3]}" + (f" / {stride}" if stride != 1 else "")
    extras = ["residual"] if bound.get("residual") is not None else []
    extras += [bound["activation"]] if bound.get("activation", "none") != "none" else []
    extras += [f"{bound['pool']} pool"] if "pool" in bound else []
    return " + ".join([text, *extras])


def column(node: fx.Node) -> int:
    """Of which stage the node is."""
    sizes = shape(node)
    height = int(sizes[2]) if sizes is not None and len(sizes) == 4 else 0
    return next(i for i, least in enumerate(STAGES) if height >= least)


def draw(axes: Axes, graph: fx.Graph, title: str, rows: int) -> None:
    """Boxes in the order of computation, a column per stage; sums that skip layers as arcs."""
    nodes = [node for node in graph.nodes if node.op == "call_function"]
    place: dict[fx.Node, tuple[float, float]] = {}
    filled = [0] * len(STAGES)
    for node in nodes:
        i = column(node)
        place[node] = (i * STEP_X, -filled[i] * STEP_Y)
        filled[i] += 1
    for node in nodes:
        x, y = place[node]
        box = plt.Rectangle((x, y), WIDTH, HEIGHT, facecolor=COLOURS.get(kind(node), "#eeeeee"))
        axes.add_patch(box)
        centre: dict[str, Any] = {"ha": "center", "va": "center"}
        axes.text(x + WIDTH / 2, y + HEIGHT / 2, label(node), fontsize=7, **centre)
        for source in node.all_input_nodes:
            if source in place:
                arrow(axes, place[source], (x, y))
    axes.set_title(f"{title}: {len(nodes)} ops", loc="left", fontsize=10)
    axes.set_xlim(-0.1, len(STAGES) * STEP_X)
    axes.set_ylim((0.5 - rows) * STEP_Y, 0.8)
    axes.axis("off")


def arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    """From a box down to the next, around those between, or over to the next column."""
    style: dict[str, Any] = {"arrowstyle": "-|>", "color": "#555555", "lw": 0.7, "shrinkA": 0}
    style |= {"shrinkB": 0, "mutation_scale": 6}
    if start[0] != end[0]:
        here = (start[0] + WIDTH, start[1] + HEIGHT / 2)
        there = (end[0], end[1] + HEIGHT / 2)
    elif start[1] - end[1] <= STEP_Y * 1.01:
        here, there = (start[0] + WIDTH / 2, start[1]), (end[0] + WIDTH / 2, end[1] + HEIGHT)
    else:
        here = (start[0] + WIDTH, start[1] + HEIGHT / 2)
        there = (end[0] + WIDTH, end[1] + HEIGHT / 2)
        style["connectionstyle"] = "arc3,rad=-0.25"
    axes.annotate("", there, here, arrowprops=style)


def main() -> None:
    """Write the picture."""
    mpl.rcParams["svg.hashsalt"] = "zoo"
    mpl.rcParams["svg.fonttype"] = "none"
    model = zoo.create_model("timm/resnet18").eval()
    graph_module = capture(model, (torch.randn(1, 3, 224, 224),)).graph_module
    figure, (above, below) = plt.subplots(
        2, 1, figsize=(9, 9), gridspec_kw={"height_ratios": ROWS}, layout="constrained"
    )
    draw(above, graph_module.graph, "resnet18 as captured", ROWS[0])
    rewrite(graph_module)
    draw(below, graph_module.graph, "resnet18 as zoo runs it", ROWS[1])
    figure.savefig(Path(__file__).with_name("resnet18.svg"), metadata={"Date": None})


if __name__ == "__main__":
    main()
