"""``zoo info``: all that is known about one thing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import click

from zoo.cli.output import format_json, human_count, human_size, joined
from zoo.errors import AmbiguousName, UnknownName
from zoo.registry import Entry, Registry, get_registry
from zoo.specs import Architecture

_KINDS = {
    "model": "architectures",
    "augmentation": "augmentations",
    "loss": "losses",
    "dataset": "datasets",
    "backend": "backends",
    "command": "commands",
}


@click.command("info")
@click.argument("name")
@click.option("--kind", type=click.Choice(list(_KINDS)), help="What NAME is, if several have it.")
@click.option("--format", "format_", type=click.Choice(["table", "json"]),
              default="table", show_default=True)  # fmt: skip
def command(name: str, kind: str | None, format_: str) -> None:
    """Show all that is known about a model, augmentation, loss, data set, backend or command.

    For a model that includes its weights, with licence, metrics and preprocessing; NAME.TAG
    shows these weights alone.
    """
    registry = get_registry()
    kind, entry, tag = _find(registry, name, kind)
    facts = _facts(registry, kind, entry, tag)
    click.echo(format_json(facts) if format_ == "json" else _page(facts))


def _find(registry: Registry, name: str, kind: str | None) -> tuple[str, Entry, str | None]:
    """Look a name up in one kind or in all.

    Raises:
        UnknownName: no kind has it; the message is about models, the largest kind.
        AmbiguousName: several kinds have it, or several plugins in a kind.
    """
    found: list[tuple[str, Entry, str | None]] = []
    unknown: list[UnknownName] = []
    for candidate in [kind] if kind else _KINDS:
        try:
            if candidate == "model":
                found.append((candidate, *registry.resolve_weights(name)))
            else:
                found.append((candidate, registry.resolve(_KINDS[candidate], name), None))
        except UnknownName as error:
            unknown.append(error)
    if not found:
        # Of several complaints the one that knows what was meant, if any does.
        raise next((error for error in unknown if "did you mean" in str(error)), unknown[0])
    if len(found) > 1:
        kinds = " and ".join(f"a {candidate}" for candidate, _, _ in found)
        raise AmbiguousName(f"{name!r} is {kinds}: choose one with --kind")
    return found[0]


def _facts(registry: Registry, kind: str, entry: Entry, tag: str | None) -> dict[str, Any]:
    plugin = next(plugin for plugin in registry.plugins if plugin.name == entry.plugin)
    facts = {
        **asdict(entry.spec),
        "name": entry.name,
        "kind": kind,
        "plugin": plugin.name,
        "distribution": plugin.distribution,
        "version": plugin.version,
    }
    if isinstance(entry.spec, Architecture):
        every = facts.pop("weights")
        facts["weights"] = {tag: every[tag]} if tag is not None else every
    first = ("name", "kind", "plugin", "distribution", "version")
    return {**{key: facts.pop(key) for key in first}, **facts}


def _page(facts: Mapping[str, Any]) -> str:
    """Lay facts out as a list, and the weights of a model as lists below it."""
    parts = [_list(facts)]
    for index, (tag, weights) in enumerate(facts.get("weights", {}).items()):
        default = " (default)" if index == 0 and len(facts["weights"]) > 1 else ""
        parts.append(f"weights {facts['name']}.{tag}{default}\n" + _list(weights, indent="  "))
    return "\n\n".join(parts)


def _list(facts: Mapping[str, Any], indent: str = "") -> str:
    shown = {
        key: text
        for key, value in facts.items()
        if key != "weights" and value is not None and (text := _show(key, value))
    }
    width = max(map(len, shown), default=0)
    return "\n".join(f"{indent}{key.ljust(width)}  {text}" for key, text in shown.items())


def _show(key: str, value: Any) -> str:
    if key in ("params", "macs"):
        return f"{human_count(value)} ({value:,})"
    if key == "input_size":
        return human_size(value)
    if isinstance(value, Mapping):
        return joined([f"{name} {item}" for name, item in value.items()])
    if isinstance(value, list | tuple):
        return joined(value)
    return str(value)
