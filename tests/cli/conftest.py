"""Running the command, within the process and outside."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

SHELF = Path(__file__).with_name("shelf.py")


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder for the session, so that the large index is built once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def environment(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Only the plugin file ``shelf``, a fresh registry, and what flags set is undone."""
    saved, modules = dict(os.environ), set(sys.modules)
    path = list(sys.path)
    for variable in [name for name in os.environ if name.startswith("ZOO_")]:
        del os.environ[variable]
    os.environ |= {
        "ZOO_CACHE_DIR": str(cache),
        "ZOO_PLUGINS": "",
        "ZOO_EXTRA_PLUGINS": str(SHELF),
        "XDG_CONFIG_HOME": str(cache),
    }
    monkeypatch.setattr("zoo.registry._registry", None)
    yield
    os.environ.clear()
    os.environ.update(saved)
    added = set(sys.path) - set(path)
    sys.path[:] = path
    for name in set(sys.modules) - modules:  # plugin files would be found again by their names
        if os.path.dirname(getattr(sys.modules[name], "__file__", None) or "") in added:
            del sys.modules[name]


@pytest.fixture
def zoo(environment: None) -> Callable[..., Result]:
    """Run ``zoo ARGUMENTS`` within this process, with the plugin file ``shelf`` alone."""
    from zoo.cli import main

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(main, arguments, prog_name="zoo")

    return run


@pytest.fixture
def zoo_process(environment: None) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run ``python -m zoo ARGUMENTS`` as its own process in the same environment."""

    def run(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "zoo", *arguments],
            capture_output=True,
            text=True,
            env={**os.environ, **env},
            timeout=120,
            check=False,
        )

    return run
