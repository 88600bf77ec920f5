"""The index of a large catalog: when it is built, when it is read, what happens when it breaks."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import zoo
from zoo import catalog

if TYPE_CHECKING:
    from conftest import Site

PLUGIN = """
@zoo.hookimpl
def zoo_architectures():
    return [zoo.Architecture("own", "models:tiny"),
            zoo.Catalog("big", "builder:build", depends=("somelib",))]
"""

BUILDER = """
import pathlib
import zoo
print("building")
def build():
    with pathlib.Path(__file__).with_name("runs").open("a") as file:
        file.write("x")
    weights = {"a": zoo.Weights(source="a.pth", metrics={"top1": 7.5}, mean=(.5, .5, .5))}
    for size in (101, 18):
        yield zoo.Architecture(f"net{size}", "models:tiny", input_size=(3, 32, 32),
                               weights=weights, default_kwargs={"size": (size, [1, None])})
"""


@pytest.fixture
def big(site: Site) -> Callable[[], int]:
    """Install the catalog plugin; the result counts how often the builder ran."""
    site.add("acme", PLUGIN)
    (site.path / "builder.py").write_text(BUILDER)
    (site.path / "runs").write_text("")
    install_somelib(site, "1.0")
    return lambda: len((site.path / "runs").read_text())


def install_somelib(site: Site, version: str) -> None:
    for old in site.path.glob("somelib-*.dist-info"):
        (old / "METADATA").unlink()
        old.rmdir()
    info = site.path / f"somelib-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Name: somelib\nVersion: {version}\n")


def index(tmp_path: Path) -> Path:
    (path,) = (tmp_path / "cache" / "catalogs").glob("*.index")
    return path


EXPECTED = ["acme/net18", "acme/net101", "acme/own"]


def test_it_is_built_once_and_read_from_then_on(
    site: Site, big: Callable[[], int], capsys: pytest.CaptureFixture[str]
) -> None:
    site.discover()
    assert big() == 0  # discovery alone needs no index
    assert zoo.list_models() == EXPECTED
    out, err = capsys.readouterr()
    assert out == ""
    assert "zoo: indexing acme ...\n" in err
    assert "zoo: indexed 2 models of acme in" in err
    first = [entry.spec for entry in site.discover().entries("architectures")]
    assert big() == 1
    assert capsys.readouterr().err == ""
    again = [entry.spec for entry in site.discover().entries("architectures")]
    assert first == again
    assert first[0].weights["a"].metrics == {"top1": 7.5}
    assert first[0].default_kwargs == {"size": (18, (1, None))}
    assert site.plugin("acme").contributes == {"architectures": 3}


@pytest.mark.parametrize("change", ["plugin version", "dependency", "dependency gone", "builder"])
def test_a_stale_index_is_rebuilt(site: Site, big: Callable[[], int], change: str) -> None:
    site.discover()
    zoo.list_models()
    if change == "plugin version":
        (site.path / "zoo_acme-1.0.dist-info" / "METADATA").write_text(
            "Name: zoo-acme\nVersion: 1.1\n"
        )
    elif change == "dependency":
        install_somelib(site, "1.1")
    elif change == "dependency gone":
        for path in site.path.glob("somelib-*.dist-info"):
            path.rename(path.with_suffix(".gone"))
    else:
        os.utime(site.path / "builder.py", (1, 1))
    site.discover()
    assert zoo.list_models() == EXPECTED
    assert big() == 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"",
        lambda whole: b"\x00\xff" * 100,
        lambda whole: b"{}\n[]",
        lambda whole: b"[]\n[]",
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole[:-1],
        lambda whole: whole.replace(b"net18", b"net81"),
    ],
)
def test_a_damaged_index_is_rebuilt(
    site: Site, big: Callable[[], int], tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    site.discover()
    zoo.list_models()
    path = index(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    site.discover()
    assert zoo.list_models() == EXPECTED
    assert big() == 2
    assert path.read_bytes() == whole


def test_an_index_that_cannot_be_read_is_rebuilt(
    site: Site, big: Callable[[], int], tmp_path: Path
) -> None:
    site.discover()
    zoo.list_models()
    path = index(tmp_path)
    path.unlink()
    path.mkdir()  # reading fails for root too, which permissions would not stop
    site.discover()
    assert zoo.list_models() == EXPECTED
    assert big() == 2


def test_a_folder_that_cannot_be_written_is_said_once(
    site: Site,
    big: Callable[[], int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ZOO_CACHE_DIR", str(tmp_path / "file" / "cache"))
    site.discover()
    assert zoo.list_models() == zoo.list_models() == EXPECTED
    assert big() == 1
    err = capsys.readouterr().err
    assert err.count("cannot keep the index in") == 1
    assert "set ZOO_CACHE_DIR" in err
    site.discover()
    assert zoo.list_models() == EXPECTED


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_works(
    site: Site, big: Callable[[], int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cache").mkdir(mode=0o500)
    site.discover()
    assert zoo.list_models() == EXPECTED
    assert capsys.readouterr().err.count("cannot keep the index in") == 1


def test_no_half_written_file_stays(site: Site, big: Callable[[], int], tmp_path: Path) -> None:
    site.discover()
    zoo.list_models()
    names = {path.name for path in (tmp_path / "cache" / "catalogs").iterdir()}
    assert names == {"lock", index(tmp_path).name}


def test_old_indexes_are_cleared_away(site: Site, big: Callable[[], int], tmp_path: Path) -> None:
    for number in range(12):
        os.utime(site.path / "builder.py", (number, number))
        site.discover()
        zoo.list_models()
    assert len(list((tmp_path / "cache" / "catalogs").glob("*.index"))) == catalog.KEPT


def test_processes_that_start_together_build_it_once(site: Site, big: Callable[[], int]) -> None:
    (site.path / "builder.py").write_text(BUILDER + "\nimport time; time.sleep(0.5)\n")
    started = time.monotonic()
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", "import zoo; print(*zoo.list_models())"],
            env={**os.environ, "PYTHONPATH": str(site.path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for _ in range(4)
    ]
    outputs = {process.communicate(timeout=60)[0] for process in processes}
    assert outputs == {" ".join(EXPECTED) + "\n"}
    assert big() == 1
    assert time.monotonic() - started < 30


BROKEN = {
    "raises": ("def build():\n    1 / 0\n", "ZeroDivisionError"),
    "import error": ("import no_such_module_at_all\n", "No module named"),
    "exits": ("def build():\n    raise SystemExit(1)\n", "SystemExit"),
    "returns None": ("def build():\n    pass\n", "must return a list of zoo.Architecture"),
    "wrong type": ("def build():\n    return ['net']\n", "must return zoo.Architecture"),
    "duplicate": (
        "import zoo\ndef build():\n    return [zoo.Architecture('a', 'm:f')] * 2\n",
        "Architecture 'a' is there twice",
    ),
    "duplicate of its own": (
        "import zoo\ndef build():\n    return [zoo.Architecture('own', 'm:f')]\n",
        "Architecture 'own' is there twice",
    ),
    "nested": (
        "import zoo\ndef build():\n    return [zoo.Catalog('a', 'm:f')]\n",
        "must return architectures, not catalogs",
    ),
    "not there": (None, "there is no module 'builder'"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_builder_that_fails_withdraws_its_plugin_alone(
    site: Site, big: Callable[[], int], case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, cause = BROKEN[case]
    if code is None:
        (site.path / "builder.py").unlink()
    else:
        (site.path / "builder.py").write_text(code)
    site.architectures("fine", "net")
    registry = site.discover()
    assert zoo.list_models() == ["fine/net"]
    (plugin,) = [plugin for plugin in registry.plugins if plugin.name == "acme"]
    assert (plugin.state, plugin.stage, plugin.contributes) == ("failed", "catalog", {})
    assert cause in (plugin.error or "")
    assert capsys.readouterr().err.count("failed at catalog") == 1


def test_strict_raises(site: Site, big: Callable[[], int], monkeypatch: pytest.MonkeyPatch) -> None:
    (site.path / "builder.py").write_text("def build():\n    1 / 0\n")
    monkeypatch.setenv("ZOO_STRICT_PLUGINS", "1")
    with pytest.raises(zoo.PluginError, match="ZeroDivisionError"):
        site.discover().entries("architectures")


text = st.text(min_size=1).filter(str.strip)
number = st.floats(allow_nan=False, allow_infinity=False)
plain: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | number | st.text(),
    lambda inner: st.lists(inner).map(tuple) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
weights = st.builds(
    zoo.Weights,
    source=text,
    sha256=st.none() | st.just("0" * 64),
    num_classes=st.none() | st.integers(0, 10**6),
    mean=st.none() | st.tuples(number, number, number),
    metrics=st.dictionaries(text, number),
    license=st.none() | text,
)
architectures = st.builds(
    zoo.Architecture,
    name=st.just("net"),
    factory=st.just("m:f"),
    family=st.none() | text,
    input_size=st.none() | st.tuples(*[st.integers(1, 10**4)] * 3),
    crop_pct=st.none() | number,
    params=st.none() | st.integers(0, 2**70),
    native_for=st.lists(text).map(tuple),
    weights=st.dictionaries(text, weights, max_size=3),
    default_kwargs=st.dictionaries(st.text(), plain, max_size=3),
)


@given(architectures)
def test_what_goes_into_an_index_comes_out(architecture: zoo.Architecture) -> None:
    line = catalog.encode(architecture)
    assert line.isascii()
    assert "\n" not in line
    row = catalog.Row(architecture.name, list(architecture.weights), line)
    assert row.decode() == architecture
    assert row.tags == tuple(architecture.weights)
