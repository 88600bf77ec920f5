"""The page on ops knows every op and every name, and its examples run."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from zoo import ops

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "ops.md").read_text()


def test_every_op_is_documented() -> None:
    schema = (ROOT / "csrc" / "schema.cpp").read_text()
    names = re.findall(r'm\.def\(\s*"(\w+)\(', schema)
    assert len(names) == 17
    for name in names:
        assert re.search(rf"\b{name}\b", PAGE), name


def test_every_name_is_documented() -> None:
    types = {"Activation", "Pool", "Precision"}
    for name in set(ops.__all__) - types:
        assert re.search(rf"ops\.{name}\b", PAGE), name
    for activation in ops.ACTIVATIONS:
        assert re.search(rf"\b{activation}\b", PAGE), activation


def test_every_environment_variable_is_documented() -> None:
    sources = [*(ROOT / "csrc").rglob("*.cpp"), *(ROOT / "zoo" / "ops").rglob("*.py")]
    used = {
        name
        for source in sources
        for name in re.findall(r'getenv\("(ZOO_\w+)"\)', source.read_text())
    }
    assert used == {"ZOO_CPU_CAPABILITY", "ZOO_FALLBACK"}
    for name in used:
        assert f"`{name}`" in PAGE


def test_explanation_that_is_shown_is_the_one_that_is_given() -> None:
    """But for its times, on the page about kernels; its columns are two spaces apart."""
    page = (ROOT / "docs" / "cpu.md").read_text()
    head, *lines = page.partition("$ zoo ops --explain conv2d ")[2].split("\n\n")[0].splitlines()
    shape, *options = head.split()
    assert options == ["--packed", "--channels-last"]
    n, c, h, w, o, k, s, p = map(int, shape.split(","))
    choices = ops.explain_conv2d((n, c, h, w), (o, c, k, k), s, p, packed=True, channels_last=True)
    shown = [re.split(r"\s{2,}", line.strip()) for line in lines[2:]]
    assert [row[0] for row in shown] == [choice["implementation"] for choice in choices]
    assert ["yes" in row for row in shown] == [choice["chosen"] for choice in choices]
    for row, choice in zip(shown, choices, strict=True):
        assert choice["reason"] is None or row[-1] == f"declines: {choice['reason']}"


def test_examples_run() -> None:
    scope: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL):
        exec(block, scope)
    features = scope["features"]
    assert isinstance(features, torch.Tensor)
    assert features.shape == (1, 32, 16, 16)
