"""What tests of all kinds share."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def load_script() -> Callable[[Path], ModuleType]:
    """Loads a Python file that is in no package: of benchmarks/ or docs/, say."""

    def load(path: Path) -> ModuleType:
        name = f"loaded_{path.stem}"  # no file's own: one of those names may be imported, too
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # where dataclasses look their annotations up
        spec.loader.exec_module(module)
        return module

    return load
