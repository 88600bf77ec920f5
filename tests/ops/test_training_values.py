"""The training ops where values are special, and whoever calls them in whatever way."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import training_samples
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from op_samples import Sample
from torch import Tensor
from training_samples import OPS, WINDOWS, last, make, whole

from zoo import ops

NAN, INF = float("nan"), float("inf")
DTYPES = [torch.float32, torch.float64]


def same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    """The same numbers, NaN being one."""
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)


# Ties: nearly every window has one, and all sums are exact, so PyTorch's gradients are met exactly.
@pytest.mark.parametrize("activation", ["none", "relu"])
@pytest.mark.parametrize("window", WINDOWS)
def test_ties_go_where_pytorch_sends_them(window: str, activation: str, capability: str) -> None:
    for dtype in DTYPES:
        sample = whole(make("conv2d_pool", window, dtype, activation=activation, precision="exact"))
        grad = torch.empty_like(sample.expected()).random_(1, 5)
        ours = training_samples.gradients(sample, grad)
        same(ours, training_samples.gradients(sample, grad, run="expected"))


def every_window(values: list[float], channels: int, dtype: torch.dtype) -> Tensor:
    """All 2x2 windows of the values, in another order in each channel."""
    windows = torch.tensor(list(itertools.product(values, repeat=4)), dtype=dtype)
    planes = [windows[torch.randperm(len(windows))] for _ in range(channels)]
    side = len(values) ** 2
    maps = torch.stack(planes).view(1, channels, side, side, 2, 2)
    return last(maps.permute(0, 1, 2, 4, 3, 5).reshape(1, channels, 2 * side, 2 * side))


@pytest.mark.parametrize("activation", ["none", "relu"])
@pytest.mark.parametrize("channels", [1, 3, 17])
def test_every_kind_of_window(channels: int, activation: str, capability: str) -> None:
    """NaN before all, the last of several; otherwise the first of the largest, -inf too."""
    for dtype in DTYPES:
        x = every_window([NAN, INF, -INF, 0.0, -0.0, 1.0, -1.0], channels, dtype)
        for weight, groups in (
            (torch.ones(channels, 1, 1, 1, dtype=dtype), channels),
            (torch.ones(2, channels, 1, 1, dtype=dtype), 1),
        ):
            args = (x, weight, None, 1, 0, 1, groups)
            sample = Sample("windows", "conv2d_pool", args, {"activation": activation})
            assert training_samples.is_fused(sample)
            grad = torch.empty_like(sample.expected()).random_(1, 5)
            ours = training_samples.gradients(sample, grad)
            same(ours, training_samples.gradients(sample, grad, run="expected"))


def close(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    # aten's hardsigmoid_backward multiplies float64 by a sixth in float32.
    bound = 1e-5 if ours["output"].dtype == torch.float32 else 1e-7
    torch.testing.assert_close(ours, theirs, rtol=bound, atol=bound)


@pytest.mark.parametrize("activation", ops.ACTIVATIONS)
def test_kinks_of_activations(activation: ops.Activation, capability: str) -> None:
    """Derivatives where there are two are PyTorch's, which is what trainings are used to."""
    points = torch.tensor([-6, -3.5, -3, -2.5, -1, -0.0, 0, 0.5, 1, 3, 5.5, 6, 6.5, 7, -7, 2.5])
    for dtype, op in itertools.product(DTYPES, ["conv2d", "conv2d_pool"]):
        x = last(points.to(dtype).view(1, 1, 4, 4).repeat(2, 9, 1, 1))
        args = (x, torch.ones(9, 1, 1, 1, dtype=dtype), None, 1, 0, 1, 9)
        sample = Sample("kinks", op, args, {"activation": activation})
        close(
            training_samples.gradients(sample),
            training_samples.gradients(sample, run="expected"),
        )


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("activation", ops.ACTIVATIONS)
def test_batch_norm_that_begins_with_zero(
    activation: ops.Activation, residual: bool, capability: str
) -> None:
    """A factor of 0, as last in a residual block: what goes into the activation is its kink."""
    for dtype in DTYPES:
        window = ((2, 3, 4, 4), (8, 3, 3, 3), 1, 1)
        sample = make("conv2d_batch_norm", window, dtype, activation=activation, residual=residual)
        kinks = torch.tensor([-3, 0, 3, 6, -7, 7, -0.5, 1], dtype=dtype)
        sample.kwargs |= {"bn_weight": torch.zeros(8, dtype=dtype), "bn_bias": kinks}
        if residual:
            sample.kwargs["residual"].zero_()
        ours = training_samples.gradients(sample)
        theirs = training_samples.gradients(sample, run="expected")
        for name in ("input", "weight", "bias"):
            assert not ours.pop(name).any()
            del theirs[name]
        close(ours, theirs)


