"""``zoo list-augmentations``, ``list-losses``, ``list-datasets``, ``list-backends``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

import click

from zoo.backends import missing
from zoo.cli.output import Column, human_size, joined, note, print_rows
from zoo.models import list_augmentations, list_backends, list_datasets, list_losses
from zoo.registry import get_registry
from zoo.specs import Augmentation, Backend, Dataset, Loss


def _text(value: str | Sequence[str]) -> str:
    return value if isinstance(value, str) else joined(value)


def _listing(
    kind: str,
    spec: type,
    noun: str,
    names: Callable[..., list[str]],
    columns: list[Column],
    text: str,
    found_out: Mapping[str, Callable[[Any], Any]] | None = None,
) -> click.Command:
    """Make the command that lists one kind of contribution.

    ``found_out`` has functions of a spec for what it does not say itself, by key.
    """
    more = found_out or {}

    @click.command(f"list-{kind}", help=text)
    @click.argument("patterns", nargs=-1, metavar="[PATTERN]...")
    @click.option("--plugin", metavar="NAME", help=f"Only {noun} of this plugin.")
    @click.option("--format", "format_", type=click.Choice(["table", "json", "csv", "names"]),
                  default="table", show_default=True)  # fmt: skip
    def command(patterns: tuple[str, ...], plugin: str | None, format_: str) -> None:
        wanted = set(names(patterns, plugin=plugin))
        rows: list[dict[str, Any]] = [
            {
                **asdict(entry.spec),
                "name": entry.name,
                "plugin": entry.plugin,
                **{key: find(entry.spec) for key, find in more.items()},
            }
            for entry in get_registry().entries(kind)
            if entry.name in wanted
        ]
        print_rows(
            rows, format_, columns, [*(field.name for field in fields(spec)), "plugin", *more]
        )
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
        Column("recipe"),
        _LICENSE,
        Column("source", shrink=True),
    ],
    "List data sets whose canonical or bare name matches one of the PATTERNs, or all.",
)

backends = _listing(
    "backends",
    Backend,
    "backends",
    list_backends,
    [
        _NAME,
        Column(
            "missing",
            title="usable",
            show=lambda names: f"needs {joined(names)}" if names else "yes",
        ),
        _LICENSE,
        Column("summary", shrink=True),
    ],
    "List engines that run networks (zoo.optimize, zoo bench --model), and what is missing here.",
    {"missing": missing},
)
