"""Choices of kernels by measurement: right whatever is chosen, and remembered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from graphs import graph_of, randomise
from torch import Tensor, nn

import zoo
from zoo.compiler import Network, rewrite
from zoo.compiler.choices import Always, Choice, Measured
from zoo.compiler.optimize import difference
from zoo.ops import onednn
from zoo.ops.reference import ACTIVATIONS

timm = pytest.importorskip("timm")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZOO_CACHE_DIR", str(tmp_path))
    return tmp_path / "choices"


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("choice", get_args(Choice))
def test_every_choice_gives_the_same(choice: Choice, name: str, residual: bool) -> None:
    first, conv = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3, padding=1, groups=2)

    def function(m: Any, x: Tensor) -> Tensor:
        y = m.conv(m.first(x))
        return ACTIVATIONS[name](y + x if residual else y).flatten(1)

    x = torch.randn(1, 8, 9, 7)  # no parts, the first of which ends in memory of the plan's
    captured = graph_of(function, x, first=first, conv=conv)
    rewrite(captured.graph_module)
    network = Network(captured, choices=Always(choice))
    with torch.no_grad():
        expected = conv(first(x))
        expected = expected + x if residual else expected
        expected = ACTIVATIONS[name](expected).flatten(1)
    torch.testing.assert_close(network(x), expected, rtol=1e-4, atol=1e-5)
    fused = not residual or name in ("none", "relu")  # oneDNN adds before no other activation
    expected_calls = 1 + fused if choice == "onednn" and onednn.available() else 0
    assert sum("mkldnn" in kernel for kernel in network.plan([x]).kernels) == expected_calls


@pytest.mark.parametrize("batch", [1, 4])
def test_networks_of_timm(batch: int, cache: Path) -> None:
    x = torch.randn(batch, 3, 96, 96)
    for name in ("resnet18", "mobilenetv3_small_100", "tf_efficientnet_b0", "ghostnet_050"):
        model = randomise(timm.create_model(name))
        fast = zoo.optimize(model, x, tune="measure", keep="zoo")
        assert fast.reason is None
        with torch.no_grad():
            assert difference(fast(x), model(x)) <= 1e-4
        assert len({fast(x).numpy().tobytes() for _ in range(3)}) == 1
    (file,) = cache.iterdir()
    document = json.loads(file.read_text())
    assert set(document["cases"].values()) <= set(get_args(Choice))
    assert document["machine"]["capability"] == zoo.ops.cpu_capability()


def test_what_is_known_is_not_measured_again(cache: Path) -> None:
    model, x = randomise(timm.create_model("resnet18")), torch.randn(1, 3, 64, 64)
    zoo.optimize(model, x, tune="measure", keep="zoo")
    (file,) = cache.iterdir()
    before = file.stat().st_mtime_ns
    zoo.optimize(model, x, tune="measure", keep="zoo")
    assert file.stat().st_mtime_ns == before
    zoo.optimize(model, torch.randn(1, 3, 96, 96), tune="measure", keep="zoo")
    assert file.stat().st_mtime_ns > before


def test_choices_that_were_remembered_are_taken(cache: Path) -> None:
    model, x = randomise(timm.create_model("resnet18")), torch.randn(1, 3, 64, 64)
    zoo.optimize(model, x, tune="measure", keep="zoo")
    (file,) = cache.iterdir()
    document = json.loads(file.read_text())
    document["cases"] = dict.fromkeys(document["cases"], "exact")
    file.write_text(json.dumps(document))
    fast = zoo.optimize(model, x, tune="measure", keep="zoo")
    assert not any("winograd" in kernel for kernel in fast.network.plan([x]).kernels)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"cases": 3}', '{"cases": {"a": "b", "c": []}}'])
def test_a_damaged_file_is_as_good_as_none(text: str, cache: Path) -> None:
    choices = Measured()
    choices.path.parent.mkdir()
    choices.path.write_text(text)
    assert Measured()("anything") == "zoo"
    choices.remember({"this": "exact"})
    assert Measured()("this") == "exact"


def test_a_folder_that_cannot_be_written_to(cache: Path) -> None:
    cache.parent.joinpath("choices").write_text("a file in its place")
    choices = Measured()
    choices.remember({"this": "exact"})
    assert choices("this") == "exact"


def test_other_values_are_refused() -> None:
    with pytest.raises(zoo.UsageError, match="tune is"):
        zoo.optimize(nn.Conv2d(1, 1, 1).eval(), torch.randn(1, 1, 4, 4), tune="fast")  # type: ignore[arg-type]
