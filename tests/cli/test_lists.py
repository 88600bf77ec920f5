"""The commands that list: models, augmentations, losses, data sets, plugins; and info."""

from __future__ import annotations

import csv
import io
import json

import pytest


def names(result) -> list[str]:
    assert result.exit_code == 0, result.output
    return result.stdout.split()


def models(zoo, *arguments: str) -> list[str]:
    found = names(zoo("list-models", "--format", "names", *arguments))
    return [name.removeprefix("shelf/") for name in found]


def test_models_in_natural_order(zoo):
    assert models(zoo) == ["net1", "net2", "net10", "odd"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["net*"], ["net1", "net2", "net10"]),
        (["shelf/net1*"], ["net1", "net10"]),
        (["net2", "odd"], ["net2", "odd"]),
        (["--plugin", "shelf", "--family", "n?t"], ["net1", "net2", "net10"]),
        (["--pretrained"], ["net1", "net2", "net10"]),
        (["--where", "params<5M"], ["net1", "net2"]),
        (["--where", "params<5M", "--where", "params>1k"], ["net2"]),
        (["--where", "license=commercial"], ["net2"]),
        (["--where", "in1k/top1>=80"], ["net2", "net10"]),
        (["--where", "native_for=cifar10"], ["odd"]),
        (["--sort", "params"], ["net1", "net2", "net10", "odd"]),
        (["--sort", "-params"], ["net10", "net2", "net1", "odd"]),
        (["--sort", "params", "--desc"], ["net10", "net2", "net1", "odd"]),
        (["--sort", "-params", "--desc"], ["net1", "net2", "net10", "odd"]),
        (["--sort", "input_size"], ["net10", "net2", "net1", "odd"]),
        (["--sort", "license"], ["net2", "net10", "net1", "odd"]),
        (["--desc"], ["odd", "net10", "net2", "net1"]),
        (["--sort", "name", "--limit", "2"], ["net1", "net2"]),
        (["--limit", "0"], []),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_filters_and_orders(zoo, arguments, expected):
    assert models(zoo, *arguments) == expected


def test_where_says_how_many_are_unknown(zoo):
    result = zoo("list-models", "--where", "macs>1", "--where", "license=commercial")
    assert "macs>1: left out 3 models with unknown macs\n" in result.stderr
    assert "1 model\n" in result.stderr
    result = zoo("list-models", "--where", "params>1", "--format", "names")
    assert result.stderr == "params>1: left out 1 model with unknown params\n"


def test_json_has_the_promised_keys_with_null_for_unknown(zoo):
    rows = json.loads(zoo("list-models", "--format", "json").stdout)
    by_name = {row["name"]: row for row in rows}
    assert by_name["shelf/net2"] == {
        "name": "shelf/net2",
        "plugin": "shelf",
        "family": "net",
        "params": 2_000_000,
        "macs": 300_000_000,
        "input_size": [3, 64, 64],
        "num_classes": None,
        "pretrained": ["bound", "free"],
        "license": "CC-BY-NC-4.0",
    }
    odd = by_name["shelf/odd"]
    assert (odd["params"], odd["family"], odd["license"], odd["pretrained"]) == (None,) * 3 + ([],)


def test_licence_shown_is_of_the_weights_shown(zoo):
    result = zoo("list-models", "--format", "json", "--where", "license=commercial")
    (row,) = json.loads(result.stdout)
    assert (row["pretrained"], row["license"]) == (["free"], "Apache-2.0")


def test_csv(zoo):
    rows = list(csv.DictReader(io.StringIO(zoo("list-models", "--format", "csv").stdout)))
    assert [row["name"] for row in rows] == ["shelf/net1", "shelf/net2", "shelf/net10", "shelf/odd"]
    assert rows[1]["input_size"] == "3;64;64"
    assert rows[3]["params"] == ""


def test_table_has_units_and_the_count_is_no_data(zoo):
    result = zoo("list-models", "--limit", "2")
    assert "2.00M  300M  3x64x64  bound, free" in result.stdout
    assert result.stderr == "4 models (2 shown)\n"


