"""zoo.optimize as its users see it."""

from __future__ import annotations

import copy
import pickle
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from graphs import Function, randomise
from torch import Tensor, nn
from torch.nn import functional as F

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


def test_a_model_that_changes_its_state_or_inputs_does_not_run() -> None:
    def count(m: Any, x: Tensor) -> Tensor:
        m.calls.add_(1)
        return m.conv(x.relu_())

    model = Function(count, conv=nn.Conv2d(3, 8, 3)).eval()
    model.register_buffer("calls", torch.zeros(()))
    x = torch.randn(1, 3, 8, 8)
    before = x.clone()
    with pytest.warns(UserWarning, match="changes its"):
        zoo.optimize(model, x)
    assert model.calls == 0
    assert torch.equal(x, before)


@pytest.mark.parametrize("data", [False, True])
def test_changes_of_the_models_weights_are_not_seen(data: bool, tmp_path: Path) -> None:
    convs = {"one": nn.Conv2d(3, 32, 3), "up": nn.ConvTranspose2d(32, 3, 2, stride=2)}
    norms = {"bn": nn.BatchNorm2d(3), "group": nn.GroupNorm(1, 3), "fc": nn.Linear(3, 4)}
    model = randomise(
        Function(
            lambda m, x: m.fc(m.group(m.bn(m.up(m.one(x).relu()))).mean((2, 3))),
            **convs,
            **norms,
        )
    )
    x = torch.randn(1, 3, 32, 32)
    fast = zoo.optimize(model, x, keep="zoo")
    before = fast(x)
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point():
            nn.init.uniform_(tensor.data if data else tensor, 1, 2)
    assert torch.equal(fast(x), before)
    with pytest.raises(zoo.UsageError, match="weights of the original have changed"):
        fast(torch.randn(1, 3, 40, 40))
    with pytest.raises(zoo.UsageError, match="optimize it again"):
        fast.save(tmp_path / "changed.zoo")
    assert torch.equal(fast(x), before)


def test_weights_with_a_batch_norm_are_not_there_twice() -> None:
    """But packed, and as the model's own."""
    model = randomise(timm.create_model("resnet18"))
    fast = zoo.optimize(model, torch.randn(1, 3, 64, 64), keep="zoo")
    own = {tensor.data_ptr() for tensor in model.state_dict().values()}
    others = {
        tensor.data_ptr(): tensor.nbytes
        for captured in fast.network.captured
        for tensor in captured.graph_module.buffers()
        if tensor.data_ptr() not in own
    }
    kept = sum(tensor.nbytes for tensor in model.state_dict().values())
    assert 0 < sum(others.values()) < kept / 100


@pytest.mark.parametrize("apart", [1, 2])
def test_a_weight_with_a_batch_norm_that_pytorchs_kernel_takes(apart: int) -> None:
    """As those of empty batches: it is multiplied for the plan, and gone with it."""

    def run(self: nn.Module, x: Tensor) -> Tensor:
        return self.bn(F.linear(x, self.weight)).relu()

    model = randomise(Function(run, bn=nn.BatchNorm1d(6)))
    model.weight = nn.Parameter(torch.randn(6, 8 * apart)[:, ::apart])
    fast = zoo.optimize(model, torch.randn(4, 8), keep="zoo")
    packed = None
    with torch.no_grad():
        for batch in (3, 0):
            for gap in range(3):  # other strides, another plan
                x = torch.randn(batch, 8 + gap)[:, :8]
                torch.testing.assert_close(fast(x), model(x), rtol=1e-5, atol=1e-5)
            packed = packed or fast.network.weights.bytes
    assert fast.network.weights.bytes == packed


def test_a_weight_as_it_is_and_transposed() -> None:
    def tied(m: Any, x: Tensor) -> Tensor:
        y = F.conv2d(m.conv(x), m.conv.weight.transpose(0, 1))
        return F.linear(m.fc(y.mean((2, 3))), m.fc.weight.t())

    model = Function(tied, conv=nn.Conv2d(8, 8, 3), fc=nn.Linear(8, 8)).eval()
    x = torch.randn(2, 8, 12, 12)
    fast = zoo.optimize(model, x, keep="zoo")
    assert fast.reason is None
    with torch.no_grad():
        assert close(fast(x), model(x))


