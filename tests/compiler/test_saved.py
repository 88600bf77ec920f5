"""What fast.save writes runs elsewhere with the same bits; what is damaged or forged is refused."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from graphs import Function, randomise
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import zoo
from zoo import ops
from zoo.compiler import OptimizedModule, PlanError, SavedModuleError
from zoo.compiler.saved import FORMAT

timm = pytest.importorskip("timm")


def optimized(model: nn.Module, *inputs: Any) -> OptimizedModule:
    fast = zoo.optimize(randomise(model), inputs, keep="zoo")
    assert fast.reason is None
    return fast


def same(one: Any, other: Any) -> bool:
    ours, theirs = pytree.tree_flatten(one), pytree.tree_flatten(other)
    return ours[1] == theirs[1] and all(map(torch.equal, ours[0], theirs[0]))


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A file of a few kilobytes."""
    path = tmp_path / "small.zoo"
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    optimized(model, torch.randn(1, 3, 8, 8)).save(path)
    return path


@pytest.mark.parametrize(
    ("name", "options", "size", "other"),
    [
        ("small_cnn", {}, (32, 32), (32, 32)),
        ("resnet18", {}, (64, 64), (96, 64)),
        ("resnet18", {"num_classes": 0}, (64, 64), (96, 64)),
        ("resnet18", {"features_only": True}, (64, 64), (96, 64)),
        ("mobilenetv3_small_050", {"num_classes": 7}, (64, 64), (65, 96)),
        ("densenet121", {}, (64, 64), (96, 64)),
        ("vit_tiny_patch16_224", {"img_size": 64}, (64, 64), (64, 64)),
        ("tf_mobilenetv3_small_minimal_100", {}, (64, 64), (64, 64)),
    ],
)
def test_round_trip(
    name: str,
    options: dict[str, Any],
    size: tuple[int, int],
    other: tuple[int, int],
    tmp_path: Path,
) -> None:
    create = zoo.create_model if name == "small_cnn" else timm.create_model
    model = create(name, **options)
    fast = optimized(model, torch.randn(1, 3, *size))
    path = tmp_path / "model.zoo"
    fast.save(path)
    loaded = zoo.load_optimized(path)
    for x in (torch.randn(1, 3, *size), torch.randn(3, 3, *other)):
        assert same(loaded(x), fast(x))
    for attribute in ("num_classes", "pretrained_cfg", "num_features"):
        assert getattr(loaded, attribute, None) == getattr(model, attribute, None)
    assert loaded.reason is None
    assert path.stat().st_mode & 0o777 == 0o666 & ~_umask()
    assert [child.name for child in tmp_path.iterdir()] == ["model.zoo"]


def test_a_loaded_network_has_the_same_kernels(tmp_path: Path) -> None:
    fast = optimized(timm.create_model("mobilenetv3_small_050"), torch.randn(1, 3, 64, 64))
    fast.save(tmp_path / "model.zoo")
    loaded = zoo.load_optimized(tmp_path / "model.zoo")
    with pytest.raises(zoo.ZooError, match="nothing was run yet: give inputs, or call the module"):
        loaded.report()
    x = torch.randn(1, 3, 64, 64)
    kernels = [layer.kernel for layer in fast.report(x).layers]
    assert [layer.kernel for layer in loaded.report(x).layers] == kernels
    assert any(kernel.endswith(" scaled") for kernel in kernels)  # behind a squeeze-excite gate


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_every_graph_is_kept_and_equal_tensors_are_there_once(tmp_path: Path) -> None:
    def by_height(m: Any, x: Tensor) -> Tensor:
        return m.conv(x).relu() if x.shape[2] > 10 else m.conv(x).mean((2, 3))

    fast = optimized(Function(by_height, conv=nn.Conv2d(3, 16, 3)), torch.randn(1, 3, 8, 8))
    images = [torch.randn(2, 3, 8, 8), torch.randn(1, 3, 20, 9)]
    expected = [fast(x) for x in images]
    fast.save(tmp_path / "two")
    with safe_open(tmp_path / "two", "pt") as file:
        assert len(list(file.keys())) == 2
    loaded = zoo.load_optimized(tmp_path / "two")
    assert all(same(loaded(x), wanted) for x, wanted in zip(images, expected, strict=True))
    loaded.save(tmp_path / "again")
    again = zoo.load_optimized(tmp_path / "again")
    assert all(same(again(x), wanted) for x, wanted in zip(images, expected, strict=True))


