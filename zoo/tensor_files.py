"""Files of tensors with a description: safetensors, with one JSON text in the header.

Nothing in a file is code, and reading one runs none. Hashes within it show damage, but not who
wrote it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import safe_open

from zoo._version import __version__
from zoo.errors import UsageError, ZooError
from zoo.files import replacing
from zoo.names import one_line

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Kind:
    """What files are for.

    Attributes:
        key: name of the description in the header.
        format: raised when older versions of zoo would misread what is written.
        error: what is raised for files that cannot be read or written.
        absent: what to say of a file without such a description, as in ``"holds no ...: ..."``.
        outdated: the remedy for a file in another format.
    """

    key: str
    format: int
    error: type[ZooError]
    absent: str
    outdated: str


def write(
    path: str | os.PathLike[str],
    kind: Kind,
    description: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    overwrite: bool,
) -> None:
    """Write tensors and what describes them, whole or not at all.

    Raises:
        UsageError: the file exists and ``overwrite`` is false.
        ValueError: the description is more than JSON can say.
        kind.error: writing fails.
    """
    import torch
    from safetensors.torch import save_file

    file = Path(os.path.expanduser(path))
    if file.exists() and not overwrite:
        raise UsageError(f"{file} exists: choose another name, or give overwrite=True")
    apart = _apart(tensors)
    document = {
        "format": kind.format,
        "zoo": __version__,
        "torch": torch.__version__,
        **description,
        "tensors": {name: digest(tensor) for name, tensor in apart.items()},
    }
    text = json.dumps(document, allow_nan=False, separators=(",", ":"))
    metadata = {kind.key: text, "sha256": hashlib.sha256(text.encode()).hexdigest()}
    try:
        with replacing(file) as temporary:
            try:
                save_file(apart, temporary, metadata)
            except Exception as error:  # safetensors' own, for a full disk say
                raise OSError(one_line(error)) from error
    except OSError as error:
        reason = error.strerror or one_line(error)
        raise kind.error(f"cannot write {file}: {reason}") from error


def read(path: str | os.PathLike[str], kind: Kind) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The description and the tensors of a file, on the CPU.

    Raises:
        kind.error: there is no such file, it is damaged or of another kind, or a newer version of
            zoo is needed.
    """
    return _open(path, kind, "pt")


def read_description(path: str | os.PathLike[str], kind: Kind) -> dict[str, Any]:
    """The description alone, read without torch; raises as :func:`read` does."""
    return _open(path, kind, "np")[0]


def holds(path: str | os.PathLike[str], kind: Kind) -> bool:
    """Whether a file is of a kind; of what cannot be read that is not known to be so."""
    try:
        with safe_open(Path(os.path.expanduser(path)), framework="np") as opened:
            return kind.key in (opened.metadata() or {})
    except Exception:
        return False


def digest(tensor: Tensor) -> str:
    """The hash of a tensor's type, shape and elements."""
    import torch

    found = hashlib.sha256(f"{tensor.dtype} {list(tensor.shape)}".encode())
    found.update(tensor.reshape(-1).view(torch.uint8).numpy())  # type: ignore[arg-type]
    return found.hexdigest()


def _open(
    path: str | os.PathLike[str], kind: Kind, framework: str
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    file = Path(os.path.expanduser(path))
    if not file.is_file():
        raise kind.error(f"there is no file {str(file)!r}")
    try:
        with file.open("rb") as stream:
            if stream.read(4) == b"PK\x03\x04":  # as torch.save begins
                raise kind.error(f"{file} {kind.absent}")
        with safe_open(file, framework=framework) as opened:
            document = _document(opened.metadata() or {}, file, kind)
            if set(opened.keys()) != set(document["tensors"]):
                raise ValueError("its tensors are not those that were written")
            if framework != "pt":
                return document, {}
            # Memory of our own: the file may change or vanish.
            tensors = {name: opened.get_tensor(name).clone() for name in opened.keys()}  # noqa: SIM118
        for name, tensor in tensors.items():
            if digest(tensor) != document["tensors"][name]:
                raise ValueError("a tensor differs from what was written")
    except kind.error:
        raise
    except OSError as error:
        reason = error.strerror or one_line(error)
        raise kind.error(f"cannot read {file}: {reason}") from error
    except Exception as error:  # SafetensorError, ValueError, KeyError, RecursionError, ...
        reason = one_line(f"{type(error).__name__}: {error}", 200)
        raise kind.error(f"{file} is damaged ({reason}): copy or save it again") from error
    return document, tensors


def _document(metadata: Mapping[str, str], file: Path, kind: Kind) -> dict[str, Any]:
    if metadata.keys() != {kind.key, "sha256"}:
        raise kind.error(f"{file} {kind.absent}")
    text = metadata[kind.key]
    if hashlib.sha256(text.encode()).hexdigest() != metadata["sha256"]:
        raise ValueError("its description differs from what was written")
    document: dict[str, Any] = json.loads(text)
    if document["format"] != kind.format:
        raise kind.error(
            f"{file} was written by zoo {one_line(document['zoo'], 40)} in format "
            f"{one_line(document['format'], 40)}, zoo {__version__} reads format {kind.format}: "
            f"install that version of zoo, or {kind.outdated}"
        )
    return document


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors on the CPU, contiguous, and without the shared memory that files cannot hold."""
    apart: dict[str, Tensor] = {}
    storages: set[int] = set()
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        storage = tensor.untyped_storage()
        if storage.data_ptr() in storages or storage.nbytes() != tensor.nbytes:
            tensor = tensor.clone()
        storages.add(tensor.untyped_storage().data_ptr())
        apart[name] = tensor
    return apart