@pytest.mark.parametrize(
    "use",
    [
        lambda y, x: y.sum((2, 3)) / (x.shape[2] * x.shape[3]),
        lambda y, x: y / x.shape[0],
        lambda y, x: y + torch.arange(x.shape[3]) / 10,
        lambda y, x: y - x.shape[0] * torch.ones(x.shape[3]),
        lambda y, x: (torch.arange(x.shape[3]) - 1) * y,
        lambda y, x: x.shape[2] // 2 + y,
    ],
)
def test_sizes_as_numbers(use: Any) -> None:
    model = Function(lambda m, x: use(m.conv(x), x), conv=nn.Conv2d(3, 8, 3, padding=1)).eval()
    fast = zoo.optimize(model, torch.randn(2, 3, 16, 16), keep="zoo")
    assert fast.reason is None
    for shape in ((2, 3, 16, 16), (4, 3, 16, 16), (1, 3, 24, 20)):
        x = torch.randn(shape)
        with torch.no_grad():
            assert close(fast(x), model(x))


def test_whole_numbers_beside_maps_are_left_to_no_kernel_of_pytorchs() -> None:
    model = Function(lambda m, x: F.max_pool2d(x, 2) * x.shape[0] + x.shape[3]).eval()
    x = torch.randn(2, 8, 16, 16)
    fast = zoo.optimize(model, x, keep="zoo")
    assert not [kernel for kernel in fast.network.plan([x]).kernels if "aten" in kernel]
    assert close(fast(x), model(x))


@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize("squeeze", [lambda y: y.squeeze(), lambda y: y.squeeze(0)])
def test_squeezing_an_open_size(squeeze: Any, batch: int) -> None:
    model = Function(lambda m, x: squeeze(m.fc(x.mean((2, 3)))), fc=nn.Linear(8, 4)).eval()
    fast = zoo.optimize(model, torch.randn(batch, 8, 6, 6), keep="zoo")
    assert fast.reason is None
    for other in (1, 2, 8):
        x = torch.randn(other, 8, 6, 6)
        with torch.no_grad():
            assert close(fast(x), model(x))


def test_one_tensor_for_two_inputs() -> None:
    model = Function(lambda m, x, y: m.conv(x) + 2 * y, conv=nn.Conv2d(3, 3, 1)).eval()
    x, y = torch.randn(2, 1, 3, 8, 8)
    fast = zoo.optimize(model, (x, x), keep="zoo")
    assert fast.reason is None
    with torch.no_grad():
        assert close(fast(x, y), model(x, y))


@pytest.mark.parametrize("batch", [1, 2])  # a batch may run in parts, whose results are copied
@pytest.mark.parametrize(
    "again",
    [
        lambda y: y.clone(),
        lambda y: y.to(torch.float32, copy=True),
        lambda y: y.to("cpu", copy=True),
        lambda y: y.to("cpu", copy=True).flatten(1),
        lambda y: y.to(torch.float32, copy=True).chunk(2, 1)[0],
        lambda y: y.clone().unbind(1)[3],
        lambda y: y + 0,
        lambda y: y * 1,
        lambda y: (y / 1).flatten(1),
        lambda y: F.pad(y, (0, 0)).permute(0, 2, 3, 1),
        lambda y: y.relu().clone().clone()[:, 1:],
    ],
)
def test_results_that_eager_keeps_apart(again: Any, batch: int) -> None:
    def run(m: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y = m.conv(x)
        return y, y.relu(), again(y)

    module = Function(run, conv=nn.Conv2d(3, 8, 3)).eval()
    x = torch.randn(batch, 3, 8, 8)
    fast = zoo.optimize(module, x, keep="zoo")
    assert fast.reason is None
    with torch.no_grad():
        expected, got = module(x), fast(x)
        for i in range(3):
            assert close(got[i], expected[i])
            got[i].fill_(3)


@pytest.mark.parametrize("first", [2, 2.5, None, (3, "twice")])
def test_inputs_that_are_no_tensors_may_come_first(first: Any) -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 3)

        def forward(self, factor: Any, image: Tensor, more: int, other: Tensor) -> Tensor:
            scaled = self.conv(image) * more
            return (scaled * factor if isinstance(factor, (int, float)) else scaled) + other

    module = Scaled().eval()
    inputs = (first, torch.randn(2, 3, 8, 8), 3, torch.randn(2, 8, 6, 6))
    fast = zoo.optimize(module, inputs, keep="zoo")
    assert fast.reason is None
    with torch.no_grad():
        assert close(fast(*inputs), module(*inputs))


