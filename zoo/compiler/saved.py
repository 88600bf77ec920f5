"""Files of networks that are captured and rewritten: safetensors, with the graphs as JSON within.

The weights are plain ones beside the scales that are folded into them: packing is for one CPU and
is done when a file is used. Nothing in a file is code, and reading one runs none; what it may call
is listed in ``vocabulary.py``, and hashes show damage.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from zoo import tensor_files
from zoo._version import __version__
from zoo.compiler.graph_json import decode, encode, read_captured, write_captured
from zoo.compiler.network import Network
from zoo.errors import ZooError
from zoo.names import one_line
from zoo.ops import Precision

_PRECISIONS: dict[str, Precision] = {"default": "default", "exact": "exact"}
FORMAT = 1  # raised when older versions of zoo would misread what is written


class SavedModuleError(ZooError):
    """An optimized module cannot be written to a file, or read from one."""


KIND = tensor_files.Kind(
    key="zoo",
    format=FORMAT,
    error=SavedModuleError,
    absent="holds no optimized network: write one by zoo.optimize(model).save(path)",
    outdated="optimize and save the model again",
)


def write(
    network: Network, attributes: Mapping[str, Any], path: str | os.PathLike[str], overwrite: bool
) -> None:
    """Write a network and what else a module says of itself.

    Attributes that are not plain data are left out.

    Raises:
        SavedModuleError: the network holds what cannot be written down, or writing fails.
        UsageError: the file exists and ``overwrite`` is false.
    """
    tensors = _Tensors()
    try:
        description = {
            "precision": network.precision,
            "attributes": _plain(attributes),
            "captured": [write_captured(captured, tensors.store) for captured in network.captured],
        }
        tensor_files.write(path, KIND, description, tensors.by_name, overwrite)
    except ValueError as error:
        raise SavedModuleError(f"this network cannot be saved: {error}") from error


def read(path: str | os.PathLike[str]) -> tuple[Network, dict[str, Any]]:
    """What was written: the network, and the attributes.

    Raises:
        SavedModuleError: there is no such file, it is damaged or of another kind, or a newer
            version of zoo is needed.
    """
    document, tensors = tensor_files.read(path, KIND)
    try:
        graphs = [read_captured(graph, tensors) for graph in document["captured"]]
        network = Network(graphs[0], _PRECISIONS[document["precision"]])
        network.captured = graphs
        return network, decode(document["attributes"], {})
    except Exception as error:  # what a graph that is not well formed raises
        reason = one_line(f"{type(error).__name__}: {error}", 200)
        raise SavedModuleError(
            f"{os.fspath(path)} cannot be used here ({reason}): it was written by "
            f"zoo {one_line(document.get('zoo'), 40)} with torch "
            f"{one_line(document.get('torch'), 40)}, this is zoo {__version__} with torch "
            f"{torch.__version__}; optimize and save the model again"
        ) from error


class _Tensors:
    """The tensors of a file by name; those that are equal are there once."""

    def __init__(self) -> None:
        self.by_name: dict[str, Tensor] = {}
        self._names: dict[str, str] = {}  # by digest

    def store(self, name: str, tensor: Tensor) -> str:
        """The name under which the tensor is saved."""
        if tensor.device.type != "cpu" or tensor.layout is not torch.strided:
            raise ValueError(f"{name} is a {tensor.layout} tensor on {tensor.device}")
        tensor = tensor.detach().contiguous()
        digest = tensor_files.digest(tensor)
        if digest in self._names:
            return self._names[digest]
        while name in self.by_name:  # as another graph names a tensor of its own
            name += "_"
        self.by_name[name] = tensor
        self._names[digest] = name
        return name


def _plain(attributes: Mapping[str, Any]) -> Any:
    plain = {}
    for name, value in attributes.items():
        try:
            encode(value)
        except ValueError:
            continue
        plain[name] = value
    return encode(plain)