@pytest.mark.parametrize("offset", [0.0, 30.0, 1000.0])
@pytest.mark.parametrize("window", ["3x3", "stride", "depthwise", "stem", "passes", "two-pixels"])
def test_statistics(window: str, offset: float, capability: str) -> None:
    """Also of a map that is far from 0."""
    for dtype in DTYPES:
        sample = make("conv2d_batch_norm", window, dtype)
        sample.args[2].round_()
        # Before the offset, whose size would round what PyTorch computes, too.
        _, *right = sample.map(lambda tensor: tensor.double()).expected()
        right[0] += offset
        sample.args[2].add_(offset)
        _, mean, variance = sample.run()
        eps = torch.finfo(dtype).eps
        # The map itself is rounded to the precision of its size.
        size = right[0].abs() + right[1].sqrt()
        assert (mean.double() - right[0]).abs().le(8 * eps * size).all()
        bound = 16 * eps * (right[1] + right[1].sqrt() * size)
        assert (variance.double() - right[1]).abs().le(bound).all()


def test_constant_channels(capability: str) -> None:
    """Variance 0, not something below it by rounding."""
    for dtype, value in itertools.product(DTYPES, [0.0, 0.1, 1e4]):
        x = last(torch.full((3, 2, 5, 5), value, dtype=dtype))
        weight = torch.randn(9, 2, 1, 1, dtype=dtype)
        output, mean, variance = ops.conv2d_batch_norm(x, weight, eps=1e-3)
        spread = torch.finfo(dtype).eps * mean.abs().max()
        assert variance.ge(0).all()
        assert variance.le(spread**2).all()
        assert output.abs().le(4 * spread / 1e-3**0.5).all()


def nonfinite(values: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: ~value.isfinite() for name, value in values.items()}


def spoilt(tensor: Tensor, value: float) -> Tensor:
    copy = tensor.clone()
    at = torch.randint(tensor.numel(), ()) if tensor.numel() else torch.zeros(())
    copy[torch.unravel_index(at, tensor.shape)] = value
    return copy


@pytest.mark.parametrize("value", [NAN, INF, -INF], ids=str)
@pytest.mark.parametrize(
    "window", ["3x3", "3x3-valid", "stride", "dilation", "groups", "depthwise"]
)
@pytest.mark.parametrize("op", OPS)
def test_nan_and_infinity(op: str, window: str, value: float, capability: str) -> None:
    """They reach what they reach in PyTorch, forward and backward. Of weights and of gradients
    they may go further where a window sees padding, which some kernels multiply like the rest."""
    sample = make(op, window, activation="relu", residual=op != "conv2d_pool", precision="exact")
    tensors = training_samples.leaves(sample)
    grad = training_samples.grad_of(training_samples.output_of(sample.expected()))
    reached = 0
    for what in (*tensors, "grad"):
        bad = spoilt(grad if what == "grad" else tensors[what], value)
        call = sample.map(lambda tensor: bad if tensor is tensors.get(what) else tensor)  # noqa: B023
        given_grad = bad if what == "grad" else grad
        ours = nonfinite(training_samples.gradients(call, given_grad))
        theirs = nonfinite(training_samples.gradients(call, given_grad, run="expected"))
        reached += sum(int(mask.any()) for mask in theirs.values())
        for name, mask in ours.items():
            if op == "conv2d_batch_norm" and name == "bias":
                assert not mask.any(), "the mean takes the bias away"
            elif what in ("weight", "grad") and mask.dim() == 4:
                assert mask[theirs[name]].all(), (what, name)
                assert not (mask & ~theirs[name].any(3, True).any(2, True)).any(), (what, name)
            else:
                assert torch.equal(mask, theirs[name]), (what, name)
    assert reached > 0


