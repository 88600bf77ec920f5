"""The derivatives of the training ops: numerical, of second order, and as tracers see them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import training_samples
from op_samples import Sample
from torch import Tensor
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.library import opcheck
from torch.utils.checkpoint import checkpoint
from training_samples import OPS, make

from zoo import ops

# As small as tensors and windows can be that have all there is to them.
TINY: dict[str, tuple[Any, ...]] = {
    "3x3": ((2, 2, 4, 4), (3, 2, 3, 3), 1, 1),
    "stride": ((2, 2, 7, 6), (3, 2, 3, 2), (2, 1), (1, 0)),
    "dilation": ((1, 2, 7, 6), (2, 2, 2, 2), 1, (1, 0), (2, 3)),
    "groups": ((2, 4, 4, 4), (4, 2, 2, 1), 1, 0, 1, 2),
    "depthwise": ((2, 3, 5, 4), (3, 1, 3, 3), 1, 1, 1, 3),
}


def tiny(
    op: str, window: str = "3x3", dtype: torch.dtype = torch.float64, **options: Any
) -> Sample:
    return make(op, TINY[window], dtype, **options)


def function(sample: Sample, run: str = "run") -> Callable[..., Tensor]:
    """The sample's output as a function of its tensors."""

    def call(*tensors: Tensor) -> Tensor:
        rest = iter(tensors)
        return training_samples.output_of(getattr(sample.map(lambda _: next(rest)), run)())

    return call


def leaves(sample: Sample) -> list[Tensor]:
    return [tensor.detach().clone().requires_grad_() for tensor in sample.tensors]


def epilogues(op: str, **options: Any) -> Iterator[Sample]:
    """The op with nothing but a weight, and with all that it may have."""
    yield tiny(op, bias=False, affine=False, **options)
    yield tiny(op, residual=op != "conv2d_pool", **options)


@pytest.mark.parametrize("window", TINY)
@pytest.mark.parametrize("op", OPS)
def test_gradcheck_of_windows(op: str, window: str) -> None:
    sample = tiny(op, window, activation="tanh")
    assert training_samples.is_fused(sample)
    assert gradcheck(function(sample), leaves(sample))
    assert gradgradcheck(function(sample), leaves(sample), fast_mode=True)


@pytest.mark.parametrize("activation", ops.ACTIVATIONS)
@pytest.mark.parametrize("op", OPS)
def test_gradcheck_of_epilogues(op: str, activation: ops.Activation) -> None:
    for sample in epilogues(op, activation=activation):
        assert gradcheck(function(sample), leaves(sample))
        assert gradgradcheck(function(sample), leaves(sample), fast_mode=True)


@pytest.mark.parametrize("frozen", ["input", "weight", "bias", "bn_weight", "residual"])
@pytest.mark.parametrize("op", OPS)
def test_gradgradcheck_beside_what_is_frozen(op: str, frozen: str) -> None:
    sample = tiny(op, activation="sigmoid", residual=op != "conv2d_pool")
    names = list(training_samples.leaves(sample))
    if frozen not in names:
        pytest.skip(f"{op} takes no {frozen}")
    inputs = leaves(sample)
    inputs[names.index(frozen)].requires_grad_(False)
    assert gradcheck(function(sample), inputs, fast_mode=True)
    assert gradgradcheck(function(sample), inputs, fast_mode=True)


@pytest.mark.parametrize("activation", ["none", "relu", "silu"])
@pytest.mark.parametrize("op", OPS)
def test_gradients_to_be_differentiated_again_are_the_same(op: str, activation: str) -> None:
    for sample in epilogues(op, activation=activation):
        inputs = leaves(sample)
        loss = function(sample)(*inputs).square().sum()
        again = torch.autograd.grad(loss, inputs, create_graph=True)
        once = torch.autograd.grad(loss, inputs)
        for ours, others in zip(once, again, strict=True):
            torch.testing.assert_close(ours, others, rtol=1e-10, atol=1e-10)


# Arguments made of one another, as a block's residual is of its input.
DEPENDENT: dict[str, Callable[[Tensor, Tensor], dict[str, Any]]] = {
    "same": lambda x, w: {"input": x, "weight": w, "residual": x},
    "residual": lambda x, w: {"input": x.sin(), "weight": w, "residual": x},
    "weight": lambda x, w: {"input": x, "weight": w * x.mean()},
    "bias": lambda x, w: {"input": x, "weight": w, "bias": w.mean(dim=(1, 2, 3))},
}