class Added(nn.Module):
    """Two inputs, either of which a caller may name."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, image: Tensor, other: Tensor) -> Tensor:
        return self.conv(image) + other


@pytest.mark.parametrize("named", [False, True])
def test_inputs_in_their_places_or_by_name(named: bool, tmp_path: Path) -> None:
    module = Added().eval()
    image, other = torch.randn(1, 3, 8, 8), torch.randn(1, 8, 6, 6)
    example = ((image,), {"other": other}) if named else ((image, other), {})
    fast = zoo.optimize(module, *example, keep="zoo")
    fast.save(tmp_path / "added.safetensors")
    with torch.no_grad():
        expected = module(image, other)
        for run in (fast, zoo.load_optimized(tmp_path / "added.safetensors")):
            for result in (
                run(image, other),
                run(image, other=other),
                run(other=other, image=image),
            ):
                torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-5)
            for args, kwargs in (
                ((image, other), {"image": image}),
                ((image,), {"another": other}),
                ((image, other, other), {}),
            ):
                with pytest.raises(TypeError, match="structured differently"):
                    run(*args, **kwargs)
    assert fast.report(other=other, image=image).layers


def test_inputs_that_are_the_negative_of_what_lies_in_memory() -> None:
    model = nn.Conv2d(3, 8, 3).eval()
    x = torch.randn(1, 3, 8, 8, dtype=torch.complex64).conj().imag
    assert x.is_neg()
    fast = zoo.optimize(model, x, keep="zoo")
    with torch.no_grad():
        assert close(fast(x), model(x))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "high"}, "precision is 'default' or 'exact', not 'high'"),
        ({"keep": "slower"}, "keep is 'faster' or 'zoo', not 'slower'"),
        ({"tune": True}, "tune is None or 'measure', not True"),
        ({"backend": None}, "backend is a name"),
    ],
)
def test_values_that_options_do_not_have(options: dict[str, Any], message: str) -> None:
    with pytest.raises(zoo.UsageError, match=message):
        zoo.optimize(nn.Conv2d(3, 8, 3).eval(), torch.randn(1, 3, 8, 8), **options)


def test_what_is_no_module_for_the_cpu() -> None:
    x = torch.randn(1, 3, 8, 8)
    fast = zoo.optimize(nn.Conv2d(3, 8, 3).eval(), x, keep="zoo")
    for module, message in (
        (torch.relu, "takes an nn.Module, not a builtin_function_or_method"),
        (fast, "optimized already"),
        (nn.Conv2d(3, 8, 3, device="meta").eval(), "weight is on meta"),
    ):
        with pytest.raises(zoo.UsageError, match=message):
            zoo.optimize(module, x)


def test_pytorchs_account_of_a_failed_trace_is_not_printed(
    capfd: pytest.CaptureFixture[str],
) -> None:
    model = Function(lambda m, x: m.conv(x) if x.sum() > 0 else x, conv=nn.Conv2d(3, 3, 1)).eval()
    with pytest.warns(UserWarning, match="data-dependent"):
        zoo.optimize(model, torch.randn(1, 3, 4, 4))
    fixed = Function(lambda m, x: m.fc(x.flatten(1)), fc=nn.Linear(48, 2)).eval()
    fast = zoo.optimize(fixed, torch.randn(1, 3, 4, 4), keep="zoo")
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        fast(torch.randn(1, 3, 5, 5))
    assert capfd.readouterr() == ("", "")


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
