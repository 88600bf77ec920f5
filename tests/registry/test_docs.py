"""docs/plugins.md tells all of it, and its example works as it stands."""

from __future__ import annotations

import dataclasses
import inspect
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import zoo
from zoo import errors, hookspecs
from zoo.loading import HOOKS

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs" / "plugins.md").read_text()


def section(title: str) -> str:
    """Return the text under a heading, as far as the next heading of its level or above."""
    match = re.search(
        rf"^(#+) {re.escape(title)}\n(.*?)(?=^#{{1,3}} |\Z)", DOCS, re.MULTILINE | re.DOTALL
    )
    assert match, f"no heading {title!r}"
    return match[2]


def first_cells(text: str) -> set[str]:
    """Return the names in backticks in the first column of the tables in a text."""
    cells = re.findall(r"^\| (.*?) \|", text, re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def test_every_hook_is_documented_with_its_arguments() -> None:
    specs = {
        name: function
        for name, function in vars(hookspecs).items()
        if hasattr(function, "zoo_spec")
    }
    written = {
        f"{name}({', '.join(inspect.signature(function).parameters)})"
        for name, function in specs.items()
    }
    assert first_cells(section("Hooks")) == written
    assert {f"zoo_{kind}" for kind in HOOKS} == set(specs)


@pytest.mark.parametrize(
    "spec",
    [*dict.fromkeys(cls for classes in HOOKS.values() for cls in classes), zoo.Weights],
    ids=lambda spec: spec.__name__,
)
def test_every_field_of_a_spec_is_documented(spec: type) -> None:
    fields = {field.name: field for field in dataclasses.fields(spec)}
    text = section(f"zoo.{spec.__name__}")
    assert first_cells(text) == set(fields)
    for names, default in re.findall(r"^\| (`.*?) \| (.*?) \|", text, re.MULTILINE):
        for name in re.findall(r"`([^`]+)`", names):
            field = fields[name]
            if field.default is not dataclasses.MISSING:
                expected = f"`{field.default!r}`".replace("'", '"')
            elif field.default_factory is not dataclasses.MISSING:
                expected = f"`{field.default_factory()!r}`"
            else:
                expected = "required"
            assert default == expected, name


def test_every_environment_variable_is_documented() -> None:
    read = set()
    for file in (ROOT / "zoo").glob("*.py"):
        read |= set(re.findall(r"""["'](ZOO_[A-Z_]+)["']""", file.read_text()))
    assert first_cells(section("Environment")) == read


def test_every_error_is_documented_with_its_exit_code() -> None:
    written = dict(re.findall(r"^\| `zoo\.(\w+)` \((\d)\)", section("Errors"), re.MULTILINE))
    raised = {
        name: str(error.exit_code)
        for name, error in vars(errors).items()
        if isinstance(error, type) and issubclass(error, errors.ZooError)
    }
    del raised["ZooError"]
    assert written == raised
    assert set(written) <= set(zoo.__all__)


def test_states_and_stages_are_documented() -> None:
    source = "".join(file.read_text() for file in (ROOT / "zoo").glob("*.py"))
    stages = set(re.findall(r'(?:stage = |\.fail\(\s*)"(\w+)"', source))
    states = {"active", "blocked", "incompatible", "failed"}
    assert len(stages) == 6
    assert first_cells(section("States")) == stages | states


def test_the_names_that_the_page_uses_exist() -> None:
    for name in set(re.findall(r"\bzoo\.([A-Za-z_]\w*)", DOCS)) - {"md"}:
        # A module that nobody imported yet is no attribute, but is there.
        assert hasattr(zoo, name) or find_spec(f"zoo.{name}"), name


def test_internal_links_lead_somewhere() -> None:
    headings = {
        re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^#+ (.*)$", DOCS, re.MULTILINE)
    }
    assert set(re.findall(r"\]\(#([^)]*)\)", DOCS)) <= headings


def run(*command: str, **environment: str) -> str:
    done = subprocess.run(
        command,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_plugin_of_the_tutorial_works_as_written(tmp_path: Path) -> None:
    files = re.findall(r"^`([\w./]+)`:\n\n```\w+\n(.*?)^```$", DOCS, re.MULTILINE | re.DOTALL)
    assert [name for name, _ in files] == [
        "pyproject.toml",
        "zoo_acme/__init__.py",
        "zoo_acme/models.py",
    ]
    for name, text in files:
        path = tmp_path / "zoo-acme" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    target = tmp_path / "installed"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    offline = ["--no-index", "--no-deps", "--no-build-isolation"]
    run(*pip, "install", *offline, "--target", str(target), str(tmp_path / "zoo-acme"))

    cache = {"ZOO_CACHE_DIR": str(tmp_path / "cache"), "ZOO_PLUGINS": "acme"}
    seen = {**cache, "PYTHONPATH": str(target)}
    # The command lines of the page, word for word.
    listing = re.search(r"^\$ zoo (list-models .*--format names)\n(.*)$", DOCS, re.MULTILINE)
    creating = re.search(r'^\$ python -c "(.*)"$', DOCS, re.MULTILINE)
    assert listing
    assert creating
    zoo_command = f'"{sys.executable}" -m zoo {listing[1]}'
    assert run("sh", "-c", zoo_command, **seen) == f"{listing[2]}\n"
    assert "Linear(in_features=64, out_features=10" in run(
        sys.executable, "-c", creating[1], **seen
    )

    code = "import zoo; print(zoo.list_models(), zoo.is_model('acme/acmenet'))"
    assert run(sys.executable, "-c", code, **seen) == "['acme/acmenet'] True\n"
    run(
        sys.executable,
        "-c",
        "import shutil, sys; shutil.rmtree(sys.argv[1])",
        str(next(target.glob("zoo_acme-*.dist-info"))),
    )
    assert run(sys.executable, "-c", code, **seen) == "[] False\n"


def test_the_snippets_on_other_kinds_are_valid(tmp_path: Path) -> None:
    """The blocks of the page, put together in one file, make a plugin that loads."""
    blocks = re.findall(r"^```python\n(.*?)^```$", DOCS, re.MULTILINE | re.DOTALL)
    hooks = [block for block in blocks if "zoo_losses" in block]
    weights = [block for block in blocks if "zoo.Weights(" in block]
    assert len(hooks) == len(weights) == 1
    architecture = weights[0].replace("<64 hexadecimal digits, as sha256sum prints them>", "0" * 64)
    (tmp_path / "page.py").write_text(
        f"import zoo\n{hooks[0]}\nSPEC = {architecture}\n"
        "@zoo.hookimpl\ndef zoo_architectures():\n    return [SPEC]\n"
    )
    code = (
        "from zoo.registry import get_registry\n"
        "print([p.contributes for p in get_registry().plugins if p.name == 'page'])"
    )
    output = run(
        sys.executable,
        "-c",
        code,
        ZOO_EXTRA_PLUGINS=str(tmp_path / "page.py"),
        ZOO_PLUGINS="",
        ZOO_STRICT_PLUGINS="1",
    )
    assert output == (
        "[{'architectures': 1, 'augmentations': 2, 'losses': 1, 'datasets': 1, "
        "'backends': 1, 'commands': 1}]\n"
    )
