"""Reading of pickled batches of images without running what a pickle may ask for.

CIFAR comes as pickles of dicts, lists, strings and NumPy arrays. Plain values need no code; for the
arrays, classes of this module stand in, which keep what they are given. Nothing else is found.
"""

from __future__ import annotations

import io
import math
import pickle
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.errors import DataError
from zoo.names import one_line


class _Array:
    """Stands in for ``numpy.ndarray`` and the function that begins one."""

    shape: tuple[int, ...]
    dtype: Any
    raw: Any

    def __init__(self, *begun: object) -> None:
        pass  # (class, shape, code of the type): the state says it all again

    def __setstate__(self, state: tuple[int, tuple[int, ...], Any, bool, Any]) -> None:
        _, self.shape, self.dtype, fortran, self.raw = state
        if fortran:
            raise ValueError("an array in column order")

    def pixels(self) -> Tensor:
        """Return the array as a uint8 tensor."""
        code = getattr(self.dtype, "code", None)
        if code not in ("u1", b"u1") or not isinstance(self.raw, bytes):
            raise ValueError(f"an array of {code!r} instead of uint8")
        if min(self.shape, default=0) < 0 or math.prod(self.shape) != len(self.raw):
            raise ValueError(f"an array of shape {self.shape} with {len(self.raw)} bytes")
        return torch.from_numpy(np.frombuffer(self.raw, np.uint8).reshape(self.shape).copy())


class _Type:
    """Stands in for ``numpy.dtype``."""

    def __init__(self, code: object, *options: object) -> None:
        self.code = code

    def __setstate__(self, state: object) -> None:
        pass  # byte order and alignment, which single bytes do not have


class _Bytes(bytes):
    """Stands in for ``codecs.encode``, by which Python 3 writes bytes at protocols 0 to 2."""

    def __new__(cls, text: str, encoding: str) -> _Bytes:
        if encoding != "latin1":
            raise ValueError(f"bytes in the encoding {encoding!r}")
        return super().__new__(cls, text.encode("latin1"))

    def __setstate__(self, state: object) -> None:
        raise ValueError("bytes with a state")


# Only classes with a __setstate__ of their own: a pickle can change the state of what it finds.
_STAND_INS: dict[tuple[str, str], type] = {
    ("_codecs", "encode"): _Bytes,
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Type,
}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> type:
        try:
            return _STAND_INS[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}") from None


def read_pickled(content: bytes, name: str) -> dict[str, Any]:
    """Return a pickled dict of plain values and uint8 arrays, the arrays as tensors.

    Args:
        content: the file's bytes, of protocol 0 to 4, written by Python 2 or 3.
        name: of the file, for messages.

    Raises:
        DataError: it is damaged, or holds anything else.
    """
    try:
        values = _Reader(io.BytesIO(content), encoding="bytes").load()
        return {
            key.decode() if isinstance(key, bytes) else str(key): (
                value.pixels() if isinstance(value, _Array) else value
            )
            for key, value in values.items()
        }
    except Exception as error:  # damaged pickles raise nearly anything
        raise DataError(
            one_line(
                f"{name} is damaged, or holds more than labels and pixels, which is refused "
                f"because unpickling runs code ({error}): get the data anew, or write it with "
                "lists of labels and uint8 arrays alone"
            )
        ) from error
