"""FusedConv2d against the modules that it stands for."""

from __future__ import annotations

import copy
import io
import itertools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from zoo import ops
from zoo.nn import FusedConv2d
from zoo.ops import reference

POOLS: dict[str | None, nn.Module] = {
    None: nn.Identity(),
    "max2": nn.MaxPool2d(2),
    "avg2": nn.AvgPool2d(2),
    "max3s2": nn.MaxPool2d(3, 2, 1),
}


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def make(
    bn: bool = True,
    activation: Any = "relu",
    pool: Any = None,
    out: int = 6,
    **kwargs: Any,
) -> FusedConv2d:
    conv = nn.Conv2d(4, out, kwargs.pop("kernel_size", 3), **kwargs)
    norm = nn.BatchNorm2d(out) if bn else None
    if norm is not None:
        for tensor in (norm.weight, norm.bias, norm.running_mean):
            nn.init.normal_(tensor)  # type: ignore[arg-type]
        nn.init.uniform_(norm.running_var, 0.5, 2)  # type: ignore[arg-type]
    return FusedConv2d(conv, norm, activation, pool)


def plain(module: FusedConv2d, x: torch.Tensor, residual: torch.Tensor | None = None) -> Any:
    """What the module stands for, by PyTorch's own."""
    y = module.conv(x)
    if module.bn is not None:
        y = module.bn(y)
    if residual is not None:
        y = y + residual
    return POOLS[module.pool](reference.ACTIVATIONS[module.activation](y))


def close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


X = torch.randn(2, 4, 12, 12)


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("activation", ops.ACTIVATIONS)
@pytest.mark.parametrize("bn", [False, True])
def test_train_and_eval_equal_the_plain_modules(
    bn: bool, activation: str, pool: str | None
) -> None:
    module = make(bn, activation, pool, padding=1)
    other = copy.deepcopy(module)
    for mode in (True, False):
        module.train(mode)
        other.train(mode)
        results = []
        for run in (module, lambda x: plain(other, x)):
            x = X.clone().requires_grad_()
            y = run(x)
            (y * torch.linspace(-1, 1, y.numel()).reshape(y.shape)).sum().backward()
            results.append((y, x.grad))
        for ours, theirs in zip(*results, strict=True):
            close(ours, theirs)
    for (name, ours), (_, theirs) in zip(
        module.named_parameters(), other.named_parameters(), strict=True
    ):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-4, msg=name)
    for name in ("running_mean", "running_var"):
        if bn:
            close(getattr(module.bn, name), getattr(other.bn, name))
    with torch.no_grad():
        close(module(X), plain(other, X))
    assert module.packed_weight is not None


