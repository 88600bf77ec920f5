"""Checkpoints: weights with what it takes to use them, so that a file needs no explanation.

A file is safetensors; the rest is one JSON text in its header. Nothing in it is code. What builds
the model is an installed plugin's factory, found by its name.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from zoo import tensor_files
from zoo.errors import UsageError, WeightsError
from zoo.names import one_line

if TYPE_CHECKING:
    from torch import Tensor, nn


class CheckpointError(WeightsError):
    """A checkpoint cannot be written, or is absent, damaged or of another kind."""


KIND = tensor_files.Kind(
    key="zoo.checkpoint",
    format=1,
    error=CheckpointError,
    absent="does not say which model it is of: name it (--model NAME)",
    outdated="save it again",
)

_NOT_FOR_FACTORIES = ("name", "pretrained", "checkpoint_path")


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What a checkpoint says of its weights. All values are plain ones.

    Attributes:
        architecture: canonical name, ``plugin/name``.
        model_kwargs: what :func:`zoo.create_model` takes besides: ``num_classes``, ``in_chans``
            and what the factory takes. Sequences come back as tuples.
        classes: class names in the order of the outputs.
        pretrained_cfg: the preprocessing, under the names of ``model.pretrained_cfg``:
            ``input_size``, ``mean``, ``std``, ``interpolation``, ``crop_pct``.
        dataset: what it was trained on. epoch: after how many epochs.
        metrics: figures of this epoch, by the names of the run's summary.
        versions: package -> version.
    """

    architecture: str
    model_kwargs: Mapping[str, Any]
    classes: Sequence[str]
    pretrained_cfg: Mapping[str, Any]
    dataset: str | None = None
    epoch: int | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)


def save_checkpoint(
    path: str | os.PathLike[str],
    state_dict: Mapping[str, Tensor],
    info: Checkpoint,
    *,
    overwrite: bool = True,
) -> None:
    """Write weights and what they are of, whole or not at all: an older file stays until then.

    Raises:
        CheckpointError: writing fails, or ``info`` holds more than plain values.
        UsageError: the file exists and ``overwrite`` is false.
    """
    try:
        _check(asdict(info))
        tensor_files.write(path, KIND, {"checkpoint": asdict(info)}, state_dict, overwrite)
    except (TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(one_line(f"this model cannot be saved: {error}")) from error


def is_checkpoint(path: str | os.PathLike[str]) -> bool:
    """Whether a file says which model it is of, rather than being weights alone."""
    return tensor_files.holds(path, KIND)


def read_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """What a checkpoint says of its weights; reads the header alone, without torch.

    Raises:
        CheckpointError: the file is absent, damaged, not a checkpoint, or of another format.
    """
    return _info(tensor_files.read_description(path, KIND), path)


def load_model(path: str | os.PathLike[str]) -> nn.Module:
    """Build the model of a checkpoint and load its weights, of which all must fit.

    Returns:
        The module, in eval mode, with ``num_classes`` and ``pretrained_cfg``; in the latter,
        ``labels`` is the list of class names.

    Raises:
        CheckpointError: the file cannot be read, or no installed plugin has the architecture.
        WeightsError: its tensors are not the model's: says which.
    """
    from zoo.models import create_model
    from zoo.weights import load_state

    document, state = tensor_files.read(path, KIND)
    info = _info(document, path)
    kwargs = {name: _tuples(value) for name, value in info.model_kwargs.items()}
    try:
        model = create_model(info.architecture, **kwargs)
    except UsageError as error:  # an unknown name is one too
        raise CheckpointError(
            f"{os.fspath(path)} is a checkpoint of {info.architecture}, which cannot be built "
            f"here: {error}"
        ) from error
    load_state(model, state, f"of {os.fspath(path)} ({info.architecture})")
    config: Any = model.pretrained_cfg
    model.pretrained_cfg = {  # type: ignore[assignment]
        **{name: value for name, value in config.items() if name not in ("tag", "source")},
        **{name: _tuples(value) for name, value in info.pretrained_cfg.items()},
        "num_classes": info.model_kwargs.get("num_classes", len(info.classes)),
        "labels": list(info.classes),
    }
    model.num_classes = model.pretrained_cfg["num_classes"]  # type: ignore[index]
    return model.eval()


def check_architecture(path: str | os.PathLike[str], name: str) -> None:
    """Raise CheckpointError if a file says that it is of another architecture than ``name``."""
    if is_checkpoint(path) and (found := read_checkpoint(path).architecture) != name:
        raise CheckpointError(
            f"{os.fspath(path)} is a checkpoint of {found}, not of {name}: leave the model out, or "
            "name that one"
        )


def _info(document: Mapping[str, Any], path: str | os.PathLike[str]) -> Checkpoint:
    try:
        written = document["checkpoint"]
        _check(written)
        return Checkpoint(**written)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(
            one_line(f"{os.fspath(path)} is damaged ({error}): copy or save it again")
        ) from error


def _check(written: Mapping[str, Any]) -> None:
    """Raise TypeError or ValueError where fields are not what they should be."""
    types: dict[str, Any] = {
        "architecture": str,
        "model_kwargs": dict,
        "classes": (list, tuple),
        "pretrained_cfg": dict,
        "dataset": (str, type(None)),
        "epoch": (int, type(None)),
        "metrics": dict,
        "versions": dict,
    }
    for name, kind in types.items():
        if not isinstance(written[name], kind):
            raise TypeError(f"{name} is {written[name]!r}")
    if not all(isinstance(name, str) for name in written["classes"]):
        raise TypeError("classes are not all text")
    for name in _NOT_FOR_FACTORIES:
        if name in written["model_kwargs"]:
            raise ValueError(f"model_kwargs has {name!r}")


def _tuples(value: Any) -> Any:
    """Sequences as tuples, as the fields of ``pretrained_cfg`` are and as factories take sizes."""
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value
