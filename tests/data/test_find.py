"""Finding images by file, folder and pattern."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from zoo.data.find import Found, find_images


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    names = "img10.jpg img2.jpg notes.txt sub/a.PNG sub/.hidden.jpg .cache/b.jpg sub/deep/c.webp"
    for name in names.split():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_folder_is_searched_recursively_in_natural_order(tree: Path) -> None:
    found = list(find_images(["."]))
    assert [item.path for item in found] == [
        "./img2.jpg",
        "./img10.jpg",
        "./sub/a.PNG",
        "./sub/deep/c.webp",
    ]
    assert all(item.error is None for item in found)


def test_order_of_names_is_kept_and_files_may_have_any_suffix(tree: Path) -> None:
    found = [item.path for item in find_images(["notes.txt", "img2.jpg", "sub", "img2.jpg"])]
    assert found == ["notes.txt", "img2.jpg", "sub/a.PNG", "sub/deep/c.webp", "img2.jpg"]


def test_patterns(tree: Path) -> None:
    assert [item.path for item in find_images(["*.jpg"])] == ["img2.jpg", "img10.jpg"]
    assert [item.path for item in find_images(["**/*.webp"])] == ["sub/deep/c.webp"]
    assert [item.path for item in find_images(["su?"])] == ["sub/a.PNG", "sub/deep/c.webp"]


def test_a_file_whose_name_looks_like_a_pattern_is_a_file(tree: Path) -> None:
    Path("photo[1].jpg").touch()
    assert list(find_images(["photo[1].jpg"])) == [Found("photo[1].jpg")]


def test_what_names_nothing_is_an_error_in_its_place(tree: Path) -> None:
    Path("empty").mkdir()
    found = list(find_images(["nope.jpg", "img2.jpg", "*.bmp", "empty"]))
    assert found == [
        Found("nope.jpg", "no such file or folder"),
        Found("img2.jpg"),
        Found("*.bmp", "no file matches the pattern"),
        Found("empty", "no images in the folder"),
    ]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_unreadable_folder_is_reported(tree: Path) -> None:
    Path("sub/deep").chmod(0)
    try:
        found = list(find_images(["sub"]))
    finally:
        Path("sub/deep").chmod(0o755)
    assert found == [Found("sub/a.PNG"), Found("sub/deep", "Permission denied")]


def test_symbolic_link_loops_end(tree: Path) -> None:
    Path("sub/loop").symlink_to(tree)
    assert len(list(find_images(["."]))) == 4
