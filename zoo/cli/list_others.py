"""``zoo list-augmentations``, ``list-losses``, ``list-datasets``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from typing import Any

import click

from zoo.cli.output import Column, human_size, joined, note, print_rows
from zoo.models import list_augmentations, list_datasets, list_losses
from zoo.registry import get_registry
from zoo.specs import Augmentation, Dataset, Loss


def _text(value: str | Sequence[str]) -> str:
    return value if isinstance(value, str) else joined(value)


def _listing(
    kind: str,
    spec: type,
    noun: str,
    names: Callable[..., list[str]],
    columns: list[Column],
    text: str,
) -> click.Command:
    """Make the command that lists one kind of contribution."""

    @click.command(f"list-{kind}", help=text)
    @click.argument("patterns", nargs=-1, metavar="[PATTERN]...")
    @click.option("--plugin", metavar="NAME", help=f"Only {noun} of this plugin.")
    @click.option("--format", "format_", type=click.Choice(["table", "json", "csv", "names"]),
                  default="table", show_default=True)  # fmt: skip
    def command(patterns: tuple[str, ...], plugin: str | None, format_: str) -> None:
        wanted = set(names(patterns, plugin=plugin))
        rows: list[dict[str, Any]] = [
            {**asdict(entry.spec), "name": entry.name, "plugin": entry.plugin}
            for entry in get_registry().entries(kind)
            if entry.name in wanted
        ]
        print_rows(rows, format_, columns, [*(field.name for field in fields(spec)), "plugin"])
        if not rows:
            note(f"no {noun} found")

    return command


_NAME = Column("name")
_LICENSE = Column("license", shrink=True)
_PAPER = Column("paper", shrink=True)

augmentations = _listing(
    "augmentations",
    Augmentation,
    "augmentations",
    list_augmentations,
    [_NAME, Column("level"), Column("targets"), _LICENSE, _PAPER],
    "List augmentations whose canonical or bare name matches one of the PATTERNs, or all.",
)

losses = _listing(
    "losses",
    Loss,
    "losses",
    list_losses,
    [
        _NAME,
        Column("target", show=_text),
        Column("needs_features", show=lambda needed: "yes" if needed else "no"),
        _LICENSE,
        _PAPER,
    ],
    "List losses whose canonical or bare name matches one of the PATTERNs, or all.",
)

datasets = _listing(
    "datasets",
    Dataset,
    "data sets",
    list_datasets,
    [
        _NAME,
        Column("task"),
        Column("num_classes", title="classes", right=True),
        Column("input_size", title="input", show=human_size, right=True),
        Column("splits", show=joined),
        _LICENSE,
        Column("source", shrink=True),
    ],
    "List data sets whose canonical or bare name matches one of the PATTERNs, or all.",
)
