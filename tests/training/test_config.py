"""Settings: what they may be, and that YAML brings them back."""

from __future__ import annotations

import math
from dataclasses import fields

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.errors import UsageError
from zoo.training.config import SETTINGS, TrainConfig, read_settings
from zoo.training.settings import Named, format_yaml, parse_yaml

NEEDED = {"dataset": "digits", "model": "small_cnn"}

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
arguments = st.dictionaries(st.text(min_size=1), plain, max_size=3)
named = st.builds(Named, st.text(min_size=1), arguments)
rates = st.floats(0, 10)


@settings(deadline=None)
@given(
    st.fixed_dictionaries(
        {"dataset": st.text(min_size=1), "model": st.text(min_size=1)},
        optional={
            "lr": rates,
            "weight_decay": rates,
            "hflip": st.floats(0, 1),
            "seed": st.integers(0, 2**63),
            "input_size": st.tuples(*[st.integers(1, 500)] * 3),
            "loss": named,
            "augment": st.lists(named, max_size=3).map(tuple),
            "opt_kwargs": arguments,
            "aa": st.none() | st.text(min_size=1),
            "amp": st.booleans(),
            "no_aug": st.none() | st.booleans(),
        },
    )
)
def test_yaml_brings_settings_back(chosen):
    config = TrainConfig(**chosen)
    again = TrainConfig(**parse_yaml(format_yaml(config.plain()), "text"))
    assert again.plain() == config.plain()


def test_exponents_without_a_point_are_numbers():
    # YAML 1.1 takes them for text.
    config = TrainConfig(**NEEDED, **parse_yaml("lr: 1e-3\nweight_decay: 5e-5", "text"))
    assert (config.lr, config.weight_decay) == (1e-3, 5e-5)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"epochs": "ten"}, "epochs must be a whole number, not 'ten'"),
        ({"epochs": True}, "epochs must be a whole number"),
        ({"epochs": 0}, "epochs must be at least 1, not 0"),
        ({"lr": "fast"}, "lr must be a number, not 'fast'"),
        ({"lr": math.nan}, "lr must be at least 0, not nan"),
        ({"lr": -1}, "lr must be at least 0"),
        ({"momentum": 1}, "momentum must be below 1"),
        ({"reprob": 2}, "reprob must be at most 1"),
        ({"amp": "yes"}, "amp must be true or false"),
        ({"sched": "plateau"}, "sched must be one of cosine, "),
        ({"input_size": [3, 32]}, "input_size must be 3 numbers, not 2"),
        ({"input_size": 32}, "input_size must be a list"),
        ({"scale": [0.5, -1]}, "scale must be at least 0"),
        ({"loss": {"a": 1, "b": 2}}, "loss must be a name, or one name with its arguments"),
        ({"loss": {"a": 1}}, "loss must be a name"),
        ({"opt_kwargs": [1]}, "opt_kwargs must be a mapping"),
        ({"model": 3}, "model must be text"),
        ({"model": None}, "model must be text"),
        ({"pretrained": True, "initial_checkpoint": "a"}, "either pretrained or initial_checkpo"),
    ],
)
def test_wrong_settings(wrong, message):
    with pytest.raises(UsageError) as error:
        TrainConfig(**{**NEEDED, **wrong})
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch: 3", "there is no setting 'epoch'; did you mean epochs?"),
        ("[1, 2]", "must hold settings, as 'epochs: 10'"),
        ("a: [", "is not plain YAML"),
        ("lr: !!python/object/apply:os.system ['true']", "is not plain YAML"),
    ],
)
def test_wrong_files(tmp_path, text, message):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(UsageError) as error:
        read_settings(path)
    assert message in str(error.value)
    assert str(path) in str(error.value)


def test_file_that_is_not_there(tmp_path):
    with pytest.raises(UsageError, match="No such file"):
        read_settings(tmp_path / "none.yaml")


def test_every_setting_is_described():
    for held in fields(TrainConfig):
        assert held.metadata["help"]
        assert SETTINGS[held.name] is held
