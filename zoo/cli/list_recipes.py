"""``zoo list-recipes``: settings for training, and what they were published to reach."""

from __future__ import annotations

import click

from zoo.cli.output import Column, print_rows
from zoo.evaluation.needs import need

_COLUMNS: list[Column | str] = [
    "name",
    "dataset",
    "model",
    Column("eval_top1", title="top-1 %", right=True),
    Column("about", shrink=True),
    Column("source", shrink=True),
]


@click.command("list-recipes")
@click.option(
    "--format",
    "format_",
    type=click.Choice(["table", "json", "csv", "names"]),
    default="table",
    show_default=True,
)
def command(format_: str) -> None:
    """List recipes for training: their data set and model, and the accuracy published for them.

    A recipe serves for other models and data sets too: zoo train --recipe NAME.
    """
    need("yaml", what="a recipe", extra="train")
    from zoo.training.recipes import list_recipes, load_recipe

    recipes = [load_recipe(name) for name in list_recipes()]
    rows = [
        {
            "name": recipe.name,
            "about": recipe.about,
            **recipe.target,
            "settings": dict(recipe.settings),
        }
        for recipe in recipes
    ]
    print_rows(rows, format_, _COLUMNS)