@pytest.mark.parametrize("activation", ops.ACTIVATIONS)
def test_nan_and_infinity_through_activations(activation: ops.Activation, capability: str) -> None:
    for op in OPS:
        sample = make(op, ((3, 4, 6, 6), (8, 4, 1, 1)), activation=activation)
        if op == "conv2d_batch_norm":
            sample = make(op, ((3, 4, 6, 6), (8, 4, 1, 1)), activation=activation, residual=True)
            sample.kwargs["residual"][0, 1, 2] = torch.tensor([NAN, INF, -INF, 0, 0, 0])
        else:
            sample.args[0][0, :, 2, ::2] = torch.tensor([NAN, INF, -INF])
        ours = nonfinite(training_samples.gradients(sample))
        theirs = nonfinite(training_samples.gradients(sample, run="expected"))
        assert theirs["output"].any()
        for name, mask in ours.items():
            if op != "conv2d_batch_norm" or name != "bias":
                assert torch.equal(mask, theirs[name]), (op, name)


@pytest.mark.parametrize("window", WINDOWS)
def test_forward_is_that_of_inference(window: str, capability: str) -> None:
    """Exactly; but a pool's map may come from another kernel, so only to its precision."""
    for op in OPS:
        sample = make(op, window, activation="relu", residual=op != "conv2d_pool")
        with torch.no_grad():
            expected = sample.run()
        leaf = sample.args[1].requires_grad_()
        found = sample.run()
        assert training_samples.output_of(found).grad_fn is not None
        leaf.requires_grad_(False)
        if op == "conv2d_pool":
            bound = 4e-6 * expected.abs().max().item()
            torch.testing.assert_close(found.detach(), expected, rtol=0, atol=bound)
            exact = whole(Sample(window, op, sample.args, sample.kwargs | {"precision": "exact"}))
            with torch.no_grad():
                expected = exact.run()
            exact.args[1].requires_grad_()
            assert torch.equal(exact.run(), expected)
        else:
            torch.testing.assert_close(found, expected, rtol=0, atol=0)


layouts = st.sampled_from(["contiguous", "channels_last", "channels_last", "slice", "permuted"])


def laid_out(tensor: Tensor, layout: str) -> Tensor:
    n, c, h, w = tensor.shape
    if layout == "channels_last":
        return last(tensor)
    if layout == "slice":
        return tensor.new_zeros(n + 1, 2 * c, h + 2, 3 * w)[1:, ::2, 1:-1, 1::3].copy_(tensor)
    if layout == "permuted":
        return tensor.new_empty(w, c, n, h).permute(2, 1, 3, 0).copy_(tensor)
    return tensor.contiguous()


pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))


