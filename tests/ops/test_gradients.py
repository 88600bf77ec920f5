"""First and second derivatives, forward mode, and the refusal of the packed ops."""

from __future__ import annotations

import op_samples
import pytest
import torch
from torch.autograd import forward_ad, gradcheck, gradgradcheck

from zoo import ops

CHECKED = [
    "conv2d-bias",
    "conv2d-unequal",
    "conv2d-groups",
    "conv2d-depthwise-5x5-s2",
    "conv2d-same",
    "conv2d-unbatched",
    "conv2d-channels-last",
    "conv2d_pool-max",
    "conv2d_pool-avg3s2",
    "conv2d_pool-unbatched",
    "max_pool2d-3s2p1",
    "max_pool2d-dilated-ceil",
    "max_pool2d-channels-last",
    "avg_pool2d-ceil-without-pad",
    "avg_pool2d-divisor",
    "avg_pool2d-unbatched",
    "adaptive_avg_pool2d-global-cl",
    "adaptive_avg_pool2d-uneven",
]


def with_leaves(name: str) -> tuple[op_samples.Sample, list[torch.Tensor]]:
    """The sample, and copies of its tensors that require gradients."""
    sample = op_samples.by_name(name, torch.float64)
    leaves = [tensor.detach().clone().requires_grad_() for tensor in sample.tensors]
    return sample, leaves


def function(sample: op_samples.Sample):  # type: ignore[no-untyped-def]
    """The sample as a function of its tensors."""

    def call(*tensors: torch.Tensor) -> torch.Tensor:
        rest = iter(tensors)
        return sample.map(lambda _: next(rest)).run()  # type: ignore[no-any-return]

    return call


@pytest.mark.parametrize("name", CHECKED)
def test_gradcheck(name: str) -> None:
    sample, leaves = with_leaves(name)
    assert gradcheck(function(sample), leaves, fast_mode=True)
    assert gradgradcheck(function(sample), leaves, fast_mode=True)


@pytest.mark.parametrize("activation", ops.ACTIVATIONS)
def test_gradcheck_of_activations(activation: ops.Activation) -> None:
    x = torch.randn(1, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    w = torch.randn(3, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    b = torch.randn(3, dtype=torch.float64, requires_grad=True)
    r = torch.randn(1, 3, 4, 4, dtype=torch.float64, requires_grad=True)

    def call(*leaves: torch.Tensor) -> torch.Tensor:
        x, w, b, r = leaves
        return ops.conv2d(x, w, b, padding=1, activation=activation, residual=r)

    assert gradcheck(call, (x, w, b, r))
    assert gradgradcheck(call, (x, w, b, r), fast_mode=True)


@pytest.mark.parametrize("name", op_samples.names())
def test_gradients_equal_the_references(name: str, capability: str) -> None:
    sample = op_samples.by_name(name, torch.float32)
    results = []
    for run in ("run", "expected"):
        leaves = [tensor.detach().clone().requires_grad_() for tensor in sample.tensors]
        rest = iter(leaves)
        output = getattr(sample.map(lambda _, rest=rest: next(rest)), run)()
        output = output[0] if isinstance(output, tuple) else output
        weights = torch.linspace(-1, 1, output.numel()).reshape(output.shape)
        results.append(torch.autograd.grad((output * weights).sum(), leaves))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (3,), (0, 2), (1, 3)])
def test_only_what_is_wanted(wanted: tuple[int, ...]) -> None:
    tensors = [
        torch.randn(1, 2, 4, 4),
        torch.randn(3, 2, 3, 3),
        torch.randn(3),
        torch.randn(1, 3, 4, 4),
    ]
    for index in wanted:
        tensors[index].requires_grad_()
    x, w, b, r = tensors
    ops.conv2d(x, w, b, padding=1, activation="relu", residual=r).sum().backward()
    for index, tensor in enumerate(tensors):
        assert (tensor.grad is not None) == (index in wanted)


def test_residual_without_bias() -> None:
    x, w = torch.randn(1, 2, 4, 4), torch.randn(3, 2, 3, 3)
    r = torch.randn(1, 3, 4, 4, requires_grad=True)
    ops.conv2d(x, w, padding=1, residual=r).sum().backward()
    assert r.grad is not None
    assert torch.equal(r.grad, torch.ones_like(r))


@pytest.mark.parametrize(
    "name",
    [
        "conv2d-silu",
        "conv2d-relu",
        "conv2d_pool-max",
        "max_pool2d-2",
        "avg_pool2d-2",
        "adaptive_avg_pool2d-uneven",
    ],
)
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:FutureWarning")
def test_forward_mode(name: str) -> None:
    sample = op_samples.by_name(name, torch.float64)
    results = []
    for run in ("run", "expected"):
        torch.manual_seed(1)
        with forward_ad.dual_level():
            dual = sample.map(lambda x: forward_ad.make_dual(x, torch.randn_like(x)))
            results.append(forward_ad.unpack_dual(getattr(dual, run)()).tangent)
    torch.testing.assert_close(*results)


def test_indices_are_not_differentiable() -> None:
    x = torch.randn(1, 2, 4, 4, requires_grad=True)
    output, indices = ops.max_pool2d(x, 2, return_indices=True)
    assert output.requires_grad
    assert not indices.requires_grad


def test_changed_input_is_noticed() -> None:
    x, w = torch.randn(1, 2, 4, 4), torch.randn(3, 2, 3, 3, requires_grad=True)
    output = ops.conv2d(x, w, activation="relu")
    x.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.sum().backward()


def test_packed_ops_refuse_gradients() -> None:
    x, w = torch.randn(1, 2, 4, 4, requires_grad=True), torch.randn(3, 2, 3, 3)
    packed = ops.conv2d_prepack(w)
    with pytest.raises(
        RuntimeError, match=r"conv2d_packed is for inference only.*zoo\.ops\.conv2d"
    ):
        ops.conv2d_packed(x, packed, w.shape)
    with pytest.raises(RuntimeError, match="conv2d_pool_packed is for inference only"):
        ops.conv2d_pool_packed(x, packed, w.shape)
    with pytest.raises(RuntimeError, match="conv2d_prepack is for inference only"):
        ops.conv2d_prepack(w.requires_grad_())
    with torch.no_grad():
        assert not ops.conv2d_packed(x, ops.conv2d_prepack(w), w.shape).requires_grad
