"""Recipes: all of them are whole, and what goes over what."""

from __future__ import annotations

import pytest

from zoo.errors import UsageError
from zoo.registry import get_registry
from zoo.training.config import TrainConfig
from zoo.training.recipes import default_recipe, list_recipes, load_recipe, resolve
from zoo.training.settings import format_yaml

GIVEN = {"dataset": "digits", "model": "small_cnn"}


@pytest.mark.parametrize("name", list_recipes())
def test_recipes_are_whole(name, monkeypatch):
    monkeypatch.setenv("ZOO_PLUGINS", "zoo,cifar,timm")
    recipe = load_recipe(name)
    assert recipe.about.endswith(".")
    assert recipe.target.keys() == {"dataset", "model", "eval_top1", "source"}
    assert 0 < recipe.target["eval_top1"] < 100
    if name != "imagenet":  # of a plugin that need not be installed
        get_registry().resolve("architectures", recipe.target["model"])
    assert get_registry().resolve("datasets", recipe.target["dataset"]).spec.recipe == name
    TrainConfig(**GIVEN, **recipe.settings)


def test_a_data_set_names_its_recipe():
    config = resolve(GIVEN)
    assert config.recipe == "digits"
    assert config.lr == load_recipe("digits").settings["lr"]
    assert default_recipe("/some/folder") == "none"
    assert resolve({**GIVEN, "dataset": "/some/folder"}).lr == 1e-3


def test_flags_go_over_the_file_and_the_file_over_the_recipe(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text("lr: 0.2\nbatch_size: 7\nmodel: cifar/resnet20\n")
    config = resolve({"dataset": "digits", "batch_size": 9}, file)
    assert (config.model, config.lr, config.batch_size) == ("cifar/resnet20", 0.2, 9)
    assert config.epochs == load_recipe("digits").settings["epochs"]
    assert resolve({**GIVEN, "recipe": "none"}).epochs == 20


def test_settings_of_a_run_are_settings_for_the_next(tmp_path):
    file = tmp_path / "args.yaml"
    config = resolve({**GIVEN, "seed": 5})
    file.write_text(format_yaml(config.plain()))
    assert resolve({}, file) == config


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"dataset": "digits"}, "say what to train: --model NAME"),
        ({"model": "small_cnn"}, "say what to train on: --dataset NAME"),
        ({**GIVEN, "recipe": "digit"}, "there is no recipe 'digit'; did you mean digits?"),
        ({**GIVEN, "recipe": "x"}, "there are cifar10, digits, imagenet"),
    ],
)
def test_refusals(given, message):
    with pytest.raises(UsageError, match=message):
        resolve(given)