def test_nothing_found_is_said_and_no_failure(zoo):
    result = zoo("list-models", "et")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "no models found; try '*et*'\n"
    result = zoo("list-models", "et", "--format", "json")
    assert result.stdout == "[]\n"
    assert zoo("list-losses", "nothing*").stderr == "no losses found\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--where", "parms<5"], "did you mean params?"),
        (["--sort", "parms"], "did you mean params?"),
        (["--sort", "-"], "known are"),
        (["--plugin", "shelv"], "shelf"),
        (["--limit", "-1"], "--limit"),
    ],
)
def test_wrong_requests_are_one_line_and_exit_2(zoo, arguments, message):
    result = zoo("list-models", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stdout == ""


def test_other_lists(zoo):
    assert names(zoo("list-augmentations", "--format", "names")) == ["shelf/blend"]
    assert names(zoo("list-losses", "hin*", "--format", "names")) == ["shelf/hinge"]
    assert names(zoo("list-datasets", "--format", "names")) == ["shelf/dots", "shelf/hinge"]
    assert "index, soft" in zoo("list-losses").stdout
    assert names(zoo("list-backends", "--format", "names")) == ["shelf/gone", "shelf/here"]
    lines = zoo("list-backends").stdout.splitlines()
    assert "shelf/gone  needs engine_that_is_gone" in lines[2]
    assert "shelf/here  yes" in lines[3]
    (row,) = json.loads(zoo("list-augmentations", "--format", "json").stdout)
    assert (row["name"], row["plugin"], row["level"], row["targets"]) == (
        "shelf/blend", "shelf", "batch", "soft",
    )  # fmt: skip
    assert "1x8x8" in zoo("list-datasets", "dots").stdout


def test_plugins(zoo, tmp_path):
    broken = tmp_path / "broken.py"
    broken.write_text("import does_not_exist\n")
    result = zoo("-p", str(broken), "plugins", "--format", "json")
    assert result.exit_code == 0
    rows = {row["name"]: row for row in json.loads(result.stdout)}
    shelf, failed = rows["shelf"], rows["broken"]
    assert shelf["state"] == "active"
    assert shelf["contributes"] == {
        "architectures": 4, "augmentations": 1, "losses": 1, "datasets": 2, "backends": 2,
        "commands": 4,
    }  # fmt: skip
    assert shelf["load_ms"] > 0
    assert (failed["state"], failed["stage"]) == ("failed", "import")
    assert "does_not_exist" in failed["error"]


def test_plugins_table(zoo):
    result = zoo("plugins")
    assert "architectures 4, augmentations 1, losses 1" in result.stdout


def test_info_of_a_model(zoo):
    text = zoo("info", "net2").stdout
    assert "params      2.00M (2,000,000)" in text
    assert text.index("weights shelf/net2.bound (default)") < text.index("shelf/net2.free")
    assert "in1k/top1 80.0" in text
    facts = json.loads(zoo("info", "shelf/net2.free", "--format", "json").stdout)
    assert list(facts["weights"]) == ["free"]
    assert (facts["kind"], facts["name"], facts["plugin"]) == ("model", "shelf/net2", "shelf")


def test_info_of_other_kinds(zoo):
    assert json.loads(zoo("info", "blend", "--format", "json").stdout)["kind"] == "augmentation"
    assert json.loads(zoo("info", "greet", "--format", "json").stdout)["target"] == "shelf:greet"
    ambiguous = zoo("info", "hinge")
    assert ambiguous.exit_code == 2
    assert "'hinge' is a loss and a dataset: choose one with --kind" in ambiguous.stderr
    assert "dataset" in zoo("info", "hinge", "--kind", "dataset").stdout


@pytest.mark.parametrize(
    ("name", "meant"), [("net3", "shelf/net"), ("hing", "shelf/hinge"), ("net2.fre", "net2.free")]
)
def test_info_of_unknown_names_suggests(zoo, name, meant):
    result = zoo("info", name)
    assert result.exit_code == 2
    assert meant in result.stderr
    assert result.stderr.count("\n") == 1
