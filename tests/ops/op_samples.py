"""The samples that all op tests share, and what an op's result is held to."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from zoo import ops
from zoo.ops import reference

OPS: dict[str, Callable[..., Any]] = {
    "conv2d": ops.conv2d,
    "conv2d_pool": ops.conv2d_pool,
    "conv2d_batch_norm": ops.conv2d_batch_norm,
    "max_pool2d": ops.max_pool2d,
    "avg_pool2d": ops.avg_pool2d,
    "adaptive_avg_pool2d": ops.adaptive_avg_pool2d,
}

# Cases that no kernel takes and the reference runs: everything that is not float32 or float64.
# float32 has no exceptions, whatever the op and the shape.
DECLINED_DTYPES = [torch.bfloat16, torch.float16]


@dataclass
class Sample:
    """One call of one op."""

    name: str
    op: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.op}-{self.name}"

    @property
    def tensors(self) -> list[Tensor]:
        return [value for value in (*self.args, *self.kwargs.values()) if torch.is_tensor(value)]

    def map(self, function: Callable[[Tensor], Tensor]) -> Sample:
        """The same call on other tensors."""

        def change(value: Any) -> Any:
            return function(value) if torch.is_tensor(value) else value

        args = tuple(change(value) for value in self.args)
        kwargs = {key: change(value) for key, value in self.kwargs.items()}
        return Sample(self.name, self.op, args, kwargs)

    def run(self) -> Any:
        return OPS[self.op](*self.args, **self.kwargs)

    def expected(self) -> Any:
        """The reference's result, in this sample's dtype."""
        with warnings.catch_warnings():
            # PyTorch's warning that padding="same" may copy the input.
            warnings.filterwarnings("ignore", message="Using padding='same'")
            return getattr(reference, self.op)(*self.args, **self.kwargs)


def samples(device: str = "cpu", dtype: torch.dtype = torch.float32) -> Iterator[Sample]:
    """All kinds of calls, small enough to run each in milliseconds."""
    generator = torch.Generator().manual_seed(7)

    def tensor(*size: int) -> Tensor:
        return torch.randn(size, generator=generator, dtype=torch.float64).to(device, dtype)

    def cl(x: Tensor) -> Tensor:
        return x.contiguous(memory_format=torch.channels_last)

    def conv(name: str, *args: Any, **kwargs: Any) -> Sample:
        return Sample(name, "conv2d", args, kwargs)

    yield conv("plain", tensor(2, 3, 9, 8), tensor(5, 3, 3, 3))
    yield conv("bias", tensor(2, 3, 9, 8), tensor(5, 3, 3, 3), tensor(5), 1, 1)
    yield conv("1x1", tensor(2, 16, 5, 7), tensor(40, 16, 1, 1), tensor(40), activation="relu")
    yield conv("stride", tensor(1, 6, 11, 10), tensor(33, 6, 3, 3), None, 2, 1)
    yield conv("unequal", tensor(1, 4, 12, 9), tensor(7, 4, 2, 5), None, (2, 1), (0, 3), (3, 1))
    yield conv("same", tensor(1, 4, 7, 6), tensor(4, 4, 4, 3), None, 1, "same", 2)
    yield conv("valid", tensor(1, 4, 7, 6), tensor(4, 4, 4, 3), None, 1, "valid")
    yield conv("groups", tensor(2, 6, 8, 8), tensor(9, 2, 3, 3), tensor(9), 1, 1, 1, 3)
    yield conv("depthwise", tensor(2, 37, 9, 9), tensor(37, 1, 3, 3), tensor(37), 1, 1, 1, 37)
    yield conv("depthwise-5x5-s2", tensor(1, 16, 9, 9), tensor(16, 1, 5, 5), None, 2, 2, 1, 16)
    yield conv("multiplier", tensor(1, 4, 6, 6), tensor(8, 1, 3, 3), tensor(8), 1, 1, 1, 4)
    yield conv("stem", tensor(1, 3, 23, 23), tensor(64, 3, 7, 7), tensor(64), 2, 3)
    yield conv("deep", tensor(1, 130, 4, 4), tensor(64, 130, 3, 3), None, 1, 1)
    yield conv("one-pixel", tensor(3, 8, 1, 1), tensor(4, 8, 1, 1))
    yield conv("one-channel", tensor(2, 1, 6, 6), tensor(1, 1, 3, 3))
    yield conv("whole-map", tensor(2, 5, 6, 6), tensor(3, 5, 6, 6), tensor(3))
    yield conv("huge-padding", tensor(1, 2, 3, 3), tensor(2, 2, 3, 3), tensor(2), 5, 40)
    yield conv("empty-batch", tensor(0, 3, 8, 8), tensor(4, 3, 3, 3), tensor(4))
    yield conv("unbatched", tensor(3, 8, 8), tensor(4, 3, 3, 3), residual=tensor(4, 6, 6))
    yield conv("channels-last", cl(tensor(2, 8, 9, 9)), tensor(12, 8, 3, 3), tensor(12), 1, 1)
    yield conv("channels-last-weight", tensor(2, 8, 9, 9), cl(tensor(12, 8, 3, 3)), None, 1, 1)
    yield conv("expanded", tensor(1, 1, 1, 8).expand(2, 4, 8, 8), tensor(4, 4, 3, 3))
    yield conv("slice", tensor(2, 8, 9, 18)[:, ::2, :, 1::2], tensor(9, 4, 3, 3)[::3])
    yield conv(
        "transposed-weight", tensor(1, 4, 7, 7), tensor(3, 3, 6, 4).permute(2, 3, 1, 0), None, 1, 1
    )
    yield conv("strided-bias", tensor(1, 4, 7, 7), tensor(6, 4, 3, 3), tensor(12)[::2])
    for activation in ops.ACTIVATIONS:
        yield conv(
            activation,
            tensor(2, 6, 8, 8),
            tensor(35, 6, 3, 3),
            tensor(35),
            1,
            1,
            activation=activation,
            residual=tensor(2, 35, 8, 8),
        )
    yield conv(
        "residual-depthwise",
        cl(tensor(2, 16, 8, 8)),
        tensor(16, 1, 3, 3),
        None,
        1,
        1,
        1,
        16,
        activation="hardswish",
        residual=tensor(2, 16, 8, 8),
    )
    yield conv(
        "residual-expanded",
        tensor(2, 4, 8, 8),
        tensor(4, 4, 3, 3),
        padding=1,
        residual=tensor(1, 4, 1, 1).expand(2, 4, 8, 8),
    )

    # Large enough for Winograd, with tiles that the map's edges cut.
    w, b = tensor(35, 17, 3, 3), tensor(35)
    residual = tensor(2, 35, 25, 22)
    yield conv("winograd4", tensor(2, 17, 25, 22), w, b, 1, 1, residual=residual,
               activation="relu")  # fmt: skip
    yield conv("winograd4-cl", cl(tensor(2, 16, 27, 26)), tensor(64, 16, 3, 3), None, 1, 1,
               activation="relu", residual=cl(tensor(2, 64, 27, 26)))  # fmt: skip
    yield conv("winograd4-gelu", cl(tensor(1, 17, 41, 30)), w, b, 1, (0, 2), activation="gelu")
    yield conv("winograd4-slice", tensor(2, 34, 25, 50)[:, ::2, :, 1::2], w, None, 1, "same")
    yield conv("winograd2", cl(tensor(2, 17, 14, 10)), w, b, 1, 1, activation="silu")
    yield conv("winograd-exact", tensor(2, 17, 25, 22), w, b, 1, 1, precision="exact")

    def conv_pool(name: str, *args: Any, **kwargs: Any) -> Sample:
        return Sample(name, "conv2d_pool", args, kwargs)

    relu = {"activation": "relu"}
    x, w, b = tensor(2, 3, 12, 11), tensor(34, 3, 3, 3), tensor(34)
    yield conv_pool("max", x, w, b, 1, 1, **relu)
    yield conv_pool("avg", x, w, b, 1, 1, **relu, pool="avg")
    yield conv_pool("max3s2", x, w, b, 1, 1, pool_kernel=3, pool_stride=2, pool_padding=1)
    yield conv_pool("avg3s2", x, w, b, 1, 1, pool="avg", pool_kernel=3, pool_stride=2,
                    pool_padding=1)  # fmt: skip
    yield conv_pool("unequal", x, w, b, (2, 1), 1, pool_kernel=(2, 3), pool_stride=(1, 2))
    yield conv_pool("gap", x, w, None, 1, 0, pool_kernel=2, pool_stride=3)
    yield conv_pool("channels-last", cl(x), w, b, 1, 1, activation="silu")
    yield conv_pool("depthwise", x, tensor(3, 1, 3, 3), None, 1, 1, 1, 3, activation="gelu")
    yield conv_pool("groups", tensor(1, 8, 9, 9), tensor(6, 4, 3, 3), None, 1, 1, 2, 2)
    yield conv_pool("global-avg", x, w, b, 1, 1, pool="avg", pool_kernel=(12, 11))
    yield conv_pool("same", x, tensor(4, 3, 2, 2), None, 1, "same")
    yield conv_pool("empty-batch", tensor(0, 3, 8, 8), w, b)
    yield conv_pool("unbatched", tensor(3, 8, 8), w, b)
    yield conv_pool("stem", tensor(1, 3, 31, 31), tensor(64, 3, 7, 7), tensor(64), 2, 3, **relu,
                    pool_kernel=3, pool_stride=2, pool_padding=1)  # fmt: skip

    x, w, b = tensor(2, 17, 25, 22), tensor(35, 17, 3, 3), tensor(35)
    yield conv_pool("winograd4-max", cl(x), w, b, 1, 1, **relu)
    yield conv_pool("winograd4-avg", x, w, b, 1, 1, activation="tanh", pool="avg")
    yield conv_pool("winograd2-max", cl(x[:, :, :14, :10]), w, b, 1, 1)
    yield conv_pool("winograd-exact", x, w, b, 1, 1, **relu, precision="exact")

    def pools(name: str, *args: Any, **kwargs: Any) -> Iterator[Sample]:
        yield Sample(name, "max_pool2d", args, kwargs)
        yield Sample(name, "avg_pool2d", args, kwargs)

    x = tensor(2, 35, 9, 10)
    yield from pools("2", x, 2)
    yield from pools("3s2p1", x, 3, 2, 1)
    yield from pools("unequal", x, (2, 3), (3, 1), (1, 0))
    yield from pools("ceil", x, 4, 3, 2, ceil_mode=True)
    yield from pools("channels-last", cl(x), 3, 2, 1)
    yield from pools("one-channel", tensor(2, 1, 6, 6), 2)
    yield from pools("one-pixel", tensor(2, 8, 1, 1), 1)
    yield from pools("empty-batch", tensor(0, 3, 6, 6), 2)
    yield from pools("unbatched", tensor(5, 6, 6), 2)
    yield from pools("slice", tensor(2, 8, 9, 18)[:, ::2, :, 1::2], 3, 1, 1)
    yield from pools("expanded", tensor(1, 1, 1, 8).expand(2, 4, 8, 8), 2)
    yield Sample("dilated", "max_pool2d", (x, 3, 1, 1, 2))
    yield Sample("dilated-ceil", "max_pool2d", (x, 2, 3, 1, (2, 3), True))
    yield Sample("indices", "max_pool2d", (x, 3, 2, 1), {"return_indices": True})
    yield Sample("indices-cl", "max_pool2d", (cl(x), 2), {"return_indices": True})
    yield Sample("without-pad", "avg_pool2d", (x, 3, 2, 1), {"count_include_pad": False})
    yield Sample("divisor", "avg_pool2d", (x, 3, 2, 1), {"divisor_override": 5})
    yield Sample("ceil-without-pad", "avg_pool2d", (x, 4, 3, 2, True, False))

    def adaptive(name: str, input: Tensor, output_size: Any) -> Sample:
        return Sample(name, "adaptive_avg_pool2d", (input, output_size))

    yield adaptive("global", x, 1)
    yield adaptive("global-cl", cl(x), 1)
    yield adaptive("divisor", x, (3, 5))
    yield adaptive("uneven", x, (4, 7))
    yield adaptive("uneven-cl", cl(x), (4, 7))
    yield adaptive("larger", x, (None, 13))
    yield adaptive("own", x, (None, None))
    yield adaptive("slice", tensor(2, 8, 9, 18)[:, ::2, :, 1::2], (1, 3))
    yield adaptive("expanded", tensor(1, 1, 1, 8).expand(2, 4, 8, 8), 2)
    yield adaptive("one-channel", tensor(2, 1, 6, 6), 1)
    yield adaptive("empty-batch", tensor(0, 3, 6, 6), 2)
    yield adaptive("unbatched", tensor(5, 6, 6), (2, None))


def by_name(name: str, dtype: torch.dtype = torch.float32) -> Sample:
    """The sample whose str() is ``name``."""
    return next(sample for sample in samples(dtype=dtype) if str(sample) == name)


def names(op: str = "") -> list[str]:
    return [str(sample) for sample in samples() if str(sample).startswith(op)]


def overload_call(sample: Sample) -> tuple[object, tuple[object, ...], dict[str, object]]:
    """The sample as a call of the dispatcher op, which takes pairs."""
    name = sample.op
    kwargs = dict(sample.kwargs)
    if kwargs.pop("return_indices", False):
        name = "max_pool2d_with_indices"
    overload = getattr(torch.ops.zoo, name).default
    arguments = overload._schema.arguments

    def listed(value: object, kind: str) -> object:
        return [value, value] if "List" in kind and isinstance(value, int) else value

    args = tuple(
        listed(value, str(argument.type))
        for value, argument in zip(sample.args, arguments, strict=False)
    )
    kinds = {argument.name: str(argument.type) for argument in arguments}
    return overload, args, {key: listed(value, kinds[key]) for key, value in kwargs.items()}


def implementation(sample: Sample, packed: bool = False) -> str:
    """What runs a float32 or float64 convolution, were it not for its pool."""
    x, w, *rest = sample.args
    defaults = (None, 1, 0, 1, 1)
    _, *window = (*rest, *defaults[len(rest) :])
    if isinstance(window[1], str):  # "same"; what is padded beforehand makes no difference here
        window[1] = tuple(window[2] * (size - 1) // 2 for size in w.shape[2:])
    precision = sample.kwargs.get("precision", "default")
    size = x.shape if x.dim() == 4 else (1, *x.shape)
    choices = ops.explain_conv2d(
        size, w.shape, *window, dtype=x.dtype, precision=precision, packed=packed
    )
    return next(choice["implementation"] for choice in choices if choice["chosen"])


def error_bound(sample: Sample, packed: bool = False) -> Tensor | float:
    """How far a result may be from the exact one.

    Winograd's methods are held to 4e-6 of the largest output of the convolution.

    Otherwise a sum of n products, in any order, is off by about sqrt(n) roundings of its terms'
    absolute sum M when roundings are independent (Higham, Accuracy and Stability of Numerical
    Algorithms, section 2.8): (4 sqrt(n) + 16) eps M, with M from the same op on absolute values. An
    activation multiplies that by its largest slope (at most 1.5, hardswish's) and adds 16 eps.
    """
    if sample.op == "max_pool2d":
        return 0.0
    dtype = sample.args[0].dtype
    eps = torch.finfo(dtype).eps
    magnitude = sample.map(lambda x: x.double().abs())
    if sample.op in ("avg_pool2d", "adaptive_avg_pool2d"):
        return (magnitude.expected() + 1) * 16 * eps
    weight = sample.args[1]
    terms = weight[0].numel()
    activation = magnitude.kwargs.pop("activation", "none")
    slope = 1.0 if activation in ("none", "relu", "relu6", "leaky_relu") else 1.5
    if implementation(sample, packed).startswith("winograd"):
        exact = sample.map(lambda x: x.double())
        kwargs = {key: exact.kwargs[key] for key in ("residual",) if key in exact.kwargs}
        conv = Sample(sample.name, "conv2d", exact.args, kwargs).expected()
        largest: float = conv.abs().max().item()
        return 4e-6 * largest * slope + 16 * eps
    if "pool" in magnitude.kwargs or sample.op == "conv2d_pool":
        # The largest error in a window bounds the error of its maximum and of its mean.
        magnitude.kwargs["pool"] = "max"
    bound: Tensor = magnitude.expected()
    return (bound * slope * (4 * math.sqrt(terms) + 16) + 16) * eps


def check(sample: Sample) -> None:
    """Run the sample and hold the result to the exact one, in value, dtype and shape."""
    result, exact = sample.run(), sample.map(lambda x: x.double()).expected()
    if isinstance(result, tuple):
        assert torch.equal(result[1], exact[1])
        result, exact = result[0], exact[0]
    assert result.dtype == sample.args[0].dtype
    assert result.shape == exact.shape
    error = (result.double() - exact).abs()
    assert bool((error <= error_bound(sample)).all()), f"off by {error.max().item():.3g}"
