"""The tables in the docs are those of the results that are committed."""

import json
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("script", ["make_tables", "make_networks"])
def test_tables_are_up_to_date(script, load_script):
    for page, text in load_script(DOCS / f"{script}.py").pages().items():
        assert page.read_text() == text, f"run: python docs/{script}.py"


def test_throughput_is_a_table_where_there_are_files(tmp_path, monkeypatch, load_script):
    module = load_script(DOCS / "make_networks.py")
    monkeypatch.setattr(module, "RESULTS", tmp_path)
    assert module.throughput() == []

    def row(candidate, ms):
        case = {"model": "cifar/small_cnn", "case": "small", "batch": 8, "threads": 2}
        facts = {"median_ms": ms, "images_per_s": 8e3 / ms, "engine": candidate.startswith("ncnn")}
        return {**case, **facts, "candidate": candidate}

    header = {
        "cpus": 2,
        "cpu": "processor",
        "commit": "0123456789",
        "processes": [{"torch_capability": "AVX2"}],
    }
    rows = [("zoo", 8), ("zoo-exact", 1), ("zoo x2", 4), ("ncnn", 5), ("ncnn x2", 6)]
    document = {
        "header": header,
        "results": [row(*each) for each in rows],
        "not_timed": [],
        "controls": [{"resolution": 1.1}],
    }
    (tmp_path / "throughput").mkdir()
    (tmp_path / "throughput" / "small_cnn-2.json").write_text(json.dumps(document))
    assert module.throughput()[-1] == "| small_cnn | 1,000 | 2,000 | 1,600 | 1,333 | 1.25 |"
