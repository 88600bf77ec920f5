"""Notices when the tensors change that something, a packed weight say, was made from."""

from __future__ import annotations

import weakref
from collections.abc import Sequence

from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

# Fused optimizers write to parameters without counting it, so their steps are counted here.
_optimizer_steps = 0


def _count_step(*_: object) -> None:
    global _optimizer_steps
    _optimizer_steps += 1


register_optimizer_step_post_hook(_count_step)


def counts_changes(tensor: Tensor) -> bool:
    """Whether PyTorch counts how often it is written to; not in inference_mode's tensors."""
    return type(tensor) in (Tensor, nn.Parameter) and not tensor.is_inference()


class Origin:
    """What some tensors are now. All that are not None must count their changes.

    Writes through ``.data`` go unnoticed.
    """

    __slots__ = ("_parts", "_steps")

    def __init__(self, tensors: Sequence[Tensor | None]) -> None:
        # Of each: the tensor, an alias that keeps its memory from being used again, and how often
        # it was written to.
        self._parts = [
            None if tensor is None else (weakref.ref(tensor), tensor.detach(), tensor._version)
            for tensor in tensors
        ]
        self._steps = _optimizer_steps

    def still(self, tensors: Sequence[Tensor | None]) -> bool:
        """Whether these are the same tensors, and none was written to since."""
        if self._steps != _optimizer_steps:
            return False
        for tensor, part in zip(tensors, self._parts, strict=True):
            if tensor is None or part is None:
                if tensor is not None or part is not None:
                    return False
            elif (
                part[0]() is not tensor
                or part[1].data_ptr() != tensor.data_ptr()
                or part[2] != tensor._version
            ):
                return False
        return True
