"""What lowering knows of a tensor: its layout, and the buffer it lies in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, TypeGuard

import torch
from torch import Tensor

View: TypeAlias = tuple[int, int, list[int], list[int]]  # buffer, offset, sizes, strides
Storage: TypeAlias = Literal["arena", "constant", "input", "output", "foreign"]


@dataclass(eq=False)
class Buffer:
    """Memory of one kind; ``first`` and ``last`` are the steps that use it first and last."""

    storage: Storage
    dtype: torch.dtype
    elements: int = 0
    tensor: Callable[[], Tensor | None] | None = None  # gives a constant's
    fresh: bool = False  # which nothing else refers to
    index: int = 0  # an input's place among those that are tensors
    first: int | None = None
    last: int = -1
    id: int = -1  # of the finished plan

    @property
    def bytes(self) -> int:
        """What it takes in the arena."""
        return self.elements * self.dtype.itemsize

    def use(self, step: int) -> None:
        """Note that this step reads or writes it."""
        self.first = step if self.first is None else min(self.first, step)
        self.last = max(self.last, step)


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor of the plan: ``fake`` has its sizes, strides and offset in ``buffer``, no data."""

    fake: Tensor
    buffer: Buffer

    @property
    def bytes(self) -> int:
        """Of its elements."""
        return int(self.fake.numel()) * self.fake.dtype.itemsize

    @property
    def fills(self) -> bool:
        """Whether these are all elements of the buffer, from the first to the last."""
        return int(self.fake.storage_offset()) == 0 and self.fake.numel() == self.buffer.elements

    def view(self, fake: Tensor | None = None) -> View:
        """What the plan's steps take; ``fake`` is another view of the same memory."""
        fake = self.fake if fake is None else fake
        return (
            self.buffer.id,
            int(fake.storage_offset()),
            [int(size) for size in fake.shape],
            [int(stride) for stride in fake.stride()],
        )


def is_float(value: Any) -> TypeGuard[Value]:
    """Whether it is a float32 tensor of the plan."""
    return isinstance(value, Value) and value.fake.dtype == torch.float32


def is_map(value: Any) -> TypeGuard[Value]:
    """Whether it is one of four dimensions."""
    return is_float(value) and value.fake.dim() == 4


@dataclass(frozen=True)
class Weight:
    """A layer's weight: float32 ``plain``, whose filters are multiplied by ``scale``, if any."""

    plain: Tensor
    scale: Tensor | None

    @property
    def shape(self) -> torch.Size:
        """Its sizes, the filters first."""
        return self.plain.shape

    def product(self) -> Tensor:
        """A plain weight of the same values."""
        return self.plain if self.scale is None else self.plain * self.scale


@dataclass
class Step:
    """Something that a plan does, to be told to it once all buffers have their places.

    ``emit`` gets the plan; ``node`` is the name of the graph's node; ``moved`` are the bytes of the
    values that it reads and writes, ``weights`` those of constants. The result may lie where
    ``over`` lay, each of whose elements is read before the result's is written there.
    """

    node: str
    op: str
    reads: list[Buffer]
    writes: list[Buffer]
    emit: Callable[[Any], None]
    shape: list[int] = field(default_factory=list)
    flops: int = 0
    moved: int = 0
    weights: int = 0
    over: Buffer | None = None
