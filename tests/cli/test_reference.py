"""The command reference in the docs is what the commands say."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_reference_is_up_to_date(environment):
    spec = importlib.util.spec_from_file_location("make_cli", ROOT / "docs" / "make_cli.py")
    make_cli = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_cli)
    page = make_cli.PAGE.read_text()
    written = page[page.index(make_cli.MARKER) :]
    # Versions of click lay help out differently; the words are the same.
    assert written.split() == make_cli.reference().split(), "run: python docs/make_cli.py"


@pytest.mark.parametrize("option", ["-p", "--no-plugins", "--version"])
def test_global_options_are_documented(option):
    assert (
        f"`{option}" in (ROOT / "docs" / "cli.md").read_text()
        or f"zoo {option}" in (ROOT / "docs" / "cli.md").read_text()
    )
