"""compile, export, opcheck, autocast and functorch see whole ops, and get them right."""

from __future__ import annotations

from pathlib import Path

import op_samples
import pytest
import torch
from torch.library import opcheck

from zoo import ops

CHECKED = [
    "conv2d-plain",
    "conv2d-silu",
    "conv2d-groups",
    "conv2d-channels-last",
    "conv2d-one-channel",
    "conv2d-one-pixel",
    "conv2d-empty-batch",
    "conv2d-winograd4-cl",
    "conv2d_pool-winograd-exact",
    "conv2d_pool-max3s2",
    "conv2d_pool-avg",
    "max_pool2d-ceil",
    "max_pool2d-indices-cl",
    "avg_pool2d-ceil-without-pad",
    "adaptive_avg_pool2d-global",
    "adaptive_avg_pool2d-uneven-cl",
]


@pytest.fixture(autouse=True)
def fresh_dynamo() -> None:
    torch._dynamo.reset()


# torch's own checks look at .grad of what they cloned.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("name", CHECKED)
def test_opcheck(name: str, grad: bool) -> None:
    sample = op_samples.by_name(name)
    if grad:
        sample = sample.map(lambda x: x.detach().clone().requires_grad_())
    overload, args, kwargs = op_samples.overload_call(sample)
    opcheck(overload, args, kwargs)  # type: ignore[arg-type]


def test_opcheck_of_packed_ops() -> None:
    x, w, b = torch.randn(2, 4, 8, 8), torch.randn(6, 2, 3, 3), torch.randn(6)
    packed = ops.conv2d_prepack(w, 2)
    opcheck(torch.ops.zoo.conv2d_prepack.default, (w, 2))
    rest = ([1, 1], [1, 1], [1, 1], 2)
    opcheck(torch.ops.zoo.conv2d_packed.default, (x, packed, list(w.shape), b, *rest))
    opcheck(torch.ops.zoo.conv2d_pool_packed.default, (x, packed, list(w.shape), b, *rest))


def test_opcheck_of_weights_packed_for_winograd() -> None:
    x, w, b = torch.randn(2, 16, 25, 22), torch.randn(34, 16, 3, 3), torch.randn(34)
    pad = [1, 1]
    for precision, elements in (("default", 36 * 16 * 64), ("exact", 9 * 16 * 64)):
        options = {"input_size": list(x.shape), "precision": precision}
        packed = torch.ops.zoo.conv2d_prepack.default(w, 1, [1, 1], pad, **options)
        assert packed.numel() == elements
        opcheck(torch.ops.zoo.conv2d_prepack.default, (w, 1, [1, 1], pad), options)
        args = (x, packed, list(w.shape), b, [1, 1], pad)
        opcheck(torch.ops.zoo.conv2d_packed.default, args)
        opcheck(torch.ops.zoo.conv2d_pool_packed.default, args)


