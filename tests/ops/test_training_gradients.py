"""The gradients of training in channels_last against float64 and against PyTorch's own."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
import training_samples
from op_samples import Sample
from torch import Tensor
from torch.nn import functional as F
from training_samples import OPS, last, make

from zoo import ops

BY_KERNEL = [name for name in ops.ACTIVATIONS if name not in ("silu", "gelu", "hardswish")]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", training_samples.names())
def test_windows(name: str, dtype: torch.dtype, capability: str) -> None:
    training_samples.check(training_samples.by_name(name, dtype))


@pytest.mark.parametrize("name", training_samples.names())
def test_kernels_take_every_window(name: str) -> None:
    assert training_samples.is_fused(training_samples.by_name(name))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("activation", ops.ACTIVATIONS)
@pytest.mark.parametrize("op", OPS)
def test_activations(
    op: str, activation: ops.Activation, dtype: torch.dtype, capability: str
) -> None:
    residuals = (False,) if op == "conv2d_pool" else (False, True)
    for bias, residual in itertools.product((False, True), residuals):
        sample = make(op, dtype=dtype, bias=bias, residual=residual, activation=activation)
        # aten's hardsigmoid_backward multiplies float64 by a sixth in float32.
        rounded = activation == "hardsigmoid" and dtype == torch.float64
        training_samples.check(sample, bound=1e-7 if rounded else None)
        own = activation in BY_KERNEL or (op == "conv2d_batch_norm" and not residual)
        # A convolution leaves other activations to PyTorch; the rest is differentiated by it.
        assert training_samples.is_fused(sample) == (own or op == "conv2d")


@pytest.mark.parametrize("channels", [1, 3, 8, 33])
@pytest.mark.parametrize("batch", [0, 1, 3])
@pytest.mark.parametrize("op", OPS)
def test_batches_and_channels(op: str, batch: int, channels: int, capability: str) -> None:
    if op == "conv2d_batch_norm" and batch == 0:
        pytest.skip("there are no statistics of nothing")
    for others in (1, 8, 33):
        window = ((batch, others, 7, 5), (channels, others, 3, 3), 1, 1)
        found = training_samples.check(make(op, window, activation="relu"))
        if batch == 0:
            assert not found["weight"].any()
            assert not found["bias"].any()


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("activation", ["none", "tanh", "gelu"])
def test_batch_norm_without_affine(affine: bool, activation: str, capability: str) -> None:
    sample = make("conv2d_batch_norm", affine=affine, activation=activation, eps=1e-2)
    training_samples.check(sample)
    for name in ("bn_weight", "bn_bias"):
        if affine:
            del sample.kwargs[name]
            training_samples.check(sample)


@pytest.mark.parametrize("precision", ["default", "exact"])
@pytest.mark.parametrize("op", OPS)
def test_precision(op: str, precision: str, capability: str) -> None:
    sample = make(op, "winograd4", activation="relu", precision=precision)
    training_samples.check(sample, bound=1e-5 if precision == "default" else 4e-6)


def away_from_steps(sample: Sample) -> Tensor:
    """Where the output's derivative by the map is no other one for a map that is slightly off."""
    map = before_activation(sample)
    if sample.op != "conv2d_pool":
        return map.abs() > 1e-3
    windows = F.pixel_unshuffle(map, 2).unflatten(1, (map.shape[1], 4))
    first, second = windows.topk(2, 2).values.unbind(2)
    return (first - second > 1e-3) & (first.abs() > 1e-3)


def before_activation(sample: Sample) -> Tensor:
    """What goes into the activation, in float64."""
    op = "conv2d" if sample.op == "conv2d_pool" else sample.op
    kwargs = {**sample.kwargs, "activation": "none"}
    plain = Sample(sample.name, op, sample.args, kwargs)
    return training_samples.output_of(plain.map(lambda tensor: tensor.double()).expected())