@pytest.mark.parametrize(
    ("op", "case"),
    [
        (op, case)
        for op in OPS
        for case in DEPENDENT
        if op != "conv2d_pool" or case in ("weight", "bias")
    ],
)
def test_arguments_made_of_one_another(op: str, case: str) -> None:
    def loss(x: Tensor, w: Tensor) -> Tensor:
        arguments = DEPENDENT[case](x, w)
        output = getattr(ops, op)(**arguments, padding=1, activation="sigmoid")
        return (output[0] if isinstance(output, tuple) else output).square().sum()

    torch.manual_seed(0)
    x, w = (torch.randn(size, dtype=torch.float64) for size in ((2, 3, 4, 4), (3, 3, 3, 3)))
    x = x.contiguous(memory_format=torch.channels_last)
    leaves = [x.requires_grad_(), w.requires_grad_()]
    once = torch.autograd.grad(loss(*leaves), leaves)
    again = torch.autograd.grad(loss(*leaves), leaves, create_graph=True)
    for ours, others in zip(once, again, strict=True):
        torch.testing.assert_close(ours, others, rtol=1e-10, atol=1e-10)
    assert gradgradcheck(loss, leaves, fast_mode=True)


@pytest.mark.parametrize("op", OPS)
def test_gradient_penalty(op: str) -> None:
    """A loss that holds the input's gradient, as trainings of GANs have, against PyTorch's."""
    sample = make(op, activation="leaky_relu", dtype=torch.float64)
    found = []
    for run in ("run", "expected"):
        inputs = leaves(sample)
        output = function(sample, run)(*inputs)
        (slope,) = torch.autograd.grad(output.square().sum(), inputs[0], create_graph=True)
        loss = output.sum() + (slope.flatten(1).norm(dim=1) - 1).square().sum()
        found.append(torch.autograd.grad(loss, inputs))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("op", OPS)
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:FutureWarning")
def test_forward_mode(op: str) -> None:
    sample = tiny(op, activation="relu", residual=op != "conv2d_pool")
    found = []
    for run in ("run", "expected"):
        torch.manual_seed(1)
        with forward_ad.dual_level():
            dual = [forward_ad.make_dual(x, torch.randn_like(x)) for x in sample.tensors]
            found.append(forward_ad.unpack_dual(function(sample, run)(*dual)).tangent)
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("op", OPS)
@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")
def test_function_transforms(op: str) -> None:
    """The gradients of each of several batches by itself."""
    sample = tiny(op, activation="tanh")
    n, c, h, w = sample.args[0].shape
    images, weight = torch.randn(3, n, h, w, c).double().movedim(4, 2), sample.args[1]

    def loss(weight: Tensor, images: Tensor) -> Tensor:
        return function(sample)(images, weight, *sample.tensors[2:]).square().sum()

    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(weight, images)
    for batch, found in zip(images, each, strict=True):
        leaf = weight.clone().requires_grad_()
        torch.testing.assert_close(found, torch.autograd.grad(loss(leaf, batch), leaf)[0])


@pytest.mark.parametrize("activation", ["none", "relu"])
@pytest.mark.parametrize("op", OPS)
def test_outputs_changed_in_place(op: str, activation: str) -> None:
    """Works where the gradient does not need the output, and otherwise says so."""
    sample = make(op, activation=activation)
    found = []
    for run in ("run", "expected"):
        inputs = leaves(sample)
        output = function(sample, run)(*inputs)
        output.mul_(2)
        if run == "run" and activation == "relu":
            with pytest.raises(RuntimeError, match="modified by an inplace operation"):
                output.sum().backward()
            return
        found.append(torch.autograd.grad(output.square().sum(), inputs))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("op", OPS)
