"""The command reference in the docs is what the commands say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_reference_is_up_to_date(environment, load_script):
    # In a process of its own: click remembers the help option of a command that another test ran
    # outside of the group, which names it otherwise.
    fresh = subprocess.run(
        [sys.executable, "-c", "import make_cli; print(make_cli.reference())"],
        cwd=ROOT / "docs",
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    page = (ROOT / "docs" / "cli.md").read_text()
    make_cli = load_script(ROOT / "docs" / "make_cli.py")
    # Versions of click lay help out differently; the words are the same.
    written = page[page.index(make_cli.MARKER) :]
    assert written.split() == fresh.stdout.split(), "run: python docs/make_cli.py"


@pytest.mark.parametrize("option", ["-p", "--no-plugins", "--version"])
def test_global_options_are_documented(option):
    assert (
        f"`{option}" in (ROOT / "docs" / "cli.md").read_text()
        or f"zoo {option}" in (ROOT / "docs" / "cli.md").read_text()
    )
