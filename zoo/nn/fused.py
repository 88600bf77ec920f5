"""A convolution, its BatchNorm, activation and pool, as one module."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch._prims_common import suggest_memory_format
from torch.autograd import forward_ad
from torch.nn import functional as F

from zoo import ops
from zoo.nn._batch_norm import conv2d_batch_norm, is_plain
from zoo.ops import reference
from zoo.ops._conv2d import named_padding
from zoo.ops._introspection import conv2d_layout, has_conv2d_kernels
from zoo.ops._origin import Origin, counts_changes
from zoo.ops._shapes import Ints

PoolName = Literal["max2", "avg2", "max3s2"]

# pool, kernel, stride, padding
_POOLS: dict[str, tuple[ops.Pool, int, int, int]] = {
    "max2": ("max", 2, 2, 0),
    "avg2": ("avg", 2, 2, 0),
    "max3s2": ("max", 3, 2, 1),
}


@dataclass(slots=True)
class _Plan:
    """A call that is ready to be made, and what it was made from."""

    op: Callable[..., Tensor]
    packed: Tensor
    size: list[int]
    bias: Tensor | None
    options: dict[str, Any]
    channels_last: bool
    layout: str  # of the packed weight
    input_size: torch.Size  # of the last input; the layout is the fastest for it
    configuration: tuple[Any, ...]
    origin: Origin

    def holds(self, configuration: tuple[Any, ...], tensors: list[Tensor | None]) -> bool:
        """Whether nothing has changed since."""
        return configuration == self.configuration and self.origin.still(tensors)


class FusedConv2d(nn.Module):
    """``pool(activation(bn(conv(input)) + residual))`` in as few passes as the mode allows.

    In train mode the BatchNorm uses the batch's statistics: convolution, BatchNorm, residual and
    activation are :func:`zoo.ops.conv2d_batch_norm`, and the pool follows. In eval mode the
    BatchNorm is folded into the convolution and everything is one kernel. Without gradients, on a
    float32 or float64 CPU tensor, the folded weight is packed once and kept (as a non-persistent
    buffer); it is packed anew when ``conv`` or ``bn`` change: load_state_dict, in-place updates,
    ``.to()``; and when an input of another size is faster with another layout of the weight. Only
    writes through ``.data`` go unnoticed; call ``.train()`` and ``.eval()``, or :meth:`repack`,
    after them. Tensors made under :func:`torch.inference_mode` do not count their changes; they
    work, and are packed at every call.

    The modules are taken as they are, not copied, so the state dict has the plain names:
    ``conv.weight``, ``conv.bias``, ``bn.weight``, ...

    Args:
        conv: the convolution, with any stride, padding, padding mode, dilation and groups.
        bn: its BatchNorm, over the convolution's output channels.
        activation: one of :data:`zoo.ops.ACTIVATIONS`.
        pool: None, "max2" or "avg2" (kernel 2, stride 2), or "max3s2" (kernel 3, stride 2,
            padding 1).
        precision: as in :func:`zoo.ops.conv2d`.

    Raises:
        TypeError: conv or bn is something else.
        ValueError: an unknown activation, pool or precision, or a bn that does not fit conv.
    """

    def __init__(
        self,
        conv: nn.Conv2d,
        bn: nn.BatchNorm2d | None = None,
        activation: ops.Activation = "none",
        pool: PoolName | None = None,
        *,
        precision: ops.Precision = "default",
    ) -> None:
        super().__init__()
        if not isinstance(conv, nn.Conv2d):
            raise TypeError(f"conv must be an nn.Conv2d, not {type(conv).__name__}")
        if bn is not None and not isinstance(bn, nn.BatchNorm2d | nn.SyncBatchNorm):
            raise TypeError(f"bn must be an nn.BatchNorm2d or None, not {type(bn).__name__}")
        if bn is not None and bn.num_features != conv.out_channels:
            raise ValueError(
                f"bn has {bn.num_features} features, but conv has {conv.out_channels} output "
                "channels"
            )
        if activation not in ops.ACTIVATIONS:
            raise ValueError(
                f'unknown activation "{activation}"; known are {", ".join(ops.ACTIVATIONS)}'
            )
        if pool is not None and pool not in _POOLS:
            raise ValueError(
                f'unknown pool "{pool}"; known are None, {", ".join(get_args(PoolName))}'
            )
        if precision not in get_args(ops.Precision):
            raise ValueError(
                f'unknown precision "{precision}"; known are {", ".join(get_args(ops.Precision))}'
            )
        self.conv = conv
        self.bn: nn.BatchNorm2d | None
        self.register_module("bn", bn)
        self.activation: ops.Activation = activation
        self.pool = pool
        self.precision: ops.Precision = precision
        self.packed_weight: Tensor | None
        self.packed_bias: Tensor | None
        self.register_buffer("packed_weight", None, persistent=False)
        self.register_buffer("packed_bias", None, persistent=False)
        self._plan: _Plan | None = None

    def forward(self, input: Tensor, residual: Tensor | None = None) -> Tensor:
        """(N, C, H, W) -> (N, O, H', W'); residual has the shape of the convolution's output."""
        if not torch.compiler.is_compiling():
            plan = self._inference_plan(input, residual)
            if plan is not None:
                if plan.channels_last:
                    # As the plain convolution: a channels_last weight makes such an output.
                    input = input.to(memory_format=torch.channels_last)
                if residual is None:
                    return plan.op(input, plan.packed, plan.size, plan.bias, **plan.options)
                return plan.op(
                    input, plan.packed, plan.size, plan.bias, **plan.options, residual=residual
                )
        if input.dim() == 3:
            lifted = residual.unsqueeze(0) if residual is not None else None
            output: Tensor = self.forward(input.unsqueeze(0), lifted)
            return output.squeeze(0)
        if residual is not None and self.pool is not None:
            raise ValueError("a residual cannot be added where there is a pool; use pool=None")
        if self.bn is not None and (self.bn.training or self.bn.running_mean is None):
            return self._with_batch_statistics(input, self.bn, residual)
        return self._with_running_statistics(input, residual)

    def repack(self) -> None:
        """Forget the packed weight, so that the next call makes it anew."""
        self.packed_weight = None
        self.packed_bias = None
        self._plan = None

    def train(self, mode: bool = True) -> FusedConv2d:
        """As of any module; the packed weight is forgotten."""
        self.repack()
        return super().train(mode)

    def extra_repr(self) -> str:
        """What print() shows beside the modules."""
        shown = f"activation={self.activation!r}, pool={self.pool!r}"
        return shown if self.precision == "default" else f"{shown}, precision={self.precision!r}"

    def __getstate__(self) -> dict[str, Any]:
        # Copies and pickles start without a packed weight: it is tied to this module's tensors.
        state = dict(self.__dict__)
        state["_buffers"] = {**self._buffers, "packed_weight": None, "packed_bias": None}
        state["_plan"] = None
        return state

    def _with_batch_statistics(
        self, input: Tensor, bn: nn.BatchNorm2d, residual: Tensor | None
    ) -> Tensor:
        padded, padding = self._padded(input)
        plain = type(bn).forward is nn.BatchNorm2d.forward and is_plain(bn)
        if plain and input.numel() > 0:  # no images have no statistics, and PyTorch takes them
            output = conv2d_batch_norm(
                self.conv, bn, padded, padding, self.activation, residual, self.precision
            )
        else:
            output = self._convolved(padded, padding)
            output = bn(output)
            if residual is not None:
                output = output + residual
            output = reference.ACTIVATIONS[self.activation](output)
        if self.pool is None:
            return output
        pool, kernel, stride, pool_padding = _POOLS[self.pool]
        pooling = ops.max_pool2d if pool == "max" else ops.avg_pool2d
        return pooling(output, kernel, stride, pool_padding)

    def _convolved(self, input: Tensor, padding: Ints) -> Tensor:
        conv = self.conv
        return ops.conv2d(
            input,
            conv.weight,
            conv.bias,
            conv.stride,
            padding,
            conv.dilation,
            conv.groups,
            precision=self.precision,
        )

    def _with_running_statistics(self, input: Tensor, residual: Tensor | None) -> Tensor:
        conv = self.conv
        weight, bias = self._folded()
        padded, padding = self._padded(input)
        if self.pool is None:
            return ops.conv2d(
                padded,
                weight,
                bias,
                conv.stride,
                padding,
                conv.dilation,
                conv.groups,
                activation=self.activation,
                residual=residual,
                precision=self.precision,
            )
        pool, kernel, stride, pool_padding = _POOLS[self.pool]
        return ops.conv2d_pool(
            padded,
            weight,
            bias,
            conv.stride,
            padding,
            conv.dilation,
            conv.groups,
            activation=self.activation,
            pool=pool,
            pool_kernel=kernel,
            pool_stride=stride,
            pool_padding=pool_padding,
            precision=self.precision,
        )

    def _padded(self, input: Tensor) -> tuple[Tensor, Ints]:
        """The input and the zero padding that is left to the convolution."""
        conv = self.conv
        if conv.padding_mode != "zeros":
            sides = conv._reversed_padding_repeated_twice
            return F.pad(input, sides, mode=conv.padding_mode), 0
        if isinstance(conv.padding, str):
            return named_padding(input, conv.weight, conv.stride, conv.padding, conv.dilation)
        return input, conv.padding

    def _folded(self) -> tuple[Tensor, Tensor | None]:
        """The convolution's weight and bias with the BatchNorm's running statistics in them."""
        weight, bias, bn = self.conv.weight, self.conv.bias, self.bn
        if bn is None:
            return weight, bias
        assert bn.running_mean is not None
        assert bn.running_var is not None
        scale = torch.rsqrt(bn.running_var + bn.eps)
        if bn.weight is not None:
            scale = scale * bn.weight
        shift = -bn.running_mean if bias is None else bias - bn.running_mean
        shift = shift * scale
        if bn.bias is not None:
            shift = shift + bn.bias
        return weight * scale.reshape(-1, 1, 1, 1), shift

    def _inference_plan(self, input: Tensor, residual: Tensor | None) -> _Plan | None:
        """The packed call, where this is plain inference on the CPU; otherwise None.

        That is: no gradients, no autocast, no tracing, no function transform. This runs before
        every call, so it avoids nn.Module's slow attribute lookup.
        """
        if (
            type(input) is not Tensor
            or not input.is_cpu
            or input.dtype not in (torch.float32, torch.float64)
            or input.dim() != 4
            or (residual is not None and self.pool is not None)
            or forward_ad._current_level >= 0
            or torch.is_autocast_enabled("cpu")
            or torch._C._functorch.peek_interpreter_stack() is not None
            or not has_conv2d_kernels()
        ):
            return None
        conv: Any = self._modules["conv"]
        bn: Any = self._modules["bn"]
        weight: Tensor | None = conv._parameters.get("weight")
        if weight is None or conv.padding_mode != "zeros":
            return None  # a parametrized weight, or padding that the kernels do not know
        tensors = [weight, conv._parameters.get("bias")]
        epsilon = 0.0
        if bn is not None:
            running_mean = bn._buffers["running_mean"]
            if bn.training or running_mean is None:
                return None
            scale, shift = bn._parameters.get("weight"), bn._parameters.get("bias")
            tensors += [scale, shift, running_mean, bn._buffers["running_var"]]
            epsilon = bn.eps
        if torch.is_grad_enabled():
            for tensor in (input, residual, *tensors):
                if tensor is not None and tensor.requires_grad:
                    return None
        configuration = (
            conv.stride, conv.padding, conv.dilation, conv.groups, self.activation, self.pool,
            self.precision, epsilon,
        )  # fmt: skip
        plan = self._plan
        if plan is None or not plan.holds(configuration, tensors):
            return self._pack(input, weight, configuration, tensors)
        if plan.input_size != input.shape:
            if plan.layout != self._layout(input, plan.options):
                return self._pack(input, weight, configuration, tensors)
            plan.input_size = input.shape
        return plan

    def _layout(self, input: Tensor, options: dict[str, Any]) -> str:
        """The packed weight's layout that is the fastest for such an input."""
        window = (options["stride"], options["padding"], options["dilation"])
        conv = self.conv
        return conv2d_layout(
            input.shape, conv.weight.shape, *window, conv.groups, input.dtype, self.precision
        )

    def _pack(
        self,
        input: Tensor,
        weight: Tensor,
        configuration: tuple[Any, ...],
        tensors: list[Tensor | None],
    ) -> _Plan | None:
        """A new plan; None if the kernels lack the padding, or changes could not be noticed."""
        for tensor in tensors:
            if tensor is not None and not counts_changes(tensor):
                return None
        conv = self.conv
        padding: Any = conv.padding
        if isinstance(padding, str):
            left, right, top, bottom = conv._reversed_padding_repeated_twice
            if left != right or top != bottom:
                return None
            padding = (top, left)
        origin = Origin(tensors)
        window = (conv.stride, padding, conv.dilation)
        with torch.inference_mode(False), torch.no_grad():
            folded, bias = self._folded()
            packed = ops.conv2d_prepack(
                folded, conv.groups, *window, input_size=input.shape, precision=self.precision
            )
            # Without a BatchNorm this is conv's own parameter, which must not become one here.
            bias = None if bias is None else bias.detach()
        options: dict[str, Any] = {
            "stride": conv.stride,
            "padding": padding,
            "dilation": conv.dilation,
            "groups": conv.groups,
            "activation": self.activation,
            "precision": self.precision,
        }
        op: Callable[..., Tensor] = ops.conv2d_packed
        if self.pool is not None:
            op = ops.conv2d_pool_packed
            pool, kernel, stride, pool_padding = _POOLS[self.pool]
            options |= {
                "pool": pool,
                "pool_kernel": kernel,
                "pool_stride": stride,
                "pool_padding": pool_padding,
            }
        self.packed_weight, self.packed_bias = packed, bias
        self._plan = _Plan(
            op,
            packed,
            list(weight.shape),
            bias,
            options,
            suggest_memory_format(weight) == torch.channels_last,
            self._layout(input, options),
            input.shape,
            configuration,
            origin,
        )
        return self._plan
