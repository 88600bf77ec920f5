"""Recipes: named settings with the accuracy that was published for them.

A recipe is a YAML file in the folder ``recipes`` with the keys ``about``, ``target`` (data set,
model, ``eval_top1`` in per cent and where that number comes from) and ``settings``. Settings in a
configuration file go over the recipe's, flags over both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.errors import UnknownName, UsageError
from zoo.names import closest
from zoo.registry import get_registry
from zoo.training.config import TrainConfig, absolute_paths, check_names, read_settings
from zoo.training.settings import parse_yaml

FOLDER = Path(__file__).with_name("recipes")

NONE = "none"
"""The recipe without settings."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Settings under a name.

    Attributes:
        target: ``dataset``, ``model``, ``eval_top1`` and ``source``: what the settings were
            published to reach, and by whom.
    """

    name: str
    about: str
    target: Mapping[str, Any]
    settings: Mapping[str, Any]


def list_recipes() -> list[str]:
    """The names of all recipes."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load_recipe(name: str) -> Recipe:
    """Read a recipe.

    Raises:
        UsageError: there is none of that name.
    """
    names = list_recipes()
    if name not in names:
        close = closest(name, names)
        hint = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(names)}"
        raise UsageError(f"there is no recipe {name!r}; {hint}")
    path = FOLDER / f"{name}.yaml"
    held = parse_yaml(path.read_text(encoding="utf-8"), path.name)
    return Recipe(
        name, held["about"], held["target"], check_names(held["settings"], f"recipe {name}")
    )


def resolve(given: Mapping[str, Any], file: Path | None = None) -> TrainConfig:
    """Put a run's settings together: the recipe's, over them the file's, over them the given ones.

    The recipe is the one that is named, else the data set's own.

    Raises:
        UsageError: a setting is unknown, missing or wrong.
    """
    chosen = {**(read_settings(file) if file else {}), **given}
    for name, what in (("dataset", "what to train on"), ("model", "what to train")):
        if chosen.get(name) is None:
            raise UsageError(f"say {what}: --{name} NAME (zoo list-{name}s shows them)")
    recipe = chosen.get("recipe")
    if recipe is None:
        recipe = default_recipe(chosen["dataset"])
    beneath = {} if recipe == NONE else load_recipe(recipe).settings
    return TrainConfig(**absolute_paths({**beneath, **chosen, "recipe": recipe}))


def default_recipe(dataset: str) -> str:
    """The recipe that a data set names, ``"none"`` where it is a path or names none."""
    try:
        spec = get_registry().resolve("datasets", dataset).spec
    except UnknownName:
        return NONE  # a path, or a mistake that opening it will tell
    return getattr(spec, "recipe", None) or NONE
