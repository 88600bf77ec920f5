"""Every field of every spec is checked, and the message says what it must be."""

from __future__ import annotations

import dataclasses
import pickle
from typing import Any

import pytest

import zoo
from zoo import specs, validation
from zoo.loading import HOOKS
from zoo.specs import Spec
from zoo.validation import Mistake, check_spec

W = zoo.Weights(source="a.pth")
GOOD: dict[type, Any] = {
    zoo.Architecture: zoo.Architecture("net", "a.b:c"),
    zoo.Catalog: zoo.Catalog("all", "a.b:c"),
    zoo.Augmentation: zoo.Augmentation("flip", "a:b.c"),
    zoo.Loss: zoo.Loss("mse", "a:b"),
    zoo.Dataset: zoo.Dataset("digits", "a:b"),
    zoo.Backend: zoo.Backend("engine", "a:b"),
    zoo.Command: zoo.Command("greet", "a:b"),
}

WRONG: list[tuple[type, str, list[Any]]] = [
    *[(kind, "name", ["", "a/b", "a b", "a.b", "-a", "é", "a\n", None, 3]) for kind in GOOD],
    *[
        (kind, "factory", ["", "a", "a.b", "a:", ":b", "a:b c", "a:b:c", "a.:b", "1a:b", None])
        for kind in (zoo.Architecture, zoo.Augmentation, zoo.Loss, zoo.Dataset)
    ],
    (zoo.Catalog, "builder", ["a", None]),
    (zoo.Catalog, "depends", ["timm", ["timm"], (1,)]),
    (zoo.Backend, "prepare", ["a", None]),
    (zoo.Backend, "requires", ["onnx", ["onnx"], ("onnx.helper",), (3,), None]),
    (zoo.Backend, "dynamic", [1, None]),
    (zoo.Backend, "auto", [1, None]),
    (zoo.Backend, "license", ["", 3]),
    (zoo.Backend, "summary", [None, 3]),
    (zoo.Command, "target", ["a", None]),
    (zoo.Command, "help", [None, 3]),
    (zoo.Architecture, "family", ["", 3]),
    (zoo.Architecture, "input_size", [(3, 32), [3, 32, 32], (3, 32, 0), (3, 32.0, 32), 32]),
    (zoo.Architecture, "mean", [(), 0.5, [0.5], ("a",), (float("nan"),), (True,)]),
    (zoo.Architecture, "std", [(), (0.0,), (-1.0,), (float("inf"),)]),
    (zoo.Architecture, "interpolation", ["Bicubic", "random", 3, []]),
    (zoo.Architecture, "crop_pct", [0, -0.5, "0.9", True]),
    (zoo.Architecture, "num_classes", [-1, 10.0, True]),
    (zoo.Architecture, "params", [-1, 1e6]),
    (zoo.Architecture, "macs", [-1, "1G"]),
    (zoo.Architecture, "native_for", ["cifar10", ["cifar10"], ("",)]),
    (zoo.Architecture, "weights", [None, [W], {"a": None}, {"a b": W}, {"": W}, {1: W}]),
    (zoo.Architecture, "capabilities", ["features"]),
    (zoo.Architecture, "cam_target", ["", 3]),
    (zoo.Architecture, "license", ["", 3]),
    (zoo.Architecture, "paper", [3]),
    (
        zoo.Architecture,
        "default_kwargs",
        [None, {1: 2}, {"a": object()}, {"num_classes": 3}, {"in_chans": 1}, {"a": [{1: 2}]}],
    ),
    (zoo.Augmentation, "level", ["batches", None, []]),
    (zoo.Augmentation, "targets", ["hard", None]),
    (zoo.Augmentation, "license", [3]),
    (zoo.Augmentation, "paper", [3]),
    (zoo.Augmentation, "per_sample", [None, 1]),
    (zoo.Loss, "target", ["hard", None, (), ("index", "hard"), ["index"]]),
    (zoo.Loss, "needs_features", [None, 1]),
    (zoo.Loss, "license", [3]),
    (zoo.Loss, "paper", [3]),
    (zoo.Dataset, "task", ["", None]),
    (zoo.Dataset, "num_classes", [0, 2.0]),
    (zoo.Dataset, "input_size", [(28, 28)]),
    (zoo.Dataset, "mean", [[0.5], ()]),
    (zoo.Dataset, "std", [(0.0,)]),
    (zoo.Dataset, "recipe", [""]),
    (zoo.Dataset, "splits", [(), "train", ["train"]]),
    (zoo.Dataset, "license", [3]),
    (zoo.Dataset, "source", [3]),
    (zoo.Weights, "source", ["", None, "http://example.org/a.pth"]),
    (zoo.Weights, "sha256", ["abc", "0" * 63 + "g", 0]),
    (zoo.Weights, "num_classes", [-1]),
    (zoo.Weights, "labels", ["labels.txt", ["cat"]]),
    (zoo.Weights, "input_size", [(3, 1)]),
    (zoo.Weights, "resize_size", [0, (256, 256)]),
    (zoo.Weights, "mean", [(None,)]),
    (zoo.Weights, "std", [(0,)]),
    (zoo.Weights, "interpolation", ["area"]),
    (zoo.Weights, "crop_pct", [0]),
    (zoo.Weights, "metrics", [None, {"top1": "75"}, {"top1": float("nan")}, {1: 2.0}]),
    (zoo.Weights, "license", [3]),
    (zoo.Weights, "convert", ["f"]),
    (zoo.Weights, "loader", ["f"]),
]


