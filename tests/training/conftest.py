"""Runs on the digits: some steps of a small network, in a folder of their own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # runs, for all the files here


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few plugins, an empty cache, and the working folder empty."""
    monkeypatch.setenv("ZOO_PLUGINS", "zoo,cifar")
    monkeypatch.setenv("ZOO_EXTRA_PLUGINS", str(Path(__file__).with_name("oddity.py")))
    monkeypatch.setenv("ZOO_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr("zoo.registry._registry", None)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def config() -> Callable[..., Any]:
    """Settings of a run of a second: two epochs of five steps."""
    from zoo.training.config import TrainConfig

    def make(**settings: Any) -> TrainConfig:
        beneath = {"dataset": "digits", "model": "cifar/small_cnn", "epochs": 2, "batch_size": 256}
        # The same bits in each run of the tests: what is measured may come out either way.
        beneath |= {"hflip": 0.0, "lr": 0.01, "ops": "torch"}
        return TrainConfig(**{**beneath, **settings})

    return make


@pytest.fixture(scope="session")
def launcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Starts ``zoo`` in processes that have imported all they need."""
    from runs import Launcher

    started = Launcher(tmp_path_factory.mktemp("launcher") / "log")
    yield started
    started.close()
