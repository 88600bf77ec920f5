"""The tables in the docs are those of the results that are committed."""

import importlib.util
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def load(name):
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_tables_are_up_to_date():
    for page, text in load("make_tables").pages().items():
        assert page.read_text() == text, "run: python docs/make_tables.py"


def test_networks_are_up_to_date():
    make_networks = load("make_networks")
    assert make_networks.PAGE.read_text() == make_networks.page(), (
        "run: python docs/make_networks.py"
    )
