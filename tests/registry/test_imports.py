"""Listing is light: it imports none of the libraries that compute."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"torch", "torchvision", "timm", "numpy", "PIL", "sklearn", "importlib.metadata", "email"}


def imported(code: str, cache: Path) -> set[str]:
    """Return the heavy modules that a new process has imported after running the code."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"],
        env={**os.environ, "ZOO_CACHE_DIR": str(cache)},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return HEAVY & set(done.stdout.split())


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder in which every index is built already."""
    folder = tmp_path_factory.mktemp("cache")
    imported("import zoo; zoo.list_models()", folder)
    return folder


@pytest.mark.parametrize(
    "code",
    [
        "import zoo",
        "import zoo; zoo.list_models('*resnet*', pretrained=True)",
        "import zoo; zoo.list_pretrained()",
        "import zoo; zoo.list_losses() + zoo.list_augmentations() + zoo.list_datasets()",
        "from zoo import backends; backends.usable()",
        "import zoo.registry; [e.spec for e in zoo.registry.get_registry().entries('losses')]",
        "import zoo.registry; zoo.registry.get_registry().plugins",
    ],
)
def test_light(code: str, cache: Path) -> None:
    assert imported(code, cache) == set()


def test_ops_and_nn_load_on_first_access(cache: Path) -> None:
    assert "torch" in imported("import zoo; zoo.nn; zoo.ops.cpu_capability()", cache)
    assert "torch" in imported("import zoo; assert {'nn', 'ops'} <= set(dir(zoo)); zoo.ops", cache)


def test_an_attribute_that_is_not_there() -> None:
    import zoo

    with pytest.raises(AttributeError, match="module 'zoo' has no attribute 'absent'"):
        zoo.absent  # noqa: B018