@pytest.mark.parametrize("name", op_samples.names())
def test_compiles_as_one_graph(name: str) -> None:
    sample = op_samples.by_name(name)
    compiled = torch.compile(sample.run, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(), sample.run(), rtol=0, atol=0)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_inductor_with_gradients_and_changing_batch() -> None:
    """One dynamic graph serves every batch size; recompiling would be an error."""

    def block(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        y = ops.conv2d(x, w, b, padding=1, activation="hardswish")
        y = ops.max_pool2d(y, 3, 2, 1)
        y = ops.conv2d_pool(y, w[:, :3].repeat(1, 2, 1, 1), b, padding="same", activation="relu")
        return ops.avg_pool2d(y, 2)

    compiled = torch.compile(block, fullgraph=True, dynamic=True)
    w, b = torch.randn(6, 3, 3, 3), torch.randn(6)
    with torch._dynamo.config.patch(error_on_recompile=True):
        for batch in (2, 3, 5):
            x = torch.randn(batch, 3, 16, 16)
            grads = []
            for function in (compiled, block):
                leaves = [tensor.clone().requires_grad_() for tensor in (x, w, b)]
                result = function(*leaves)
                grads.append([result, *torch.autograd.grad(result.square().sum(), leaves)])
            for ours, theirs in zip(*grads, strict=True):
                torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


class Net(torch.nn.Module):
    """One of each op."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(4, 3, 3, 3))
        self.bias = torch.nn.Parameter(torch.randn(4))
        with torch.no_grad():
            self.register_buffer("packed", ops.conv2d_prepack(self.weight))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = ops.conv2d(x, self.weight, self.bias, padding=1, activation="gelu")
        z = ops.conv2d_packed(x, self.packed, self.weight.shape, padding=1, residual=y)
        p = ops.conv2d_pool(x, self.weight, self.bias, padding=1)
        return ops.max_pool2d(z, 2) + p + ops.avg_pool2d(y, 2)


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_export_save_and_load(strict: bool, tmp_path: Path) -> None:
    net, x = Net().requires_grad_(False).eval(), torch.randn(3, 3, 8, 8)
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(
        net, (x,), dynamic_shapes=((batch, None, None, None),), strict=strict
    )
    called = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert {"zoo.conv2d.default", "zoo.conv2d_packed.default", "zoo.conv2d_pool.default",
            "zoo.max_pool2d.default", "zoo.avg_pool2d.default"} <= called  # fmt: skip
    torch.export.save(program, tmp_path / "net.pt2")
    loaded = torch.export.load(tmp_path / "net.pt2").module()
    for size in (3, 5):
        x = torch.randn(size, 3, 8, 8)
        torch.testing.assert_close(loaded(x), net(x), rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("grad", [False, True])
def test_autocast(dtype: torch.dtype, grad: bool, allow_fallback: None) -> None:
    x, w = torch.randn(2, 3, 8, 8), torch.randn(4, 3, 3, 3, requires_grad=grad)
    b = torch.randn(4)
    with torch.autocast("cpu", dtype=dtype):
        ours = ops.conv2d(x, w, b, padding=1, activation="relu")
        pooled = ops.conv2d_pool(x, w, b, padding=1, activation="relu")
        theirs = torch.nn.functional.conv2d(x, w, b, padding=1).relu()
        assert ops.max_pool2d(x, 2).dtype == torch.float32
    assert ours.dtype == pooled.dtype == dtype
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    if grad:
        ours.float().sum().backward()
        assert w.grad is not None
        assert w.grad.dtype == torch.float32
        torch.testing.assert_close(
            w.grad, torch.autograd.grad(theirs.float().sum(), w)[0], rtol=1e-2, atol=1e-2
        )


def test_autocast_of_linear_is_the_same_compiled(allow_fallback: None) -> None:
    x, w = torch.randn(2, 8), torch.randn(4, 8)
    compiled = torch.compile(ops.linear, fullgraph=True, backend="aot_eager")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result, expected = compiled(x, w), ops.linear(x, w)
    assert result.dtype == expected.dtype == torch.bfloat16
    torch.testing.assert_close(result, expected, rtol=0, atol=0)


def test_autocast_of_packed_ops(allow_fallback: None) -> None:
    x, w = torch.randn(2, 3, 8, 8), torch.randn(4, 3, 3, 3)
    packed = ops.conv2d_prepack(w)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = ops.conv2d_packed(x, packed, w.shape)
        expected = ops.conv2d(x, w)
    assert result.dtype == torch.bfloat16
    torch.testing.assert_close(result, expected, rtol=0, atol=0)


def test_autocast_leaves_float64_alone() -> None:
    x, w = torch.randn(1, 3, 8, 8).double(), torch.randn(4, 3, 3, 3).double()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert ops.conv2d(x, w).dtype == torch.float64


@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")
def test_function_transforms() -> None:
    x, w = torch.randn(3, 2, 4, 8, 8), torch.randn(5, 4, 3, 3)
    mapped = torch.func.vmap(lambda image: ops.conv2d(image, w, activation="relu"))(x)
    torch.testing.assert_close(
        mapped, torch.stack([ops.conv2d(i, w, activation="relu") for i in x])
    )

    def loss(weight: torch.Tensor) -> torch.Tensor:
        return ops.conv2d(x[0], weight, activation="tanh").square().sum()

    leaf = w.clone().requires_grad_()
    expected = torch.autograd.grad(loss(leaf), leaf)[0]
    torch.testing.assert_close(torch.func.grad(loss)(w), expected)
