"""Backends: zoo's and PyTorch's, and those that a plugin brings."""

from __future__ import annotations

import copy
import logging
import os
import re
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from graphs import randomise
from torch import Tensor, nn
from torch._inductor.runtime.cache_dir_utils import cache_dir

import zoo
from zoo import backends
from zoo.backends import prepared
from zoo.backends.pytorch import _faster, compiled
from zoo.compiler import PlanError
from zoo.compiler.optimize import difference
from zoo.registry import load_target


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The plugin file of these tests, and the core's own plugins alone."""
    monkeypatch.setenv("ZOO_EXTRA_PLUGINS", str(Path(__file__).with_name("engines.py")))
    monkeypatch.setenv("ZOO_NO_PLUGINS", "1")
    monkeypatch.setattr("zoo.registry._registry", None)
    zoo.list_backends()
    module = load_target("engines:prepared")
    module.clear()
    return module


def network() -> nn.Module:
    return randomise(
        nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
    )


class Nested(nn.Module):
    """Inputs by name, and outputs in a structure."""

    def forward(self, x: Tensor, scale: Tensor) -> dict[str, Any]:
        return {"a": [x.relu() * scale], "b": x.sum()}


class Projected(nn.Module):
    """A convolution, and an input that is no image."""

    def __init__(self) -> None:
        super().__init__()
        self.body = network()

    def forward(self, x: Tensor, weight: Tensor) -> Tensor:
        return self.body(x) @ weight


def images(batch: int = 1, side: int = 16) -> Tensor:
    return torch.randn(batch, 3, side, side)


def close(got: Any, expected: Any) -> bool:
    return difference(got, expected) <= 1e-4


def test_a_plugins_backend_runs_the_network(engines: Any) -> None:
    model, x = network(), images()
    fast = zoo.optimize(model, x, backend="slow")
    assert (fast.backend, fast.reason, fast.tried) == ("slow", None, {})
    with torch.no_grad():
        assert torch.equal(fast(x), model(x))
        assert torch.equal(copy.deepcopy(fast)(x), model(x))
    with pytest.raises(PlanError, match="backend 'slow' runs it"):
        fast.report(x)


def test_other_sizes_are_prepared_anew_and_kept(
    engines: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepared, "MOST", 2)
    model = network()
    fast = zoo.optimize(model, images(), backend="engines/picky")
    for batch, side in ((1, 16), (2, 16), (1, 16), (2, 12), (2, 16)):
        x = images(batch, side)
        with torch.no_grad():
            assert torch.equal(fast(x), model(x))
    # The third size pushed out the one that was not used longest.
    assert engines == [(1, 3, 16, 16), (2, 3, 16, 16), (2, 3, 12, 12), (2, 3, 16, 16)]


def test_sizes_that_the_backend_does_not_take_run_as_they_are(engines: Any) -> None:
    model = network()
    fast = zoo.optimize(model, images(), backend="picky")
    x = images(3)
    with torch.no_grad():
        assert torch.equal(fast(x), model(x))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("wrong", r"the outputs differ by 1\.0e-03 of their maximum"),
        ("unwilling", "it does not want to"),
        ("fails", "backend 'fails' failed: out of order"),
        ("broken", "backend 'broken' cannot prepare it: it fell apart in many pieces"),
    ],
)
def test_a_backend_that_does_not_serve(engines: Any, name: str, reason: str) -> None:
    model, x = network(), images()
    with pytest.warns(UserWarning, match=reason):
        plain = zoo.optimize(model, x, backend=name)
    assert plain.network is None
    assert plain.backend == name
    assert list(plain.tried) == [name]
    with torch.no_grad():
        assert torch.equal(plain(x), model(x))


def test_zoos_own_needs_no_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_PLUGINS", "")
    monkeypatch.setattr("zoo.registry._registry", None)
    assert zoo.list_backends() == []
    assert zoo.optimize(network(), images(), keep="zoo").reason is None
    with pytest.warns(UserWarning, match="no backend is installed"):
        assert zoo.optimize(network(), images(), backend="auto").network is None


def test_what_is_not_there(engines: Any) -> None:
    with pytest.raises(zoo.UsageError, match="'absent' needs no_such_engine"):
        zoo.optimize(network(), images(), backend="absent")
    with pytest.raises(zoo.UnknownName, match="did you mean engines/slow"):
        zoo.optimize(network(), images(), backend="slwo")


