"""``zoo plugins``: what is installed, whether it works, what it cost to load."""

from __future__ import annotations

from typing import Any

import click

from zoo.cli.output import Column, print_rows
from zoo.registry import Plugin, get_registry


def _counts(contributes: dict[str, int]) -> str:
    return ", ".join(f"{kind} {count}" for kind, count in contributes.items()) or "-"


_COLUMNS = [
    Column("name"),
    Column("state"),
    Column("distribution", shrink=True),
    Column("version"),
    Column("contributes", show=_counts, shrink=True),
    Column("load_ms", title="load ms", show="{:.1f}".format, right=True),
    Column("imported_torch", title="torch", show=lambda yes: "IMPORTED" if yes else "no"),
    Column("error", shrink=True),
]


@click.command("plugins")
@click.option("--format", "format_", type=click.Choice(["table", "json", "csv", "names"]),
              default="table", show_default=True)  # fmt: skip
def command(format_: str) -> None:
    """Show the plugins that were found: their state, what they contribute, what loading cost.

    States are active, blocked (by -p no:NAME and the like), incompatible (made for another
    version of the plugin API) and failed. A plugin that imports torch while it is loaded slows
    every command: it is flagged.
    """
    plugins = get_registry().plugins
    columns = [c for c in _COLUMNS if c.key != "error" or any(p.error for p in plugins)]
    print_rows([_row(plugin) for plugin in plugins], format_, columns)


def _row(plugin: Plugin) -> dict[str, Any]:
    return {
        "name": plugin.name,
        "state": plugin.state,
        "distribution": plugin.distribution,
        "version": plugin.version,
        "origin": plugin.origin,
        "contributes": plugin.contributes,
        "load_ms": plugin.load_ms and round(plugin.load_ms, 3),
        "imported_torch": plugin.imported_torch,
        "stage": plugin.stage,
        "error": plugin.error,
    }
