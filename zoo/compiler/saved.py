"""Files of networks that are captured and rewritten: safetensors, with the graphs as JSON within.

The weights are plain ones, folded but not packed: packing is for one CPU and is done when a file
is used. Nothing in a file is code, and reading one runs none; what it may call is listed in
``vocabulary.py``, and hashes show damage.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from zoo._version import __version__
from zoo.compiler.graph_json import decode, encode, read_captured, write_captured
from zoo.compiler.network import Network
from zoo.errors import UsageError, ZooError
from zoo.files import replacing
from zoo.names import one_line
from zoo.ops import Precision

_PRECISIONS: dict[str, Precision] = {"default": "default", "exact": "exact"}
FORMAT = 1  # raised when older versions of zoo would misread what is written


class SavedModuleError(ZooError):
    """An optimized module cannot be written to a file, or read from one."""


def write(
    network: Network, attributes: Mapping[str, Any], path: str | os.PathLike[str], overwrite: bool
) -> None:
    """Write a network and what else a module says of itself.

    Attributes that are not plain data are left out.

    Raises:
        SavedModuleError: the network holds what cannot be written down, or writing fails.
        UsageError: the file exists and ``overwrite`` is false.
    """
    file = Path(os.path.expanduser(path))
    if file.exists() and not overwrite:
        raise UsageError(f"{file} exists: choose another name, or give overwrite=True")
    tensors = _Tensors()
    try:
        graphs = [write_captured(captured, tensors.store) for captured in network.captured]
        document = {
            "format": FORMAT,
            "zoo": __version__,
            "torch": torch.__version__,
            "precision": network.precision,
            "attributes": _plain(attributes),
            "captured": graphs,
            "tensors": tensors.digests,
        }
        text = json.dumps(document, allow_nan=False, separators=(",", ":"))
    except ValueError as error:
        raise SavedModuleError(f"this network cannot be saved: {error}") from error
    metadata = {"zoo": text, "sha256": hashlib.sha256(text.encode()).hexdigest()}
    try:
        with replacing(file) as temporary:
            try:
                save_file(tensors.by_name, temporary, metadata)
            except Exception as error:  # safetensors' own, for a full disk say
                raise OSError(one_line(error)) from error
    except OSError as error:
        reason = error.strerror or one_line(error)
        raise SavedModuleError(f"cannot write {file}: {reason}") from error


def read(path: str | os.PathLike[str]) -> tuple[Network, dict[str, Any]]:
    """What was written: the network, and the attributes.

    Raises:
        SavedModuleError: there is no such file, it is damaged or of another kind, or a newer
            version of zoo is needed.
    """
    file = Path(os.path.expanduser(path))
    if not file.is_file():
        raise SavedModuleError(f"there is no file {str(file)!r}")
    try:
        with safe_open(file, framework="pt", device="cpu") as opened:
            document = _document(opened.metadata() or {}, file)
            tensors = {name: _tensor(opened, name) for name in sorted(document["tensors"])}
            whole = set(opened.keys()) == set(tensors)
        if not whole or document["tensors"] != {
            name: _digest(tensor) for name, tensor in tensors.items()
        }:
            raise ValueError("a tensor differs from what was written")
    except SavedModuleError:
        raise
    except OSError as error:
        reason = error.strerror or one_line(error)
        raise SavedModuleError(f"cannot read {file}: {reason}") from error
    except Exception as error:  # SafetensorError, ValueError, KeyError, RecursionError, ...
        raise SavedModuleError(
            f"{file} is damaged ({_reason(error)}): copy or save it again"
        ) from error
    try:
        graphs = [read_captured(graph, tensors) for graph in document["captured"]]
        network = Network(graphs[0], _PRECISIONS[document["precision"]])
        network.captured = graphs
        return network, decode(document["attributes"], {})
    except Exception as error:  # what a graph that is not well formed raises
        raise SavedModuleError(
            f"{file} cannot be used here ({_reason(error)}): it was written by "
            f"zoo {one_line(document.get('zoo'), 40)} with torch "
            f"{one_line(document.get('torch'), 40)}, this is zoo {__version__} with torch "
            f"{torch.__version__}; optimize and save the model again"
        ) from error


class _Tensors:
    """The tensors of a file by name; those that are equal are there once."""

    def __init__(self) -> None:
        self.by_name: dict[str, Tensor] = {}
        self.digests: dict[str, str] = {}
        self._names: dict[str, str] = {}  # by digest
        self._storages: set[int] = set()

    def store(self, name: str, tensor: Tensor) -> str:
        """The name under which the tensor is saved."""
        if tensor.device.type != "cpu" or tensor.layout is not torch.strided:
            raise ValueError(f"{name} is a {tensor.layout} tensor on {tensor.device}")
        tensor = tensor.detach().contiguous()
        digest = _digest(tensor)
        if digest in self._names:
            return self._names[digest]
        storage = tensor.untyped_storage()
        # safetensors wants tensors that share no memory.
        if storage.data_ptr() in self._storages or storage.nbytes() != tensor.nbytes:
            tensor = tensor.clone()
        self._storages.add(tensor.untyped_storage().data_ptr())
        while name in self.by_name:  # as another graph names a tensor of its own
            name += "_"
        self.by_name[name], self.digests[name] = tensor, digest
        self._names[digest] = name
        return name


def _digest(tensor: Tensor) -> str:
    """The hash of its type, shape and elements."""
    digest = hashlib.sha256(f"{tensor.dtype} {list(tensor.shape)}".encode())
    digest.update(tensor.reshape(-1).view(torch.uint8).numpy())  # type: ignore[arg-type]
    return digest.hexdigest()


def _tensor(opened: Any, name: str) -> Tensor:
    tensor: Tensor = opened.get_tensor(name)
    return tensor.clone()  # memory of our own: the file may change or vanish


def _document(metadata: Mapping[str, str], file: Path) -> dict[str, Any]:
    if metadata.keys() != {"zoo", "sha256"}:
        raise SavedModuleError(
            f"{file} holds no optimized network: write one by zoo.optimize(model).save(path)"
        )
    if hashlib.sha256(metadata["zoo"].encode()).hexdigest() != metadata["sha256"]:
        raise ValueError("its description differs from what was written")
    document: dict[str, Any] = json.loads(metadata["zoo"])
    if document["format"] != FORMAT:
        raise SavedModuleError(
            f"{file} was written by zoo {one_line(document['zoo'], 40)} in format "
            f"{one_line(document['format'], 40)}, zoo {__version__} reads format {FORMAT}: install "
            "that version of zoo, or optimize and save the model again"
        )
    return document


def _plain(attributes: Mapping[str, Any]) -> Any:
    plain = {}
    for name, value in attributes.items():
        try:
            encode(value)
        except ValueError:
            continue
        plain[name] = value
    return encode(plain)


def _reason(error: Exception) -> str:
    return one_line(f"{type(error).__name__}: {error}", 200)
