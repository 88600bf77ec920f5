"""The tables in the docs are those of the results that are committed."""

import importlib.util
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_tables_are_up_to_date():
    spec = importlib.util.spec_from_file_location("make_tables", DOCS / "make_tables.py")
    make_tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_tables)
    for page, text in make_tables.pages().items():
        assert page.read_text() == text, "run: python docs/make_tables.py"
