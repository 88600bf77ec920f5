"""Options that choose plugins. They set the environment that discovery reads.

The environment rather than a variable, because worker processes must choose the same.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click


def _append(variable: str, value: str, separator: str) -> None:
    kept = [part for part in os.environ.get(variable, "").split(separator) if part]
    if value not in kept:
        os.environ[variable] = separator.join([*kept, value])


def _choose(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> None:
    for value in values:
        if value.startswith("no:") and len(value) > 3:
            _append("ZOO_BLOCK_PLUGINS", value[3:], ",")
        elif not value.endswith(".py"):
            raise click.BadParameter(
                f"{value!r}: write no:NAME to block a plugin or the path of a .py file to add one"
            )
        elif not Path(value).is_file():
            raise click.BadParameter(f"{value!r}: no such file")
        else:
            _append("ZOO_EXTRA_PLUGINS", str(Path(value).resolve()), os.pathsep)


def _no_plugins(ctx: click.Context, param: click.Parameter, given: bool) -> None:
    if given:
        os.environ["ZOO_NO_PLUGINS"] = "1"


def plugin_options(hidden: bool = False) -> list[click.Parameter]:
    """Make ``-p`` and ``--no-plugins``; eager, so that ``--help`` after them obeys them."""
    shared: dict[str, Any] = {"expose_value": False, "is_eager": True, "hidden": hidden}
    return [
        click.Option(
            ["-p", "plugin_choice"],
            multiple=True,
            metavar="no:NAME|FILE.py",
            callback=_choose,
            help="Block the plugin NAME, or add the plugin in FILE.py. Repeatable.",
            **shared,
        ),
        click.Option(
            ["--no-plugins"],
            is_flag=True,
            callback=_no_plugins,
            help="Ignore installed plugins; the core's own stay.",
            **shared,
        ),
    ]