def check(kind: type, **changed: Any) -> None:
    """Check a good spec of this kind with some fields changed."""
    if kind is zoo.Weights:
        weights = dataclasses.replace(W, **changed)
        check_spec(dataclasses.replace(GOOD[zoo.Architecture], weights={"tag": weights}))
    else:
        check_spec(dataclasses.replace(GOOD[kind], **changed))


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [(kind, field, value) for kind, field, values in WRONG for value in values],
)
def test_wrong_values_are_named(kind: type, field: str, value: Any) -> None:
    with pytest.raises(Mistake) as caught:
        check(kind, **{field: value})
    message = str(caught.value)
    assert "\n" not in message.replace("'a\\n'", "")
    if field == "name":
        assert "a name is made of" in message
    elif "weights tag" not in message:
        assert f"{field} must be " in message
        assert repr(value) in message


@pytest.mark.parametrize("spec", GOOD.values(), ids=lambda spec: type(spec).__name__)
def test_the_defaults_are_good_and_travel_to_other_processes(spec: Spec) -> None:
    check_spec(spec)
    assert pickle.loads(pickle.dumps(spec)) == spec
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.name = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("kind", "changed"),
    [
        (zoo.Architecture, {"name": "tf_efficientnet-v2_XL+"}),
        (zoo.Architecture, {"num_classes": 0, "crop_pct": 1.15, "mean": (0, 0.5)}),
        (zoo.Architecture, {"weights": {"a.b-c+d_1": W}}),
        (zoo.Architecture, {"default_kwargs": {"a": [1, (None, {"b": True})], "c": 0.5}}),
        (zoo.Loss, {"target": ("index", "soft")}),
        (zoo.Weights, {"sha256": "aF" * 32, "metrics": {"imagenet-1k/top1": 75}}),
    ],
)
def test_good_values(kind: type, changed: dict[str, Any]) -> None:
    check(kind, **changed)


def test_every_field_has_a_rule_and_a_test() -> None:
    for kind in [*GOOD, zoo.Weights]:
        fields = {field.name for field in dataclasses.fields(kind)}
        ruled = set(validation._RULES[kind]) | ({"name"} & fields)
        assert ruled == fields
        assert {field for other, field, _ in WRONG if other is kind} == fields


def test_every_spec_has_a_hook() -> None:
    contributed = {cls for classes in HOOKS.values() for cls in classes}
    assert contributed == set(specs.Spec.__args__) == set(GOOD)