def test_activation_checkpointing(op: str, reentrant: bool) -> None:
    sample = make(op, activation="relu")
    found = []
    for checkpointed in (False, True):
        inputs, call = leaves(sample), function(sample)
        output = (
            checkpoint(call, *inputs, use_reentrant=reentrant) if checkpointed else call(*inputs)
        )
        output.square().sum().backward()
        found.append([tensor.grad for tensor in inputs])
    for ours, theirs in zip(*found, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("op", OPS)
def test_saved_tensors_may_be_packed(op: str) -> None:
    """As where activations are kept elsewhere, or in fewer bits."""
    sample = make(op, activation="relu")
    inputs, shapes = leaves(sample), []

    def pack(tensor: Tensor) -> Tensor:
        shapes.append(tensor.shape)
        return tensor.clone()

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = function(sample)(*inputs).square().sum()
    found = torch.autograd.grad(loss, inputs)
    expected = torch.autograd.grad(function(sample)(*inputs).square().sum(), inputs)
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))
    if op == "conv2d_pool":  # the map before the pool is not among them
        n, channels, h, w = before = training_samples.output_of(
            make("conv2d", activation="relu").run()
        ).shape
        assert before not in shapes
        assert torch.Size((n, h // 2, w // 2, (channels + 7) // 8 * 2)) in shapes


# torch's own checks look at .grad of what they cloned.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("window", ["3x3", "stride-unequal"])
@pytest.mark.parametrize("op", OPS)
def test_opcheck(op: str, window: str) -> None:
    residual = op != "conv2d_pool" and window == "3x3"
    sample = make(op, window, activation="relu", residual=residual)
    sample = sample.map(lambda tensor: tensor.detach().clone().requires_grad_())
    overload = getattr(torch.ops.zoo, op).default
    kinds = [str(argument.type) for argument in overload._schema.arguments]
    args = tuple(
        [value] * 2 if "List" in kind and isinstance(value, int) else value
        for value, kind in zip(sample.args, kinds, strict=False)
    )
    opcheck(overload, args, sample.kwargs)


@pytest.mark.parametrize("op", OPS)
def test_opcheck_of_backwards(op: str) -> None:
    """The ops that autograd calls, as they are called."""
    calls: list[tuple[Any, Any, Any]] = []

    class Record(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None):  # type: ignore[no-untyped-def]
            if func.namespace == "zoo":
                calls.append((func, args, kwargs or {}))
            return func(*args, **(kwargs or {}))

    for sample in epilogues(op, dtype=torch.float32, activation="relu"):
        with Record():
            training_samples.gradients(sample)
    for func, args, kwargs in calls:
        opcheck(func, args, kwargs, test_utils=("test_schema", "test_faketensor"))
    assert training_samples.BACKWARD[op] in {func._schema.name for func, _, _ in calls}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiles_as_one_graph() -> None:
    """All ops in channels_last, forward and backward, for any batch size."""

    def block(x: Tensor, w: Tensor, b: Tensor, v: Tensor, scale: Tensor) -> Tensor:
        y = ops.conv2d(x, w, b, padding=1, activation="relu")
        y = ops.conv2d_batch_norm(y, v, padding=1, bn_weight=scale, activation="relu", residual=y)[
            0
        ]
        return ops.conv2d_pool(y, v, b, padding=1, activation="relu")

    torch._dynamo.reset()
    compiled = torch.compile(block, fullgraph=True, dynamic=True, backend="aot_eager")
    rest = [torch.randn(size) for size in ((6, 3, 3, 3), (6,), (6, 6, 3, 3), (6,))]
    with torch._dynamo.config.patch(error_on_recompile=True):
        for batch in (2, 3, 5):
            x = training_samples.last(torch.randn(batch, 3, 10, 12))
            found = []
            for call in (compiled, block):
                inputs = [tensor.detach().clone().requires_grad_() for tensor in (x, *rest)]
                output = call(*inputs)
                found.append([output, *torch.autograd.grad(output.square().sum(), inputs)])
            for ours, theirs in zip(*found, strict=True):
                torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("op", OPS)
def test_autocast(op: str, dtype: torch.dtype, allow_fallback: None) -> None:
    """PyTorch's own ops in the lower precision; gradients come back in float32."""
    sample = make(op, activation="relu")
    found = []
    for run in ("run", "expected"):
        inputs = leaves(sample)
        with torch.autocast("cpu", dtype=dtype), training_samples.Calls() as calls:
            output = function(sample, run)(*inputs)
            assert output.dtype == dtype
        grads = torch.autograd.grad(output, inputs, training_samples.grad_of(output))
        assert all(grad.dtype == torch.float32 for grad in grads)
        assert training_samples.BACKWARD[op] not in calls.names
        found.append([output.detach(), *grads])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours.float(), theirs.float(), rtol=2e-2, atol=2e-2)
