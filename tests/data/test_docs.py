"""The page on data sets runs, and says what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from zoo.data.check import duplicates
from zoo.data.check.report import IMBALANCE
from zoo.data.check.scan import THUMBNAIL
from zoo.data.datasets import csv_file, folder, open_dataset, splits
from zoo.registry import get_registry

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text()


def test_examples_run() -> None:
    pytest.importorskip("sklearn", reason="needs the extra [demo]")
    scope: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL):
        exec(block, scope)
    assert scope["above"].below("dog") == (0,)  # type: ignore[attr-defined]
    assert scope["image"].shape == (1, 8, 8)  # type: ignore[attr-defined]


def test_every_data_set_of_the_core_is_named() -> None:
    own = {e.bare for e in get_registry().entries("datasets") if e.plugin == "zoo"}
    rows = re.findall(r"^\| (`.*?) \|", PAGE, re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == own


def test_layouts_are_as_written(tmp_path: Path) -> None:
    from PIL import Image

    trees = re.findall(r"(photos/\S+\.\w+)", PAGE)
    assert len(trees) == 5
    for name in (*trees, "images/1.jpg", "images/2.jpg"):
        split = name.startswith(("photos/train", "photos/val"))
        path = tmp_path / ("split" if split else "flat") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(path)
    assert splits(str(tmp_path / "split" / "photos")) == ("train", "val")
    assert splits(str(tmp_path / "flat" / "photos")) == ("train",)
    table = re.search(r"```text\n(path,label.*?)```", PAGE, re.DOTALL)
    assert table
    (tmp_path / "flat" / "labels.csv").write_text(table[1])
    assert len(open_dataset(str(tmp_path / "flat" / "labels.csv"), split="val")) == 1


def test_names_and_numbers_are_those_of_the_code() -> None:
    columns = (*csv_file.PATH_COLUMNS, *csv_file.LABEL_COLUMNS, csv_file.SPLIT_COLUMN)
    for name in (*folder.SPLITS, *columns):
        assert f"`{name}`" in PAGE
    text = " ".join(PAGE.split())
    assert f"thumbnails ({THUMBNAIL}x{THUMBNAIL}, grey)" in text
    assert f"at most {duplicates.MOST_DIFFERENCE:g} of 255 levels" in text
    assert f"by {duplicates.MOST_BRIGHTER:g} levels" in text
    assert f"correlate by {duplicates.LEAST_CORRELATION:g}" in text
    assert IMBALANCE == 10
