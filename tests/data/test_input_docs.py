"""The page on input names what there is, and its examples run."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from zoo.data.pipeline import train_transform
from zoo.data.randomness import sample_keys
from zoo.registry import get_registry, load_target

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "input.md").read_text()


def blocks(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


def test_the_example_runs() -> None:
    pytest.importorskip("sklearn", reason="needs the extra [demo]")
    scope: dict[str, Any] = {}
    for block in blocks(PAGE):
        exec(block, scope)
    images, targets, indices = scope["images"], scope["targets"], scope["indices"]
    assert images.shape == (64, 1, 8, 8)
    assert torch.equal(scope["train"].targets[indices], targets)
    assert abs(float(images.mean())) < 0.2
    assert len(scope["batch"].images) == 360 % 64


def test_the_augmentation_by_key_runs() -> None:
    (block,) = (block for block in blocks((DOCS / "plugins.md").read_text()) if "Invert" in block)
    scope: dict[str, Any] = {}
    exec(block, scope)
    images = torch.zeros(4000, 1, 2, 2, dtype=torch.uint8)
    result = scope["Invert"]()(images, keys=sample_keys(0, 0, torch.arange(4000)))
    assert result.dtype == torch.uint8
    assert 0.08 < (result == 255).float().mean() < 0.12


def test_every_argument_is_documented() -> None:
    rows = re.findall(r"^\| (`[^|]*`) \|", PAGE, re.MULTILINE)
    written = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert set(inspect.signature(train_transform).parameters) <= written


def test_every_batch_augmentation_of_zoo_is_documented_with_its_arguments() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| `([^`|]*=[^`|]*)` \|", PAGE, re.MULTILINE))
    entries = get_registry().entries_of("augmentations", "zoo")
    assert set(rows) == {entry.bare for entry in entries if entry.spec.level == "batch"}
    for name, arguments in rows.items():
        spec = get_registry().resolve("augmentations", name).spec
        parameters = inspect.signature(load_target(spec.factory)).parameters
        written = [part.partition("=")[::2] for part in arguments.split(", ")]
        assert [key for key, _ in written] == list(parameters), name
        for key, value in written:
            if value:
                assert eval(value) == parameters[key].default, (name, key)