def test_structures_of_inputs_and_outputs(tmp_path: Path) -> None:
    def function(m: Any, x: Tensor, pair: tuple[Tensor, dict[str, Tensor]], scale: float) -> Any:
        y, more = pair
        return {"sum": [x + y, (more["z"] * scale,)], "cut": x.clamp(-float("inf"), 0.5)}

    inputs = (torch.randn(2, 3), (torch.randn(2, 3), {"z": torch.randn(4)}), 2.0)
    fast = optimized(Function(function), *inputs)
    fast.save(tmp_path / "file")
    loaded = zoo.load_optimized(tmp_path / "file")
    assert same(loaded(*inputs), fast(*inputs))
    with pytest.raises(PlanError, match="optimize the model with such an example"):
        loaded(*inputs[:2], 3.0)
    with pytest.raises(TypeError, match="structured differently"):
        loaded(inputs[0])


def test_tensors_that_share_memory(tmp_path: Path) -> None:
    both = torch.randn(6, 5)

    def function(m: Any, x: Tensor) -> Tensor:
        return x @ both[:, :3] + (x * both[:, 0]) @ both.t().contiguous().t()[:, 1:4]

    fast = optimized(Function(function), torch.randn(2, 6))
    fast.save(tmp_path / "file")
    x = torch.randn(2, 6)
    assert same(zoo.load_optimized(tmp_path / "file")(x), fast(x))


def test_sizes_that_the_file_does_not_take(small: Path) -> None:
    loaded = zoo.load_optimized(small)
    with pytest.raises(PlanError, match=r"of \[1, 4, 8, 8\], but of \[\?, 3, \?, \?\]"):
        loaded(torch.randn(1, 4, 8, 8))
    with pytest.raises(PlanError):
        loaded(torch.randn(1, 3, 8, 8).double())
    assert loaded(torch.randn(2, 3, 9, 12)).shape == (2, 4)


def test_a_loaded_module_is_an_optimized_one(tmp_path: Path) -> None:
    model = timm.create_model("resnet18", num_classes=5)
    optimized(model, torch.randn(1, 3, 32, 32)).save(tmp_path / "file")
    loaded = zoo.load_optimized(str(tmp_path / "file"))
    x = torch.randn(1, 3, 32, 32)
    twin = copy.deepcopy(loaded)
    assert same(twin(x), loaded(x))
    assert twin.num_classes == 5
    assert loaded.report(x).layers[-1].op == "linear"
    with pytest.raises(RuntimeError, match="for inference only"):
        loaded(torch.randn(1, 3, 32, 32, requires_grad=True))


RUN = """
import sys
import torch
import zoo
from zoo import ops

path, inputs, outputs = sys.argv[1:]
torch.save(zoo.load_optimized(path)(torch.load(inputs)), outputs)
print(ops.cpu_capability())
"""


