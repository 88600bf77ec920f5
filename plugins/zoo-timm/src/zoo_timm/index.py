"""The index of timm's models: its registry's configurations joined with the committed table."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from importlib.resources import files
from typing import Any, NamedTuple

import timm
from timm.models import get_arch_pretrained_cfgs, get_pretrained_cfg, list_modules
from timm.models._pretrained import PretrainedCfg

import zoo

# timm's own names for the label sets that it ships (see zoo_timm.labels), by head size.
_LABELS = {
    1000: "zoo_timm.labels:imagenet_1k",
    11221: "zoo_timm.labels:imagenet_21k_miil",
    11821: "zoo_timm.labels:imagenet_12k",
    21841: "zoo_timm.labels:imagenet_22k",
    21842: "zoo_timm.labels:imagenet_22k_ms",
    21843: "zoo_timm.labels:imagenet_21k_goog",
}
_PREPROCESSING = ("input_size", "mean", "std", "interpolation", "crop_pct")
# SPDX identifiers of timm's licence names; a licence that has none keeps timm's name.
_SPDX = {
    "apache-2.0": "Apache-2.0",
    "mit": "MIT",
    "bsd-3-clause": "BSD-3-Clause",
    "cc-by-4.0": "CC-BY-4.0",
    "cc-by-nc-4.0": "CC-BY-NC-4.0",
    "unknown": None,
}


class Row(NamedTuple):
    """What the table knows of a model; None for what could not be counted."""

    input_size: tuple[int, ...] | None
    params: int | None
    macs: int | None


def read_table() -> dict[str, Row]:
    """The committed table, by model name. It may be older than the installed timm."""
    text = files("zoo_timm").joinpath("table.csv").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return {
        row["name"]: Row(
            tuple(map(int, row["input_size"].split("x"))) if row["input_size"] else None,
            int(row["params"]) if row["params"] else None,
            int(row["macs"]) if row["macs"] else None,
        )
        for row in csv.DictReader(lines)
    }


def location(config: PretrainedCfg) -> str:
    """Where timm downloads these weights from: ``hf-hub:ORG/REPO[/FILE]`` or a URL."""
    if config.hf_hub_id:
        file = f"/{config.hf_hub_filename}" if config.hf_hub_filename else ""
        return f"hf-hub:{config.hf_hub_id}{file}"
    return config.url if isinstance(config.url, str) else config.url[0]


def _preprocessing(config: PretrainedCfg) -> dict[str, Any]:
    values = {key: getattr(config, key) for key in _PREPROCESSING}
    return {k: tuple(v) if isinstance(v, list | tuple) else v for k, v in values.items()}


def _weights(config: PretrainedCfg, defaults: dict[str, Any]) -> zoo.Weights:
    changed = {k: v for k, v in _preprocessing(config).items() if v != defaults[k]}
    return zoo.Weights(
        source=location(config),
        num_classes=config.num_classes,
        labels=_LABELS.get(config.num_classes),
        license=_SPDX.get(config.license, config.license),
        loader="zoo_timm.weights:load",
        **changed,
    )


def _architecture(name: str, family: str, table: dict[str, Row]) -> zoo.Architecture:
    row = table.get(name, Row(None, None, None))
    config = get_pretrained_cfg(name) or PretrainedCfg()
    defaults = _preprocessing(config)
    weights = {
        tagged.removeprefix(f"{name}."): _weights(tag_config, defaults)
        for tagged, tag_config in get_arch_pretrained_cfgs(name).items()
        if tag_config.has_weights
    }
    return zoo.Architecture(
        name,
        factory="zoo_timm.models:create",
        family=family,
        num_classes=config.num_classes,
        params=row.params,
        # The count holds at one input size only, which a newer timm may have changed.
        macs=row.macs if row.input_size == defaults["input_size"] else None,
        weights=weights,
        license="Apache-2.0",
        default_kwargs={"model_name": name},
        **defaults,
    )


def build() -> Iterator[zoo.Architecture]:
    """All architectures of the installed timm with all their weights, module by module."""
    table = read_table()
    for module in list_modules():
        for name in timm.list_models(module=module):
            yield _architecture(name, module, table)
