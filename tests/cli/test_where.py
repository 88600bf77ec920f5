"""Conditions: what they mean, and that no text makes the parser fail otherwise than cleanly."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.cli.where import (
    COMMERCIAL_LICENSES,
    NUMBERS,
    TEXTS,
    Model,
    metric_names,
    parse_condition,
    parse_number,
)
from zoo.errors import UsageError
from zoo.registry import Entry
from zoo.specs import Architecture, Weights


def model(name: str = "net", **fields: object) -> Model:
    spec = Architecture(name, factory="a:b", **fields)  # type: ignore[arg-type]
    return Model(Entry("p", name, spec))


def keeps(text: str, item: Model) -> bool | None:
    """True, False, or None for "not known"."""
    kept, unknown = parse_condition(text, lambda: metric_names([item])).select([item])
    assert len(kept) + unknown <= 1
    return None if unknown else bool(kept)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5), ("5e6", 5e6), ("5M", 5e6), ("5m", 5e6), ("1.5k", 1500), ("1_000", 1000),
        (".5", 0.5), ("2G", 2e9), ("1T", 1e12), ("-1", -1), (" 7 ", 7), ("1e3k", 1e6),
    ],
)  # fmt: skip
def test_numbers(text: str, value: float) -> None:
    assert parse_number(text) == value


@pytest.mark.parametrize("text", ["", "five", "5x", "5MM", "1e", "0x10", "nan", "inf", "1 000"])
def test_not_numbers(text: str) -> None:
    with pytest.raises(ValueError, match="not a number"):
        parse_number(text)


@given(
    field=st.sampled_from(["params", "macs", "num_classes"]),
    operator=st.sampled_from(["<", "<=", ">", ">=", "=", "==", "!="]),
    mine=st.integers(0, 10**10),
    theirs=st.integers(0, 10**10),
    unit=st.sampled_from(["", "k", "M", "G"]),
    blanks=st.text(" ", max_size=2),
)
def test_numbers_compare_as_in_python(
    field: str, operator: str, mine: int, theirs: int, unit: str, blanks: str
) -> None:
    text = blanks.join(["", field, operator, f"{theirs}{unit}", ""])
    bound = theirs * {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}[unit]
    expected = {
        "<": mine < bound, "<=": mine <= bound, ">": mine > bound, ">=": mine >= bound,
        "=": mine == bound, "==": mine == bound, "!=": mine != bound,
    }[operator]  # fmt: skip
    assert keeps(text, model(**{field: mine})) is expected


@given(st.text())
def test_any_text_is_a_condition_or_a_usage_error(text: str) -> None:
    try:
        condition = parse_condition(text)
    except UsageError as error:
        assert "\n" not in str(error)  # noqa: PT017
    else:
        condition.select([model(), model(params=5, family="f")])


@given(
    st.sampled_from([*NUMBERS, *TEXTS, "license", "tag"]),
    st.sampled_from(["<", "<=", ">", ">=", "=", "==", "!=", "=<", "<>", "~"]),
    st.text(st.characters(codec="ascii"), max_size=8),
)
def test_near_conditions_too(field: str, operator: str, value: str) -> None:
    test_any_text_is_a_condition_or_a_usage_error.hypothesis.inner_test(field + operator + value)


def test_unknown_values_are_told_apart_from_misses() -> None:
    for text in ("params<5", "family=a", "license=mit", "input_size<5", "native_for=x"):
        assert keeps(text, model()) is None
    assert keeps("params<5", model(params=6)) is False


def test_texts() -> None:
    item = model("ResNet18", family="resnet", capabilities=("features", "img_size"))
    assert keeps("family=RESNET", item) is True
    assert keeps("family=res*", item) is True
    assert keeps("family!=res*", item) is False
    assert keeps("family=vit", item) is False
    assert keeps("capabilities=img_size", item) is True
    assert keeps("capabilities!=img_size", item) is False
    assert keeps("name=resnet18", item) is True
    assert keeps("name=p/resnet18", item) is True
    assert keeps("plugin=p", item) is True


def test_input_size_is_the_longer_side() -> None:
    assert keeps("input_size=64", model(input_size=(3, 32, 64))) is True
    assert keeps("in_chans=3", model(input_size=(3, 32, 64))) is True


@pytest.mark.parametrize(
    ("license", "expected"),
    [("Apache-2.0", True), ("apache-2.0", True), ("MIT", True), ("CC-BY-NC-4.0", False),
     ("custom", False), (None, None), ("", None)],
)  # fmt: skip
def test_commercial(license: str | None, expected: bool | None) -> None:
    item = model(weights={"a": Weights(source="x", license=license)}, license="MIT")
    assert keeps("license=commercial", item) is expected
    assert keeps("license!=commercial", item) is (None if expected is None else not expected)


def test_no_licence_of_the_set_forbids_commerce() -> None:
    assert not [name for name in COMMERCIAL_LICENSES if "-nc" in name or "noncommercial" in name]
    assert all(name == name.casefold() for name in COMMERCIAL_LICENSES)


def test_conditions_on_weights_hold_for_the_same_weights() -> None:
    free = Weights(source="x", license="MIT", metrics={"top1": 70})
    bound = Weights(source="y", license="CC-BY-NC-4.0", metrics={"top1": 80})
    models = [model(weights={"bound": bound, "free": free, "silent": Weights(source="z")})]
    first, _ = parse_condition("license=commercial").select(models)
    assert list(first[0].weights) == ["free"]
    second, unknown = parse_condition("top1>75", lambda: ["top1"]).select(first)
    assert (second, unknown) == ([], 0)
    best, _ = parse_condition("top1>75", lambda: ["top1"]).select(models)
    assert list(best[0].weights) == ["bound"]
    tagged, _ = parse_condition("tag=f*").select(models)
    assert list(tagged[0].weights) == ["free"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("params", "write FIELD OPERATOR VALUE"),
        ("param<5", "did you mean params"),
        ("colour=red", "known are params"),
        ("params<", "a value is missing"),
        ("params<many", "'many' is not a number"),
        ("family<b", "family is text, use = or !="),
        ("license>mit", "license is text"),
    ],
)
def test_mistakes_are_explained(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_condition(text)