@pytest.mark.parametrize(
    "options",
    [
        {"stride": 2, "padding": 1},
        {"padding": "same", "kernel_size": 4},
        {"padding": 2, "dilation": 2},
        {"groups": 2},
        {"groups": 4, "out": 4},
        {"bias": False},
        {"padding": 1, "padding_mode": "reflect"},
        {"padding": (1, 2), "padding_mode": "circular"},
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning")
def test_every_kind_of_convolution(options: dict[str, Any]) -> None:
    module = make(**options).eval()
    with torch.no_grad():
        close(module(X), plain(module, X))
    close(module(X), plain(module, X))
    module.train()
    close(module(X), plain(copy.deepcopy(module), X))


def test_named_padding_is_packed() -> None:
    for padding, kernel_size in (("same", (3, 5)), ("valid", 4)):
        module = make(padding=padding, kernel_size=kernel_size).eval()
        with torch.no_grad():
            close(module(X), plain(module, X))
        assert module.packed_weight is not None


def test_batchnorm_variants() -> None:
    for bn in (
        nn.BatchNorm2d(6, affine=False),
        nn.BatchNorm2d(6, track_running_stats=False),
        nn.BatchNorm2d(6, eps=0.1, momentum=None),
    ):
        module = FusedConv2d(nn.Conv2d(4, 6, 3), bn, "silu").eval()
        with torch.no_grad():
            close(module(X), plain(module, X))


def test_frozen_batchnorm_in_train_mode() -> None:
    module = make().train()
    assert module.bn is not None
    module.bn.eval()
    before = module.bn.running_mean.clone()  # type: ignore[union-attr]
    close(module(X), plain(module, X))
    assert torch.equal(module.bn.running_mean, before)  # type: ignore[arg-type]


def test_residual() -> None:
    module = make(padding=1)
    residual = torch.randn(2, 6, 12, 12)
    for mode in (True, False):
        module.train(mode)
        close(module(X, residual), plain(copy.deepcopy(module), X, residual))
    with torch.no_grad():
        close(module(X, residual), plain(module, X, residual))
        close(module(X[0], residual[0]), plain(module, X, residual)[0])
    with pytest.raises(ValueError, match="residual cannot be added where there is a pool"):
        make(pool="max2", padding=1)(X, residual)


@pytest.mark.parametrize("bn", [False, True])
def test_state_dict_has_plain_names_and_nothing_packed(bn: bool) -> None:
    module = make(bn).eval()
    names = {"conv.weight", "conv.bias"}
    if bn:
        names |= {"bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"}
        names |= {"bn.num_batches_tracked"}
    with torch.no_grad():
        module(X)
    assert module.packed_weight is not None
    assert set(module.state_dict()) == names
    assert {name for name, _ in module.named_parameters()} <= names


CHANGES = {
    "load_state_dict": lambda m: m.load_state_dict(make().state_dict()),
    "load_state_dict assign": lambda m: m.load_state_dict(make().state_dict(), assign=True),
    "weight in place": lambda m: m.conv.weight.mul_(2),
    "bias in place": lambda m: m.conv.bias.add_(1),
    "running_mean": lambda m: m.bn.running_mean.add_(1),
    "running_var": lambda m: m.bn.running_var.mul_(3),
    "bn.weight": lambda m: m.bn.weight.neg_(),
    "bn.bias": lambda m: m.bn.bias.add_(1),
    "one element": lambda m: m.conv.weight[0, 0, 1].fill_(9),
    "new parameter": lambda m: setattr(m.conv, "weight", nn.Parameter(m.conv.weight * 2)),
    "new .data": lambda m: setattr(m.conv.weight, "data", m.conv.weight * 2),
    "new bias": lambda m: setattr(m.conv, "bias", None),
    "epsilon": lambda m: setattr(m.bn, "eps", 0.5),
    "stride": lambda m: setattr(m.conv, "stride", (2, 2)),
    "activation": lambda m: setattr(m, "activation", "silu"),
    "new bn": lambda m: setattr(m, "bn", nn.BatchNorm2d(6).eval()),
    "channels_last": lambda m: m.to(memory_format=torch.channels_last),
    "optimizer": lambda m: [
        setattr(m.conv.weight, "grad", torch.ones_like(m.conv.weight)),
        torch.optim.SGD(m.parameters(), lr=0.1).step(),
    ],
    "training step": lambda m: [m.train(), m(X), m.eval()],
    "write through .data": lambda m: [m.conv.weight.data.mul_(2), m.train(), m.eval()],
    "write through .data, repack": lambda m: [m.conv.weight.data.mul_(2), m.repack()],
}


@pytest.mark.parametrize("change", CHANGES)
def test_packed_weight_follows_changes(change: str) -> None:
    module = make().eval()
    with torch.no_grad():
        before = module(X)
        CHANGES[change](module)
        after = module(X)
        close(after, plain(module, X))
        if change not in ("channels_last", "stride"):
            assert not torch.allclose(before, after)
        packed = module.packed_weight
        module(X)
        assert module.packed_weight is packed, "packed again without need"


@settings(max_examples=20, deadline=None)
@given(st.lists(st.sampled_from(sorted(CHANGES)), min_size=1, max_size=5))
def test_packed_weight_follows_any_sequence_of_changes(changes: list[str]) -> None:
    module = make().eval()
    with torch.no_grad():
        for change in changes:
            module(X)
            if "bias" in change and module.conv.bias is None:
                continue
            if "load" in change and module.conv.bias is None:
                continue
            CHANGES[change](module)
            close(module(X), plain(module, X))


def test_dtypes_and_devices() -> None:
    module = make().eval()
    with torch.no_grad():
        module(X)
        module.double()
        result = module(X.double())
        assert result.dtype == torch.float64
        torch.testing.assert_close(result, plain(module, X.double()), rtol=1e-10, atol=1e-10)
        module.float()
        close(module(X), plain(module, X))
        module.to(torch.bfloat16)
        assert module(X.bfloat16()).dtype == torch.bfloat16
        module.to("meta")
        assert module(X.to("meta", torch.bfloat16)).device.type == "meta"


def test_copies_are_independent(tmp_path: Path) -> None:
    module = make().eval()
    with torch.no_grad():
        before = module(X)
        clone = copy.deepcopy(module)
        clone.conv.weight.zero_()
        assert torch.equal(module(X), before)
        close(clone(X), plain(clone, X))
        buffer = io.BytesIO()
        torch.save(module, buffer)
        buffer.seek(0)
        # weights_only=False: the file is this test's own.
        loaded = torch.load(buffer, weights_only=False)
        assert torch.equal(loaded(X), before)


def test_inference_mode() -> None:
    module = make().eval()
    with torch.inference_mode():
        expected = plain(module, X)
        close(module(X), expected)
        assert module.packed_weight is not None
    # What was packed there must serve outside too, and gradients must still be there.
    with torch.no_grad():
        close(module(X), expected.clone())
    module(X).sum().backward()
    assert module.conv.weight.grad is not None


def test_tensors_made_under_inference_mode() -> None:
    with torch.inference_mode():
        module = make().eval()
        close(module(X), plain(module, X))
        module.conv.weight.mul_(2)  # nothing counts this change
        close(module(X), plain(module, X))
    with torch.no_grad():
        close(module(X), plain(module, X))


def test_gradients_in_eval_mode() -> None:
    module = make(pool="max2").eval()
    with torch.no_grad():
        module(X)
    x = X.clone().requires_grad_()
    module(x).sum().backward()
    ours = [x.grad, *(p.grad for p in module.parameters())]
    other = copy.deepcopy(module)
    other.zero_grad()
    x = X.clone().requires_grad_()
    plain(other, x).sum().backward()
    for one, two in zip(ours, [x.grad, *(p.grad for p in other.parameters())], strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-4)
    # Frozen parameters and no input gradient: plain inference again.
    module.requires_grad_(False)
    assert not module(X).requires_grad
    assert module.packed_weight is not None


@pytest.mark.parametrize(
    ("input_last", "weight_last"), list(itertools.product([False, True], repeat=2))
)
def test_memory_format_is_the_same_packed_or_not(input_last: bool, weight_last: bool) -> None:
    x = X.contiguous(memory_format=torch.channels_last) if input_last else X
    for kernel_size in (1, 3):
        module = make(kernel_size=kernel_size).eval()
        if weight_last:
            module.to(memory_format=torch.channels_last)
        unpacked = module(x)
        with torch.no_grad():
            assert module(x).stride() == unpacked.stride() == plain(module, x).stride()


@pytest.mark.parametrize("pool", [None, "max2"])
@pytest.mark.parametrize("train", [False, True])
def test_compile(pool: str | None, train: bool) -> None:
    torch._dynamo.reset()
    module = make(pool=pool).train(train)
    other = copy.deepcopy(module)
    with torch.no_grad():
        module.eval()(X)  # a packed weight is there already
        module.train(train)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            close(compiled(X), plain(other, X))
    with torch.no_grad():
        # The compiled module follows its weights too.
        for m in (module, other):
            m.conv.weight.mul_(2)
        close(compiled(X), plain(other, X))


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_export(tmp_path: Path) -> None:
    module = make(pool="max3s2").eval()
    with torch.no_grad():
        module(X)
        program = torch.export.export(module, (X,))
        torch.export.save(program, tmp_path / "block.pt2")
        loaded = torch.export.load(tmp_path / "block.pt2")
        assert set(loaded.state_dict) == set(module.state_dict())
        close(loaded.module()(X), plain(module, X))


def test_autocast() -> None:
    module = make().eval()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        result = module(X)
    assert result.dtype == torch.bfloat16
    torch.testing.assert_close(result.float(), plain(module, X).detach(), rtol=0.1, atol=0.1)


def test_functional_call_and_vmap_use_the_given_weights() -> None:
    module = make(bn=False).eval()
    with torch.no_grad():
        module(X)
        other = {"conv.weight": module.conv.weight * 3, "conv.bias": module.conv.bias + 1}
        result = torch.func.functional_call(module, other, (X,))
        module.load_state_dict(other)
        close(result, plain(module, X))


def test_parametrization() -> None:
    module = make(bn=False).eval()
    nn.utils.parametrizations.weight_norm(module.conv)
    with torch.no_grad():
        close(module(X), plain(module, X))
        module.conv.parametrizations.weight.original0.mul_(2)
        close(module(X), plain(module, X))


def test_concurrent_first_calls() -> None:
    module = make(out=64).eval()
    with torch.no_grad():
        expected = plain(module, X)

    def work(_: int) -> torch.Tensor:
        with torch.no_grad():
            return module(X)

    for _ in range(5):
        module.repack()
        with ThreadPoolExecutor(4) as pool:
            for result in pool.map(work, range(8)):
                close(result, expected)


def test_sequential_model_with_empty_batch() -> None:
    model = nn.Sequential(make(padding=1, pool="max2"), nn.Flatten(), nn.Linear(6 * 36, 3)).eval()
    with torch.no_grad():
        assert model(X[:0]).shape == (0, 3)


def test_wrong_arguments() -> None:
    conv = nn.Conv2d(4, 6, 3)
    with pytest.raises(TypeError, match=r"conv must be an nn\.Conv2d, not Linear"):
        FusedConv2d(nn.Linear(2, 2))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"bn must be an nn\.BatchNorm2d or None, not ReLU"):
        FusedConv2d(conv, nn.ReLU())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="bn has 5 features, but conv has 6 output channels"):
        FusedConv2d(conv, nn.BatchNorm2d(5))
    with pytest.raises(ValueError, match='unknown activation "swish"; known are none, relu'):
        FusedConv2d(conv, None, "swish")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match='unknown pool "max4"; known are None, max2, avg2, max3s2'):
        FusedConv2d(conv, None, "none", "max4")  # type: ignore[arg-type]


def test_repr_says_what_is_fused() -> None:
    assert "activation='relu', pool='max2'" in repr(make(pool="max2"))