@st.composite
def calls(draw: st.DrawFn, op: str) -> tuple[Sample, Tensor, list[str]]:
    """A call, a gradient of its output, and the tensors whose gradients are wanted. Without a
    BatchNorm in whole numbers: whatever is above or below others is so for everybody."""
    batch_norm, seed = op == "conv2d_batch_norm", draw(st.integers(0, 2**31))
    groups = draw(st.sampled_from([1, 1, 1, 2, 3, 8]))
    in_group, out_group = draw(st.sampled_from([1, 2, 17])), draw(st.sampled_from([1, 2, 33]))
    kernel, dilation = draw(pairs), draw(pairs)
    stride = (1, 1) if max(dilation) > 1 and draw(st.booleans()) else draw(pairs)
    padding = tuple(draw(st.integers(0, 3)) for _ in range(2))
    size = draw(st.tuples(st.integers(1, 11), st.integers(1, 17)))
    batch = draw(st.sampled_from([0, 1, 3, 8]))
    out = [
        (m + 2 * p - d * (k - 1) - 1) // s + 1
        for m, p, d, k, s in zip(size, padding, dilation, kernel, stride, strict=True)
    ]
    assume(min(out) > (1 if op == "conv2d_pool" else 0))
    assume(not batch_norm or batch * out[0] * out[1] >= 12)
    dtype = draw(st.sampled_from(DTYPES))
    window = (
        (batch, groups * in_group, *size),
        (groups * out_group, in_group, *kernel),
        *(stride, padding, dilation, groups),
    )
    sample = make(
        op,
        window,
        dtype,
        bias=draw(st.booleans()),
        residual=op != "conv2d_pool" and draw(st.booleans()),
        affine=draw(st.booleans()),
        seed=seed,
        activation=draw(st.sampled_from(["none", "silu"] if batch_norm else ["none", "relu"])),
        precision="default" if batch_norm else "exact",
    )
    if not batch_norm:
        sample = whole(sample, seed)
    expected = sample.expected()
    # Few values may have next to no variance.
    assume(not batch_norm or expected[2].min().item() > 0.1)
    output = training_samples.output_of(expected)
    # PyTorch's backward in float64, where it is called, takes contiguous weights only.
    kept = sample.args[1] if dtype == torch.float64 else None
    sample = sample.map(
        lambda t: laid_out(t, draw(layouts)) if t.dim() == 4 and t is not kept else t
    )
    grad = training_samples.grad_of(output)
    grad = laid_out(grad if batch_norm else grad.mul_(2).round_(), draw(layouts))
    names = list(training_samples.leaves(sample))
    wanted = draw(st.lists(st.sampled_from(names), min_size=1, unique=True))
    return sample, grad, [name for name in names if name in wanted]


@pytest.mark.parametrize("op", OPS)
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_call(op: str, capability: str, allow_fallback: None, data: st.DataObject) -> None:
    sample, grad, wanted = data.draw(calls(op))
    found = training_samples.gradients(sample, grad, wanted=wanted)
    assert list(found) == ["output", *wanted]
    if op == "conv2d_batch_norm":
        # What is left when its terms cancel is rounding, so the bound is not relative to that.
        right = training_samples.exact(sample, grad, wanted=wanted)
        bound = 1e-3 if sample.args[0].dtype == torch.float32 else 1e-10
        for name, value in found.items():
            torch.testing.assert_close(value.double(), right[name], rtol=bound, atol=bound)
    else:
        plain = sample.map(lambda tensor: tensor.contiguous())
        same(found, training_samples.gradients(plain, grad, run="expected", wanted=wanted))


@pytest.mark.parametrize("op", OPS)
def test_instruction_sets_between_forward_and_backward(op: str) -> None:
    """What a forward keeps does not depend on its own."""
    sample = make(op, "3x3", activation="relu", residual=op != "conv2d_pool")
    before, grads = ops.cpu_capability(), []
    try:
        for forward, backward in itertools.product(ops.cpu_capabilities(), repeat=2):
            ops.set_cpu_capability(forward)
            inputs = [tensor.detach().clone().requires_grad_() for tensor in sample.tensors]
            rest = iter(inputs)
            output = training_samples.output_of(sample.map(lambda _: next(rest)).run())  # noqa: B023
            ops.set_cpu_capability(backward)
            grads.append(torch.autograd.grad(output, inputs, training_samples.grad_of(output)))
    finally:
        ops.set_cpu_capability(before)
    for found in grads[1:]:
        for ours, others in zip(found, grads[0], strict=True):
            torch.testing.assert_close(ours, others, rtol=1e-4, atol=1e-4)


@pytest.fixture
def thread_counts() -> Iterator[list[int]]:
    before = torch.get_num_threads()
    yield [1, 2, 5]
    torch.set_num_threads(before)


# Large enough for threads to be woken, of several passes, with parts that differ in size.
THREADED = {
    "3x3": ((7, 3, 40, 40), (64, 3, 3, 3), 1, 1),
    "stride": ((5, 16, 33, 31), (48, 16, 3, 3), 2, 1),
    "depthwise": ((5, 40, 33, 31), (40, 1, 3, 3), 1, 1, 1, 40),
    "one": ((1, 32, 16, 16), (64, 32, 3, 3), 1, 1),
}


