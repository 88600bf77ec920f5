"""``zoo list-models``: find models by name, plugin, family, size, licence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import click

from zoo.cli.output import Column, human_count, human_size, joined, note, print_rows
from zoo.cli.where import NUMBERS, TEXTS, Model, metric_names, parse_condition
from zoo.errors import UsageError
from zoo.models import list_models
from zoo.names import closest, natural_key
from zoo.registry import get_registry


def _some_tags(tags: Sequence[str]) -> str:
    more = f" +{len(tags) - 2}" if len(tags) > 2 else ""
    return joined(tags[:2]) + more or "-"


_COLUMNS = [
    Column("name"),
    Column("family", shrink=True),
    Column("params", show=human_count, right=True),
    Column("macs", show=human_count, right=True),
    Column("input_size", title="input", show=human_size, right=True),
    Column("pretrained", show=_some_tags, shrink=True),
    Column("license", shrink=True),
]


@click.command("list-models")
@click.argument("patterns", nargs=-1, metavar="[PATTERN]...")
@click.option("--plugin", metavar="NAME", help="Only models of this plugin.")
@click.option("--family", metavar="PATTERN", help="Only models of this family.")
@click.option("--pretrained", is_flag=True, help="Only models that have weights.")
@click.option(
    "--where",
    "conditions",
    multiple=True,
    metavar="CONDITION",
    help="Only models that fulfil it, e.g. 'params<5M' or license=commercial. Repeatable.",
)
@click.option("--sort", default="name", show_default=True, metavar="KEY",
              help="Order by a column or a metric; -KEY for descending.")  # fmt: skip
@click.option("--desc", is_flag=True, help="Order from high to low.")
@click.option("--limit", type=click.IntRange(min=0), metavar="N", help="At most so many models.")
@click.option("--format", "format_", type=click.Choice(["table", "json", "csv", "names"]),
              default="table", show_default=True)  # fmt: skip
def command(
    patterns: tuple[str, ...],
    plugin: str | None,
    family: str | None,
    pretrained: bool,
    conditions: tuple[str, ...],
    sort: str,
    desc: bool,
    limit: int | None,
    format_: str,
) -> None:
    """List models that match one of the PATTERNs, or all.

    A PATTERN has shell wildcards and is matched with canonical names (timm/resnet18) and bare
    ones (resnet18). CONDITION is FIELD OPERATOR VALUE: numbers (params, macs, input_size,
    in_chans, num_classes, crop_pct, and metrics of weights such as imagenet-1k/top1) compare by
    < <= > >= = != and take the suffixes k, M, G; texts (name, plugin, family, interpolation,
    native_for, capabilities, and license and tag of weights) compare by = and !=, with wildcards.
    license=commercial means any licence that is known to allow commercial use. A condition on
    weights also narrows the weights that are shown. Models of which a condition's field is not
    known are left out, and stderr says how many.

    \b
    Examples:
      zoo list-models 'resnet*' --pretrained
      zoo list-models --where 'params<5M' --where license=commercial --sort -params
    """
    wanted = set(list_models(patterns, plugin=plugin, pretrained=pretrained))
    models = [
        Model(entry) for entry in get_registry().entries("architectures") if entry.name in wanted
    ]
    metrics = cache(partial(metric_names, models))
    key, descending = _sort_key(sort, metrics)
    texts = [*([f"family={family}"] if family else []), *conditions]
    for condition in [parse_condition(text, metrics) for text in texts]:
        models, unknown = condition.select(models)
        if unknown:
            noun = "model" if unknown == 1 else "models"
            note(f"{condition.text}: left out {unknown} {noun} with unknown {condition.field}")
    found = len(models)
    if key is not None:
        models = ordered(models, key, descending != desc)
    elif descending != desc:
        models.reverse()
    models = models[:limit]
    # Rows of names alone decode no spec, which would take as long as all the rest.
    make = _row if format_ != "names" else lambda model: {"name": model.name}
    print_rows([make(model) for model in models], format_, _COLUMNS, _FIELDS)
    if not found:
        plain = [pattern for pattern in patterns if not set("*?[") & set(pattern)]
        note("no models found" + (f"; try '*{plain[0]}*'" if plain else ""))
    elif format_ == "table":
        shown = f" ({len(models)} shown)" if len(models) < found else ""
        note(f"{found} model{'s' * (found > 1)}{shown}")


def ordered(models: Sequence[Model], key: Callable[[Model], Any], descending: bool) -> list[Model]:
    """Sort by a key, in natural order for texts; models without a value come last."""
    keyed = [(key(model), model) for model in models]
    known = [(value, model) for value, model in keyed if value is not None]
    known.sort(
        key=lambda pair: natural_key(pair[0]) if isinstance(pair[0], str) else pair[0],
        reverse=descending,
    )
    return [model for _, model in known] + [model for value, model in keyed if value is None]


def _sort_key(
    text: str, metrics: Callable[[], list[str]]
) -> tuple[Callable[[Model], Any] | None, bool]:
    """Turn KEY or -KEY into a function of a model, and whether the order is descending.

    The function is None for the name, by which models are in order already.
    """
    name = text.removeprefix("-")
    descending = name != text
    if name == "name":
        return None, descending
    if name in NUMBERS:
        return (lambda model: NUMBERS[name](model.spec)), descending
    if name == "license":
        return _license, descending
    if name in TEXTS:
        return (lambda model: next(iter(TEXTS[name](model)), None)), descending
    if name in metrics():
        # The best of a model's weights, whichever end of the list the best is to come at.
        return (lambda model: max(_metric(model, name), default=None)), descending
    known = [*NUMBERS, *TEXTS, "license", *metrics()]
    close = closest(name, known, 1)
    hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
    raise UsageError(f"--sort {text!r}: no key {name!r}; {hint}")


def _metric(model: Model, name: str) -> list[float]:
    weights = model.weights.values()
    return [item.metrics[name] for item in weights if name in item.metrics]


def _license(model: Model) -> str | None:
    """Return the licence of the first weights shown, or of the architecture without any."""
    weights = next(iter(model.weights.values()), None)
    return weights.license if weights else model.spec.license


_FIELDS: dict[str, Callable[[Model], Any]] = {
    "name": lambda model: model.name,
    "plugin": lambda model: model.entry.plugin,
    "family": lambda model: model.spec.family,
    "params": lambda model: model.spec.params,
    "macs": lambda model: model.spec.macs,
    "input_size": lambda model: model.spec.input_size,
    "num_classes": lambda model: model.spec.num_classes,
    "pretrained": lambda model: list(model.weights),
    "license": _license,
}


def _row(model: Model) -> dict[str, Any]:
    return {key: value(model) for key, value in _FIELDS.items()}
