"""A convolution and its BatchNorm in training, as one op, and the running statistics."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zoo import ops
from zoo.ops._shapes import Ints

_HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")


def is_plain(module: nn.Module) -> bool:
    """Whether calling a module is calling its class's forward, on the parameters that it holds.

    That is: it has no hooks, no parametrizations, and no forward of its own, compiled or not.
    """
    held = module.__dict__
    return not (
        any(held[name] for name in _HOOKS)
        or "forward" in held
        or held.get("_compiled_call_impl") is not None
        or "parametrizations" in held["_modules"]
    )


def uses_batch_statistics(bn: nn.BatchNorm2d) -> bool:
    """Whether a BatchNorm's next call normalises by its batch's own mean and variance."""
    return bn.training or bn.running_mean is None


def conv2d_batch_norm(
    conv: nn.Conv2d,
    bn: nn.BatchNorm2d,
    input: Tensor,
    padding: Ints | str,
    activation: ops.Activation,
    residual: Tensor | None = None,
    precision: ops.Precision = "default",
) -> Tensor:
    """``activation(bn(conv(input)) + residual)`` by the batch's statistics.

    The running ones follow, as they do in ``nn.BatchNorm2d``.
    """
    output, mean, variance = ops.conv2d_batch_norm(
        input,
        conv.weight,
        conv.bias,
        conv.stride,
        padding,
        conv.dilation,
        conv.groups,
        bn_weight=bn.weight,
        bn_bias=bn.bias,
        eps=bn.eps,
        activation=activation,
        residual=residual,
        precision=precision,
    )
    if bn.training and bn.track_running_stats:
        _update(bn, mean, variance, output.numel() // output.shape[-3])
    return output


@torch.no_grad()
def _update(bn: nn.BatchNorm2d, mean: Tensor, variance: Tensor, count: int) -> None:
    """Let the running statistics follow those of ``count`` values per channel."""
    momentum = bn.momentum or 0.0
    if bn.num_batches_tracked is not None:
        bn.num_batches_tracked.add_(1)
        if bn.momentum is None:  # the average of all batches
            momentum = 1.0 / float(bn.num_batches_tracked)
    if bn.running_mean is not None:
        bn.running_mean.mul_(1 - momentum).add_(mean, alpha=momentum)
    if bn.running_var is not None:
        unbiased = count / (count - 1)
        bn.running_var.mul_(1 - momentum).add_(variance, alpha=momentum * unbiased)
