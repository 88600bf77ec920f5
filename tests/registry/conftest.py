"""Real distributions in a temporary folder: a module and the metadata that pip would write."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from zoo.distributions import entry_points
from zoo.registry import Plugin, Registry, get_registry

MODEL = """
import torch
def tiny(*, num_classes=10, in_chans=3, width=4):
    model = torch.nn.Sequential()
    model.add_module("conv", torch.nn.Conv2d(in_chans, width, 3))
    model.add_module("pool", torch.nn.AdaptiveAvgPool2d(1))
    model.add_module("flat", torch.nn.Flatten())
    model.add_module("fc", torch.nn.Linear(width, num_classes) if num_classes
                     else torch.nn.Identity())
    return model
"""


class Site:
    """A folder of installed distributions at the head of ``sys.path``."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(
        self,
        name: str,
        code: str,
        *,
        distribution: str | None = None,
        version: str = "1.0",
        module: str | None = None,
        value: str | None = None,
    ) -> Path:
        """Install a plugin whose module has this code; return the module's path."""
        distribution = distribution or f"zoo-{name}"
        module = module or "plugin_" + name.replace("-", "_").replace(".", "_")
        path = self.path / f"{module}.py"
        path.write_text("import zoo\n" + textwrap.dedent(code))
        info = self.path / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir(exist_ok=True)
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n"
        )
        (info / "entry_points.txt").write_text(f"[zoo]\n{name} = {value or module}\n")
        return path

    def architectures(self, name: str, *architectures: str, **kwargs: str) -> Path:
        """Install a plugin that offers architectures of these names."""
        listed = ", ".join(f"zoo.Architecture({a!r}, 'models:tiny')" for a in architectures)
        code = f"@zoo.hookimpl\ndef zoo_architectures():\n    return [{listed}]\n"
        return self.add(name, code, **kwargs)

    def discover(self) -> Registry:
        """Return a fresh registry, as a new process would find it."""
        import zoo.registry

        zoo.registry._registry = None
        return get_registry()

    def plugin(self, name: str) -> Plugin:
        """Return what a fresh registry says about one plugin."""
        (found,) = [plugin for plugin in self.discover().plugins if plugin.name == name]
        return found

    def run(self, code: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run Python code in a process of its own that sees these distributions."""
        return subprocess.run(
            [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
            env={**os.environ, "PYTHONPATH": str(self.path), **environment},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A folder of distributions; what is installed beside it is blocked."""
    for variable in [name for name in os.environ if name.startswith("ZOO_")]:
        monkeypatch.delenv(variable)
    installed = ",".join(point.name for point in entry_points("zoo"))
    monkeypatch.setenv("ZOO_BLOCK_PLUGINS", installed)
    monkeypatch.setenv("ZOO_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    path = tmp_path / "site"
    path.mkdir()
    (path / "models.py").write_text(MODEL)
    monkeypatch.setattr("zoo.registry._registry", None)
    monkeypatch.setattr(sys, "path", [str(path), *sys.path])
    before = set(sys.modules)
    yield Site(path)
    for name in set(sys.modules) - before:
        origin = getattr(sys.modules[name], "__file__", None) or ""
        if origin.startswith(str(tmp_path)):
            del sys.modules[name]