def test_auto_takes_the_fastest_that_is_right(
    engines: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    usable = backends.usable()
    assert {"zoo", "eager", "inductor", "aotinductor", "slow"} <= set(usable)
    assert "absent" not in usable
    monkeypatch.setattr(
        backends, "usable", lambda: {k: v for k, v in usable.items() if k != "inductor"}
    )
    model, x = network(), images()
    with caplog.at_level(logging.INFO, "zoo"):
        fast = zoo.optimize(model, x, backend="auto")
    times = {name: value for name, value in fast.tried.items() if isinstance(value, float)}
    assert set(times) == {"zoo", "eager", "slow", "picky"}
    assert fast.backend == min(times, key=times.__getitem__)
    assert times["slow"] > 0.01
    assert set(fast.tried) - set(times) == {"wrong", "unwilling", "fails", "broken"}
    assert "unwilling: it does not want to" in caplog.text
    with torch.no_grad():
        assert close(fast(x), model(x))


NEEDS_COMPILER = pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
COMPILED = [pytest.param(name, marks=NEEDS_COMPILER) for name in ("inductor", "aotinductor")]


@pytest.mark.parametrize("name", ["zoo", "eager", *COMPILED])
def test_the_cores_own(name: str) -> None:
    model = Nested().eval()
    x, scale = images(2), torch.tensor(2.0)
    run = prepared.Prepared(backends.find(name), model, (x,), {"scale": scale})
    for each in (x, images(3, 8)):
        assert close(run(each, scale=scale), model(each, scale=scale))


def test_the_backend_of_the_documentation(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "plugins.md").read_text()
    block = re.search(
        r"`zoo_acme/export.py` is all there is:\n\n```python\n(.*?)```", page, re.DOTALL
    )
    assert block
    (tmp_path / "export_of_the_page.py").write_text(block[1])
    monkeypatch.syspath_prepend(tmp_path)
    spec = zoo.Backend("export", "export_of_the_page:prepare")
    model, x = network(), images()
    run = prepared.Prepared(spec, model, (x,), {})
    with torch.no_grad():
        assert close(run(x), model(x))
        assert run(images(3)).shape == (3, 8)


@NEEDS_COMPILER
def test_inductor() -> None:
    model, x = network(), images()
    fast = zoo.optimize(model, x, backend="inductor")
    assert fast.reason is None
    with torch.no_grad():
        assert close(fast(x), model(x))


def test_the_quicker_of_two_ways() -> None:
    def quick() -> None:
        pass

    def slow() -> None:
        time.sleep(0.002)

    assert _faster(slow, quick, (), {}) is quick
    assert _faster(quick, slow, (), {}) is quick


@NEEDS_COMPILER
def test_inductor_freezes() -> None:
    """More networks of one class than dynamo compiles by default; each has its own weights."""
    x = images()
    for _ in range(9):
        model = network()
        fast = compiled(model, True, (x,), {})
        with torch.no_grad(), torch.profiler.profile() as profile:
            assert close(fast(x), model(x))
        # What oneDNN runs on packed weights, with the BatchNorm folded: they are frozen.
        assert "mkldnn::_convolution_pointwise" in {each.key for each in profile.key_averages()}


@NEEDS_COMPILER
def test_aotinductor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its code takes layouts for granted; its libraries, which hold the weights, do not pile up."""

    def libraries() -> set[Path]:
        return {*tmp_path.rglob("*.so"), *Path(cache_dir()).rglob("*wrapper.so")}

    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    before = libraries()
    model = Projected().eval()
    x, weight = images(2), torch.randn(16, 8).t()
    fast = zoo.optimize(model, (x, weight), backend="aotinductor")
    assert fast.reason is None
    assert libraries() == before
    assert os.environ["TMPDIR"] == str(tmp_path)
    with torch.no_grad():
        for one in (x, x.to(memory_format=torch.channels_last), x.transpose(2, 3)):
            for other in (weight, weight.contiguous()):
                assert close(fast(one, other), model(one, other))


@pytest.mark.parametrize("name", ["inductor", "aotinductor"])
def test_without_a_compiler(name: str) -> None:
    backend = backends.find(name)
    with (
        torch._inductor.config.patch({"cpp.cxx": ("/no/such/compiler",)}),
        pytest.raises(zoo.ZooError, match="compiler: install g"),
    ):
        backends.prepare(backend, network(), (images(),), {})