@pytest.mark.parametrize("name", ops.cpu_capabilities())
def test_another_process_with_another_instruction_set(name: str, tmp_path: Path) -> None:
    model = timm.create_model("mobilenetv3_small_050", num_classes=3)
    fast = optimized(model, torch.randn(1, 3, 64, 64))
    path, inputs, outputs = (tmp_path / file for file in ("model", "inputs", "outputs"))
    fast.save(path)
    x = torch.randn(2, 3, 64, 64)
    torch.save(x, inputs)
    result = subprocess.run(
        [sys.executable, "-c", RUN, *map(str, (path, inputs, outputs))],
        env={**os.environ, "ZOO_CPU_CAPABILITY": name},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == [name]
    torch.testing.assert_close(torch.load(outputs), fast(x), rtol=1e-4, atol=1e-5)


def test_an_instruction_set_that_there_is_not(small: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", f"import zoo; zoo.load_optimized({str(small)!r})"],
        env={**os.environ, "ZOO_CPU_CAPABILITY": "mmx"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert "UsageError: ZOO_CPU_CAPABILITY" in result.stderr.splitlines()[-1]


def test_inputs_of_another_kind(small: Path) -> None:
    with pytest.raises(PlanError, match=r"of \[1, 3, 8, 8\] float64, but of \[\?, 3, \?, \?\];"):
        zoo.load_optimized(small)(torch.ones(1, 3, 8, 8, dtype=torch.float64))


def test_nothing_is_overwritten_unasked(small: Path) -> None:
    loaded = zoo.load_optimized(small)
    with pytest.raises(zoo.UsageError, match="exists: choose another name, or give overwrite=True"):
        loaded.save(small)
    loaded.save(small, overwrite=True)
    assert same(zoo.load_optimized(small)(torch.ones(1, 3, 8, 8)), loaded(torch.ones(1, 3, 8, 8)))
    with pytest.raises(SavedModuleError, match="No such file or directory"):
        loaded.save(small.parent / "none" / "file")


def test_what_cannot_be_saved(tmp_path: Path) -> None:
    slow = OptimizedModule(nn.Identity(), None, "a reason")
    with pytest.raises(SavedModuleError, match=r"no plan to save \(a reason\); save the original"):
        slow.save(tmp_path / "file")
    fast = optimized(Function(lambda m, x: torch.special.i0e(x)), torch.randn(2, 3))
    with pytest.raises(SavedModuleError, match="cannot be saved: 'aten::special_i0e' is no op"):
        fast.save(tmp_path / "file")
    fast = optimized(Function(lambda m, x: torch.max(x, 1)), torch.randn(2, 3))
    with pytest.raises(SavedModuleError, match="returns more than tuples, lists and dicts"):
        fast.save(tmp_path / "file")
    assert not list(tmp_path.iterdir())


def refused(path: Path, match: str) -> None:
    with pytest.raises(SavedModuleError, match=match) as caught:
        zoo.load_optimized(path)
    assert "\n" not in str(caught.value)


def test_files_of_another_kind(tmp_path: Path) -> None:
    refused(tmp_path / "none", "there is no file")
    refused(tmp_path, "there is no file")
    for content in (b"", b"\0" * 100, b'{"a": 1}', os.urandom(1000)):
        (tmp_path / "file").write_bytes(content)
        refused(tmp_path / "file", "is damaged")
    save_file({"a": torch.ones(2)}, tmp_path / "weights")
    refused(tmp_path / "weights", r"holds no optimized network: write one by zoo\.optimize")


def test_truncated(small: Path) -> None:
    content = small.read_bytes()
    for length in (4, 8, 50, len(content) // 2, len(content) - 1):
        small.write_bytes(content[:length])
        refused(small, "is damaged")
    small.write_bytes(content + b"\0")
    refused(small, "is damaged")


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_byte_changed(small: Path, data: st.DataObject) -> None:
    content = small.read_bytes()
    x = torch.ones(1, 3, 8, 8)
    expected = zoo.load_optimized(small)(x)
    place = data.draw(st.integers(0, len(content) - 1))
    byte = data.draw(st.integers(0, 255))
    damaged = small.with_name("damaged")
    damaged.write_bytes(content[:place] + bytes([byte]) + content[place + 1 :])
    with contextlib.suppress(SavedModuleError):
        assert same(zoo.load_optimized(damaged)(x), expected)


def forge(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the description in a file, with a hash that fits."""
    with safe_open(path, "pt") as file:
        document = json.loads(file.metadata()["zoo"])
        tensors = {name: file.get_tensor(name).clone() for name in list(file.keys())}
    change(document)
    text = json.dumps(document)
    save_file(tensors, path, {"zoo": text, "sha256": hashlib.sha256(text.encode()).hexdigest()})


def call(document: dict[str, Any]) -> dict[str, Any]:
    """The first call in the graph: a convolution."""
    nodes = document["captured"][0]["nodes"]
    return next(node for node in nodes if node.get("op") == "call_function")


@pytest.mark.parametrize(
    "name",
    [
        "aten::from_file",
        "aten::save",
        "aten::relu_",
        "aten::relu.out",
        "aten::set_.source_Storage",
        "aten::__class__",
        "zoo::conv2d_packed",
        "prim::Print",
        "posix.system",
        "operator.attrgetter",
        "torch.load",
        "aten::relu.default.x",
        "",
    ],
)
def test_ops_that_a_file_may_not_call(name: str, small: Path) -> None:
    forge(small, lambda document: call(document).update(target=name, args=["/etc/passwd"]))
    refused(small, "no op that a saved network may call.* written by zoo .* save the model again")


def test_other_versions(small: Path) -> None:
    forge(small, lambda document: document.update(format=FORMAT + 1, zoo="99.0"))
    refused(small, f"written by zoo 99.0 in format {FORMAT + 1}.* install that version")


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(captured=[]),
        lambda d: d.update(precision="half"),
        lambda d: d.pop("attributes"),
        lambda d: d["captured"][0]["nodes"].pop(),
        lambda d: d["captured"][0]["nodes"].pop(0),
        lambda d: d["captured"][0]["inputs"].clear(),
        lambda d: d["captured"][0]["guards"].append(["system", "ls"]),
        lambda d: d["captured"][0].update(arguments=[0]),
        lambda d: call(d).update(op="call_module"),
        lambda d: call(d)["args"].append({"node": "later"}),
        lambda d: call(d)["args"].append({"device": "cuda"}),
        lambda d: call(d)["args"].append({"import": "os"}),
        lambda d: call(d).update(args={"a": {"b": 1}}),
        lambda d: call(d).update(
            target="aten::batch_norm", args=[{"node": "p_0_weight"}] * 5 + [1]
        ),
    ],
)
def test_graphs_that_are_not_well_formed(change: Callable[[Any], Any], small: Path) -> None:
    forge(small, change)
    refused(small, "cannot be used here")


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["captured"][0]["inputs"][0].update(sizes=["n", 64, "h", "w"]),
        lambda d: d["captured"][0]["inputs"][0].update(sizes=[1, 3, 1, 1]),
        lambda d: call(d)["kwargs"].update(stride=None),
        lambda d: call(d)["kwargs"].update(stride=[0, 0]),
        lambda d: call(d)["kwargs"].update(padding=[-4, 1]),
        lambda d: call(d)["kwargs"].update(groups=2),
        lambda d: call(d)["kwargs"].update(unheard_of=2),
        lambda d: call(d).update(target="aten::as_strided"),
        lambda d: call(d).update(
            target="aten::unfold",
            kwargs={},
            args=[{"node": call(d)["kwargs"]["input"]["node"]}, 1, 100, 1],
        ),
        lambda d: call(d).update(target="operator.add", kwargs={}),
    ],
)
def test_calls_that_do_not_fit_never_reach_the_kernels(
    change: Callable[[Any], Any], small: Path
) -> None:
    forge(small, change)
    shapes = ((1, 64, 8, 8), (1, 3, 1, 1), (1, 3, 8, 8))
    for shape in shapes:
        with pytest.raises((PlanError, SavedModuleError)):
            zoo.load_optimized(small)(torch.ones(shape))


def test_importing_zoo_imports_no_torch() -> None:
    run = "import sys, zoo; assert 'load_optimized' in dir(zoo); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", run], check=True, timeout=120)