@pytest.mark.parametrize("window", THREADED)
@pytest.mark.parametrize("op", OPS)
def test_threads(op: str, window: str, thread_counts: list[int]) -> None:
    """The same number of them gives the same bits, another one the same sums."""
    residual = op != "conv2d_pool"
    sample = make(op, THREADED[window], activation="relu", residual=residual, precision="exact")
    found = []
    for threads in thread_counts:
        torch.set_num_threads(threads)
        found.append(training_samples.gradients(sample))
        same(training_samples.gradients(sample), found[-1])
        if op != "conv2d_batch_norm":
            exact = whole(sample, seed=1)
            grad = torch.empty_like(found[0]["output"]).random_(
                -4, 5, generator=torch.Generator().manual_seed(2)
            )
            found[-1] = training_samples.gradients(exact, grad)
    for others in found[1:]:
        if op == "conv2d_batch_norm":
            for name, value in others.items():
                bound = 1e-5 * found[0][name].abs().max().item()
                torch.testing.assert_close(value, found[0][name], rtol=0, atol=bound)
        else:
            same(others, found[0])


def test_concurrent_callers(thread_counts: list[int]) -> None:
    torch.set_num_threads(2)
    samples = [
        make(op, window, activation="relu", residual=op != "conv2d_pool")
        for op in OPS
        for window in ("passes", "3x3", "depthwise", "stride")
    ]
    expected = [training_samples.gradients(sample) for sample in samples]

    def work(caller: int) -> None:
        torch.set_num_threads(2)  # of this thread, whose default is all there are
        for i in range(2 * len(samples)):
            index = (i * (2 * caller + 1) + caller) % len(samples)
            same(training_samples.gradients(samples[index]), expected[index])

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(work, range(3)))


# Without as much as a copy of so many numbers by PyTorch, whose own ops hang in a child.
FORK = """
import os, signal, numpy, torch
from zoo import ops
torch.set_num_threads(2)
x = torch.randn(4, 32, 32, 32).contiguous(memory_format=torch.channels_last)
w, b = torch.randn(32, 32, 3, 3), torch.randn(32)
pointwise = torch.randn(256, 32, 1, 1)
slope_of_pointwise = torch.randn(4, 256, 32, 32).contiguous(memory_format=torch.channels_last)
slope = {size: torch.randn(size).contiguous(memory_format=torch.channels_last)
         for size in ((4, 32, 32, 32), (4, 32, 16, 16))}

def gradients():
    found = []
    for op in (ops.conv2d, ops.conv2d_pool, ops.conv2d_batch_norm):
        leaves = [tensor.detach().requires_grad_() for tensor in (x, w, b)]
        output = op(*leaves, padding=1, activation="relu")
        output = output if torch.is_tensor(output) else output[0]
        found += [output, *torch.autograd.grad(output, leaves, slope[tuple(output.shape)])]
    return found

def left_to_pytorch():  # elsewhere than in a child
    leaves = [x.detach().requires_grad_(), pointwise.detach().requires_grad_()]
    output = ops.conv2d(*leaves)
    return [output, *torch.autograd.grad(output, leaves, slope_of_pointwise)]

torch.set_num_threads(1)
expected, near = gradients(), left_to_pytorch()  # a child works on one thread
torch.set_num_threads(2)
gradients(), left_to_pytorch()  # the pool has threads now
pid = os.fork()
if pid == 0:
    signal.alarm(60)
    same = all(a.detach().numpy().tobytes() == b.detach().numpy().tobytes()
               for a, b in zip(gradients(), expected))
    right = all(numpy.allclose(a.detach().numpy(), b.detach().numpy(), 1e-3, 1e-2)
                for a, b in zip(left_to_pytorch(), near))
    os._exit(0 if same and right else 7)
_, status = os.waitpid(pid, 0)
print(os.waitstatus_to_exitcode(status))
"""


def test_forked_child() -> None:
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", FORK],
        env={**os.environ, "ZOO_FALLBACK": "aten"},  # the choices of every day
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.stdout == "0\n", result.stderr