# The sizes that networks train with; the error is relative to the largest gradient.
@pytest.mark.parametrize("groups", [1, 64])
@pytest.mark.parametrize("op", OPS)
def test_realistic_sizes(op: str, groups: int) -> None:
    window = ((32, 64, 28, 28), (64, 64 // groups, 3, 3), 1, 1, 1, groups)
    sample = make(op, window, activation="relu", residual=op != "conv2d_pool")
    steady = away_from_steps(sample)
    assert steady.double().mean() > 0.99
    grad = training_samples.grad_of(steady.float()) * steady
    training_samples.check(sample, grad, bound=1e-5)
    assert training_samples.is_fused(sample)


def grads(output: Tensor) -> dict[str, Tensor]:
    """Gradients of the output as they may arrive."""
    n, c, h, w = output.shape
    row = torch.randn(1, c, 1, w, dtype=output.dtype)
    return {
        "channels_last": last(torch.randn_like(output)),
        "contiguous": torch.randn(output.shape, dtype=output.dtype),
        "one": torch.ones((), dtype=output.dtype).expand(output.shape),
        "expanded": row.expand(output.shape),
        "slice": torch.randn(n + 1, 2 * c, h, 2 * w, dtype=output.dtype)[1:, ::2, :, ::2],
        "permuted": torch.randn(w, c, n, h, dtype=output.dtype).permute(2, 1, 3, 0),
        "zero": torch.zeros((), dtype=output.dtype).expand(output.shape),
    }


KINDS = ["channels_last", "contiguous", "one", "expanded", "slice", "permuted", "zero"]


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("activation", ["none", "relu"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("op", OPS)
def test_layouts_of_the_gradient(op: str, kind: str, activation: str, residual: bool) -> None:
    if op == "conv2d_pool" and residual:
        pytest.skip("conv2d_pool takes no residual")
    sample = make(op, activation=activation, residual=residual)
    grad = grads(training_samples.output_of(sample.run()))[kind]
    if op == "conv2d_batch_norm" and kind in ("one", "expanded", "zero"):
        # Its gradients cancel: what is left is rounding, and relative to nothing.
        ours = training_samples.gradients(sample, grad)
        right = training_samples.exact(sample, grad)
        for name, value in ours.items():
            torch.testing.assert_close(value.double(), right[name], rtol=1e-4, atol=2e-4)
    else:
        training_samples.check(sample, grad)


@pytest.mark.parametrize("op", OPS)
def test_gradients_of_what_follows(op: str) -> None:
    """.sum() sends an expanded gradient, flatten a contiguous one."""
    sample = make(op, activation="relu")
    head = torch.randn(sample.args[1].shape[0], 4)
    for tail in (
        lambda y: y.sum(),
        lambda y: y.flatten(1).square().sum(),
        lambda y: (y.mean((2, 3)) @ head.to(y.dtype)).square().sum(),
        lambda y: y[:, ::2, 1:].sum(),
        lambda y: (y + y.transpose(0, 1).transpose(0, 1)).square().mean(),
    ):
        results = []
        for run in ("run", "expected"):
            tensors = [tensor.clone().requires_grad_() for tensor in sample.tensors]
            rest = iter(tensors)
            result = getattr(sample.map(lambda _, rest=rest: next(rest)), run)()
            tail(training_samples.output_of(result)).backward()
            results.append([tensor.grad for tensor in tensors])
        for ours, theirs in zip(*results, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


LAYOUTS: dict[str, Any] = {
    "channels_last": last,
    "contiguous": torch.Tensor.contiguous,
    "slice": lambda t: t.repeat_interleave(2, 1).repeat(1, 1, 1, 2)[:, ::2, :, : t.shape[3]],
    "permuted": lambda t: t.permute(3, 1, 0, 2).contiguous().permute(2, 1, 3, 0),
    "expanded": lambda t: t[:1].expand(t.shape),
}


@pytest.mark.parametrize("what", ["input", "weight", "residual"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("op", OPS)
def test_layouts_of_the_tensors(op: str, layout: str, what: str) -> None:
    if op == "conv2d_pool" and what == "residual":
        pytest.skip("conv2d_pool takes no residual")
    sample = make(op, activation="relu", residual=what == "residual")
    x, w, *rest = sample.args
    if what == "input":  # the weight is in channels_last instead
        sample.args = (LAYOUTS[layout](x), last(w), *rest)
    elif what == "weight":
        sample.args = (x, LAYOUTS[layout](w), *rest)
    else:
        sample.kwargs["residual"] = LAYOUTS[layout](sample.kwargs["residual"])
    training_samples.check(sample)
    assert training_samples.is_fused(sample)


def turned(weight: Tensor) -> Tensor:
    """The same, and for PyTorch in channels_last: but by the strides of its one column."""
    return weight.permute(0, 3, 2, 1).contiguous().permute(0, 3, 2, 1)


@pytest.mark.parametrize("channels", [17, 64])
@pytest.mark.parametrize("op", OPS)
def test_strides_of_one_column(op: str, channels: int, allow_fallback: None) -> None:
    """PyTorch's convolution in groups errs on such weights, also in what is left to it."""
    sample = make(op, ((2, 2 * channels, 12, 8), (16, channels, 7, 1), 1, 0, 1, 2))
    right = training_samples.exact(sample)
    x, w, *rest = sample.args
    sample.args = (x, turned(w), *rest)
    assert sample.args[1].is_contiguous(memory_format=torch.channels_last)
    for name, value in training_samples.gradients(sample).items():
        if name != "bias" or op != "conv2d_batch_norm":
            largest = right[name].abs().max().item()
            torch.testing.assert_close(value.double(), right[name], rtol=0, atol=1e-5 * largest)


@pytest.mark.parametrize("op", OPS)
def test_strided_vectors(op: str) -> None:
    sample = make(op, activation="relu")
    wide = sample.map(lambda t: t.repeat_interleave(3)[::3] if t.dim() == 1 else t)
    for name, value in training_samples.check(wide).items():
        assert torch.equal(value, training_samples.gradients(sample)[name])


@pytest.mark.parametrize(
    "window",
    [
        ((2, 4, 9, 9), (6, 4, 3, 3), 2, 1, 2),  # stride and dilation
        ((2, 4, 6, 6), (6, 4, 3, 3), 1, 3),  # an input that padding hides from all taps
    ],
    ids=["stride-dilation", "padding"],
)
@pytest.mark.parametrize("op", OPS)
def test_what_pytorch_differentiates(
    op: str, window: tuple[Any, ...], allow_fallback: None
) -> None:
    sample = make(op, window, activation="relu")
    training_samples.check(sample)
    assert not training_samples.is_fused(sample)


@pytest.mark.parametrize("op", OPS)
def test_contiguous_tensors(op: str, allow_fallback: None) -> None:
    sample = make(op, activation="relu").map(lambda tensor: tensor.contiguous())
    for name, value in training_samples.check(sample).items():
        assert value.is_contiguous(), name
    assert not training_samples.is_fused(sample)
    with torch.no_grad():
        training_samples.output_of(sample.run())


@pytest.mark.parametrize("pool", ["max", "avg"])
@pytest.mark.parametrize("kernel", [1, 2, 3, (2, 3)])
@pytest.mark.parametrize("stride", [None, 1, 2, (2, 1)])
@pytest.mark.parametrize("padding", [0, (1, 0)])
def test_every_pool(pool: str, kernel: Any, stride: Any, padding: Any) -> None:
    if padding and (kernel == 1 or (pool == "avg" and kernel == (2, 3))):
        padding = 0
    options = {"pool": pool, "pool_kernel": kernel, "pool_stride": stride, "pool_padding": padding}
    sample = make("conv2d_pool", activation="relu", **options)
    training_samples.check(sample)
    fused = pool == "max" and kernel == 2 and stride in (None, 2) and padding == 0
    assert training_samples.is_fused(sample) == fused


@pytest.mark.parametrize("op", OPS)
def test_only_what_is_wanted(op: str) -> None:
    sample = make(op, activation="relu", residual=op != "conv2d_pool")
    everything = training_samples.gradients(sample)
    names = list(training_samples.leaves(sample))
    for count in (1, 2, len(names) - 1):
        for wanted in itertools.combinations(names, count):
            found = training_samples.gradients(sample, wanted=wanted)
            assert list(found) == ["output", *wanted]
            for name in wanted:
                torch.testing.assert_close(found[name], everything[name], rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("op", OPS)
def test_what_is_not_wanted_is_not_computed(op: str) -> None:
    sample = make(op, activation="relu")
    weight = sample.args[1].requires_grad_()
    output = training_samples.output_of(sample.run())
    output.sum().backward()
    assert weight.grad is not None
    assert all(tensor.grad is None for tensor in sample.tensors if tensor is not weight)


@pytest.mark.parametrize("op", OPS)
def test_gradients_add_up(op: str) -> None:
    sample = make(op, activation="relu")
    weight = sample.args[1].requires_grad_()
    for _ in range(2):
        training_samples.output_of(sample.run()).square().sum().backward()
    assert weight.grad is not None
    once = torch.autograd.grad(training_samples.output_of(sample.run()).square().sum(), weight)[0]
    torch.testing.assert_close(weight.grad, 2 * once)


@pytest.mark.parametrize("op", OPS)
def test_changed_tensors_are_noticed(op: str) -> None:
    for index in (0, 1):
        sample = make(op, activation="relu")
        sample.args[1].requires_grad_()
        output = training_samples.output_of(sample.run())
        with torch.no_grad():
            sample.args[index].add_(1)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            output.sum().backward()
