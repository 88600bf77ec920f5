"""zoo.optimize as its users see it."""

from __future__ import annotations

import copy
import pickle
import time
from typing import Any

import pytest
import torch
from graphs import Function, randomise
from torch import Tensor, nn

import zoo
from zoo.compiler import OptimizedModule
from zoo.compiler.optimize import _slower, difference

timm = pytest.importorskip("timm")


def close(got: Any, expected: Any) -> bool:
    return difference(got, expected) <= 1e-4


@pytest.mark.parametrize(
    "name",
    [
        "resnet18",
        "mobilenetv3_small_100",
        "efficientnet_lite0",
        "regnety_002",
        "convnext_atto",
        "repvgg_a0",
        "vit_tiny_patch16_224",
        "edgenext_xx_small",
    ],
)
def test_networks_of_timm(name: str) -> None:
    model = randomise(timm.create_model(name))
    size = 224 if name.startswith("vit") else 64
    x = torch.randn(1, 3, size, size)
    fast = zoo.optimize(model, x, keep="zoo")
    assert fast.reason is None
    for batch in (torch.randn(1, 3, size, size), torch.randn(3, 3, size, size)):
        with torch.no_grad():
            assert close(fast(batch), model(batch))
    assert fast.num_classes == 1000
    assert fast.pretrained_cfg == model.pretrained_cfg


def test_features_and_no_classifier() -> None:
    x = torch.randn(2, 3, 64, 64)
    for options in ({"features_only": True}, {"num_classes": 0}, {"num_classes": 10}):
        model = randomise(timm.create_model("resnet18", **options))
        fast = zoo.optimize(model, x, keep="zoo")
        with torch.inference_mode():
            assert close(fast(x), model(x))


def test_exact_avoids_winograd() -> None:
    model = randomise(timm.create_model("resnet18"))
    x = torch.randn(1, 3, 64, 64)
    for precision, used in (("default", True), ("exact", False)):
        fast = zoo.optimize(model, x, precision=precision, keep="zoo")  # type: ignore[arg-type]
        kernels = fast.network.plan([x]).kernels
        assert any("winograd" in kernel for kernel in kernels) is used


def test_the_model_is_left_alone() -> None:
    model = randomise(timm.create_model("resnet18", num_classes=4))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fast = zoo.optimize(model, torch.randn(1, 3, 32, 32), keep="zoo")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())
    model.train()
    assert not fast.training


def test_the_same_bits_every_time() -> None:
    model = randomise(timm.create_model("resnet18", num_classes=4))
    x = torch.randn(2, 3, 64, 64)
    fast = zoo.optimize(model, x, keep="zoo")
    assert len({fast(x).numpy().tobytes() for _ in range(5)}) == 1


def test_a_module_of_ones_own_needs_an_example() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()).eval()
    with pytest.raises(zoo.UsageError, match="give an example"):
        zoo.optimize(model)
    with pytest.raises(zoo.UsageError, match=r"call \.eval\(\)"):
        zoo.optimize(model.train(), torch.randn(1, 3, 8, 8))


def test_what_cannot_be_captured_runs_as_it_is() -> None:
    def branches(m: Any, x: Tensor) -> Tensor:
        return m.conv(x) if float(x.sum()) > 0 else x

    model = Function(branches, conv=nn.Conv2d(3, 3, 1)).eval()
    x = torch.rand(1, 3, 4, 4)
    with pytest.warns(UserWarning, match="it runs as it is"):
        fast = zoo.optimize(model, x)
    assert fast.reason is not None
    assert "\n" not in fast.reason
    assert torch.equal(fast(-x), -x)
    with torch.no_grad():
        assert torch.equal(fast(x), model(x))


def test_the_faster_is_kept() -> None:
    model, x = nn.Conv2d(3, 8, 3).eval(), torch.randn(1, 3, 8, 8)

    def slow(*inputs: Any) -> Tensor:
        time.sleep(0.02)
        return model(*inputs)

    reason = _slower(slow, model, (x,), {})
    assert reason is not None
    assert reason.startswith("PyTorch takes")
    assert _slower(model, Function(lambda m, *inputs: slow(*inputs)).eval(), (x,), {}) is None


def test_a_model_says_what_its_inputs_are() -> None:
    model = timm.create_model("mobilenetv3_small_050").eval()
    fast = zoo.optimize(model, keep="zoo")
    x = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        assert close(fast(x), model(x))


def test_padding_as_in_tensorflow() -> None:
    model = randomise(timm.create_model("tf_mobilenetv3_small_minimal_100", num_classes=3))
    x = torch.randn(2, 3, 65, 48)
    fast = zoo.optimize(model, x, keep="zoo")
    steps = fast.network.plan([x]).steps
    assert not [step.op for step in steps if "pad" in step.op]
    for size in ((65, 48), (64, 50)):
        x = torch.randn(1, 3, *size)
        with torch.no_grad():
            assert close(fast(x), model(x))


def test_sizes_that_the_graph_does_not_take() -> None:
    model = Function(lambda m, x: x.reshape(1, -1) if x.shape[0] == 1 else x * 2).eval()
    fast = zoo.optimize(model, torch.randn(1, 3, 4, 4), keep="zoo")
    x = torch.randn(5, 3, 4, 4)
    assert torch.equal(fast(x), x * 2)


def test_inference_only() -> None:
    fast = zoo.optimize(nn.Conv2d(3, 8, 3).eval(), torch.randn(1, 3, 8, 8), keep="zoo")
    with pytest.raises(RuntimeError, match="cannot be trained"):
        fast.train()
    assert fast.eval() is fast
    with pytest.raises(RuntimeError, match="for inference only"):
        fast(torch.randn(1, 3, 8, 8, requires_grad=True))
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(fast)
    twin = copy.deepcopy(fast)
    assert isinstance(twin, OptimizedModule)
    x = torch.randn(1, 3, 8, 8)
    assert torch.equal(twin(x), fast(x))
    assert not list(fast.parameters())


def test_report() -> None:
    model = randomise(timm.create_model("resnet18"))
    x = torch.randn(1, 3, 64, 64)
    fast = zoo.optimize(model, x, keep="zoo")
    report = fast.report(x)
    assert [layer.op for layer in report.layers].count("conv2d") == 20
    assert report.layers[-1].shape == (1, 1000)
    assert all(layer.seconds > 0 for layer in report.layers)
    # A convolution's multiply-adds, twice: 64 channels to 64, 3x3, on maps of 16x16.
    assert report.layers[1].flops == 2 * 64 * 64 * 9 * 16 * 16
    assert report.weight_bytes > 40e6
    lines = str(report).splitlines()
    assert len(lines) == len(report.layers) + 2
    assert "steps" in lines[-1]
    assert [each.kernel for each in fast.report().layers] == [each.kernel for each in report.layers]
    fast(torch.randn(2, 3, 64, 64))
    assert fast.report().layers[-1].shape == (2, 1000)
    fast(torch.randn(1, 1, 64, 64).expand(1, 3, 64, 64))
    assert fast.report().layers[-1].shape == (1, 1000)
    slow = OptimizedModule(model, None, "a reason")
    with pytest.raises(zoo.ZooError, match="a reason"):
        slow.report(x)
