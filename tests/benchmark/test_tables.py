"""The tables in the docs are those of the results that are committed."""

from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("script", ["make_tables", "make_networks"])
def test_tables_are_up_to_date(script, load_script):
    for page, text in load_script(DOCS / f"{script}.py").pages().items():
        assert page.read_text() == text, f"run: python docs/{script}.py"
