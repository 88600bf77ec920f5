"""Our reader of entry points agrees with ``importlib.metadata``."""

from __future__ import annotations

import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from zoo.distributions import entry_points, versions


def theirs(group: str) -> set[tuple[str, str, str, str]]:
    return {
        (point.name, point.value, point.dist.name, point.dist.version)
        for point in metadata.entry_points(group=group)
        if point.dist is not None
    }


def ours(group: str) -> set[tuple[str, str, str | None, str | None]]:
    return {(p.name, p.value, p.distribution, p.version) for p in entry_points(group)}


def install(
    folder: Path, directory: str, entries: str, name: str = "Acme.Thing", file: str = "METADATA"
) -> None:
    info = folder / directory
    info.mkdir(parents=True)
    (info / file).write_text(
        f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\nSummary: x\n\nName: not this\n"
    )
    (info / "entry_points.txt").write_text(entries)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.mark.parametrize("group", ["console_scripts", "pytest11", "zoo", "no.such.group"])
def test_in_this_environment(group: str) -> None:
    assert ours(group) == theirs(group)


def test_versions() -> None:
    found = versions(["pytest", "Typing.Extensions", "no-such-distribution"])
    assert found == {
        "pytest": metadata.version("pytest"),
        "Typing.Extensions": metadata.version("typing-extensions"),
        "no-such-distribution": None,
    }


@pytest.mark.parametrize(
    "entries",
    [
        "[zoo]\nacme = acme_thing\n",
        " [zoo] \n# acme = comment\nacme=acme_thing:plugin\n\nb = b [extra]\n",
        "[other]\nacme = x\n[zoo]\nacme = y\n[zoo.more]\nacme = z\n",
        "[zoo]\n",
        "",
    ],
)
def test_what_a_file_may_hold(folder: Path, entries: str) -> None:
    install(folder, "acme_thing-1.2.dist-info", entries)
    assert ours("zoo") == theirs("zoo")


@pytest.mark.parametrize("directory", ["acme_thing.egg-info", "acme_thing-1.2-py3.11.egg-info"])
def test_egg_infos_of_source_folders(folder: Path, directory: str) -> None:
    install(folder, directory, "[zoo]\nacme = a\n", file="PKG-INFO")
    assert ("acme", "a", "Acme.Thing", "1.2") in ours("zoo")
    assert ours("zoo") == theirs("zoo")


def test_the_first_on_the_path_counts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(folder / "first", "acme_thing-1.2.dist-info", "[zoo]\nacme = new\n")
    install(folder / "second", "Acme.Thing-1.0.dist-info", "[zoo]\nacme = old\n")
    monkeypatch.syspath_prepend(folder / "second")
    monkeypatch.syspath_prepend(folder / "first")
    assert {value for name, value, *_ in ours("zoo") if name == "acme"} == {"new"}
    assert ours("zoo") == theirs("zoo")


def test_metadata_that_is_damaged_hides_nothing(folder: Path) -> None:
    install(folder, "acme_thing-1.2.dist-info", "[zoo]\nacme = a\n")
    (folder / "acme_thing-1.2.dist-info" / "METADATA").unlink()
    (folder / "other-1.dist-info").mkdir()
    (folder / "other-1.dist-info" / "entry_points.txt").write_bytes(b"\xff\xfe[zoo\n=\n")
    assert ("acme", "a", None, None) in ours("zoo")


@pytest.mark.parametrize("kind", ["zip", "egg"])
def test_what_is_not_a_folder_is_left_to_the_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    path = tmp_path / ("acme.zip" if kind == "zip" else "acme.egg")
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("acme-1.0.dist-info/METADATA", "Name: acme\nVersion: 1.0\n")
            archive.writestr("acme-1.0.dist-info/entry_points.txt", "[zoo]\nacme = a\n")
    else:
        install(path, "EGG-INFO", "[zoo]\nacme = a\n", name="acme", file="PKG-INFO")
    monkeypatch.setattr(sys, "path", [str(path), *sys.path])
    assert "acme" in {point.name for point in entry_points("zoo")}
    assert ours("zoo") == theirs("zoo")
    assert versions(["acme"]) == {"acme": metadata.version("acme")}
