"""A convolution with what follows it in training: as one or two ops, or as the modules say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo import ops
from zoo.nn._activations import bn_activation, module_activation
from zoo.nn._batch_norm import conv2d_batch_norm, is_plain, uses_batch_statistics
from zoo.nn._pools import module_is_pool
from zoo.ops import reference

_TENSORS = (Tensor, nn.Parameter)  # and none of the classes that spread over devices, or fake


def _is_channels_last(tensor: Tensor) -> bool:
    """Whether four dimensions lie so; by strides, since of one channel both layouts are dense."""
    images, channels, _, columns = tensor.stride()
    return channels == 1 and images > 1 and columns >= tensor.shape[1]


@dataclass(eq=False)
class Chain:
    """``pool(activation(bn(conv(input)) + residual))``, of which all but ``conv`` may be absent.

    Where the ops do not serve it runs the modules one by one, as they were called before: on other
    devices and dtypes, in other layouts than channels_last, on no images, under autocast, with a
    BatchNorm in eval mode, and where a module has got hooks, parametrizations, another activation
    or another window since.

    Attributes:
        bn: the BatchNorm. in_bn: whether it is one of timm's, which has the activation in itself.
        act: the module that is the activation; None where a function is, or ``bn`` has it.
        pool: whether a 2x2 max-pool ends it. pool_module: the module that is it, if one is.
    """

    name: str
    conv: nn.Conv2d
    bn: nn.BatchNorm2d | None = None
    in_bn: bool = False
    residual: bool = False
    activation: ops.Activation = "none"
    act: nn.Module | None = None
    pool: bool = False
    pool_module: nn.Module | None = None

    def __str__(self) -> str:
        parts = [self.name]
        if self.bn is not None:
            parts.append("batch_norm")
        if self.residual:
            parts.append("residual")
        if self.activation != "none":
            parts.append(self.activation)
        if self.pool:
            parts.append("max_pool")
        return " + ".join(parts)

    def __call__(self, input: Tensor, residual: Tensor | None = None) -> Tensor:
        """What the modules would return, and what they would do to running statistics."""
        conv, bn = self.conv, self.bn
        if not self._fits(input, residual):
            return self._one_by_one(input, residual)
        if bn is not None:
            return conv2d_batch_norm(conv, bn, input, conv.padding, self.activation, residual)
        op: Callable[..., Tensor] = ops.conv2d
        if self.pool:
            op = partial(ops.conv2d_pool, pool="max")
        elif residual is not None:
            op = partial(ops.conv2d, residual=residual)
        return op(
            input,
            conv.weight,
            conv.bias,
            conv.stride,
            conv.padding,
            conv.dilation,
            conv.groups,
            activation=self.activation,
        )

    def _one_by_one(self, input: Tensor, residual: Tensor | None) -> Tensor:
        output: Tensor = self.conv(input)
        if self.bn is not None:
            output = self.bn(output)
        if residual is not None:
            output = output + residual
        if self.act is not None:
            output = self.act(output)
        elif not self.in_bn:
            output = reference.ACTIVATIONS[self.activation](output)
        if self.pool_module is not None:
            return self.pool_module(output)  # type: ignore[no-any-return]
        return F.max_pool2d(output, 2) if self.pool else output

    def _fits(self, input: Tensor, residual: Tensor | None) -> bool:
        """Whether the ops mean what the modules would, and have kernels for it."""
        conv, bn = self.conv, self.bn
        if (
            type(input) not in _TENSORS
            or type(conv.weight) not in _TENSORS
            or not input.is_cpu
            or input.dim() != 4
            or input.numel() == 0
            or input.dtype not in (torch.float32, torch.float64)
            or conv.weight.dtype != input.dtype
            or torch.is_autocast_enabled("cpu")
            or not is_plain(conv)
            or conv.padding_mode != "zeros"
        ):
            return False
        if bn is not None and not (
            uses_batch_statistics(bn)
            and is_plain(bn)
            and bn_activation(bn) == (self.activation if self.in_bn else "none")
            and (bn.weight is None or bn.weight.dtype == input.dtype)
        ):
            return False
        act = self.act
        if act is not None and not (is_plain(act) and module_activation(act) == self.activation):
            return False
        if self.pool_module is not None and not module_is_pool(self.pool_module):
            return False
        # In the default layout the ops compute the gradients by PyTorch's, part by part.
        if not (_is_channels_last(input) or _is_channels_last(conv.weight)):
            return False
        return residual is None or self._adds(input, residual)

    def _adds(self, input: Tensor, residual: Tensor) -> bool:
        """Whether the residual has the output's shape and dtype: it is not broadcast."""
        conv = self.conv
        left, right, top, bottom = conv._reversed_padding_repeated_twice
        size = [
            (extent + around - dilation * (kernel - 1) - 1) // stride + 1
            for extent, around, kernel, stride, dilation in zip(
                input.shape[2:],
                (top + bottom, left + right),
                conv.kernel_size,
                conv.stride,
                conv.dilation,
                strict=True,
            )
        ]
        return (
            isinstance(residual, Tensor)
            and residual.dtype == input.dtype
            and residual.device == input.device
            and list(residual.shape) == [input.shape[0], conv.out_channels, *size]
        )
