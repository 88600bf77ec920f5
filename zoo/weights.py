"""Trained weights: find the file, verify it, read it without unpickling, fit it to the model."""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Container, Mapping
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import torch
from torch import Tensor, nn

from zoo.config import cache_dir
from zoo.errors import WeightsError
from zoo.names import one_line
from zoo.registry import load_target
from zoo.specs import Architecture, Weights

StateDict = dict[str, Tensor]

CONTAINERS = ("state_dict", "model")
"""Keys under which training programs keep the state dict in a checkpoint."""

PREFIXES = ("module.", "_orig_mod.")
"""What DataParallel and torch.compile put before the names of tensors."""


def load_pretrained(
    model: nn.Module,
    name: str,
    spec: Architecture,
    weights: Weights,
    *,
    num_classes: int | None,
    in_chans: int,
) -> None:
    """Load pretrained weights into a model built with ``num_classes`` and ``in_chans``.

    Args:
        name: canonical name with tag, for messages.
        num_classes: what the user asked for; ``None`` stands for what the weights have. With
            another number, the tensors of the classifier are left out and stay random.
        in_chans: channels of the model's input; the first convolution is adapted.

    Raises:
        WeightsError: the file cannot be had, is damaged, or does not fit.
    """
    classes = weights.num_classes if weights.num_classes is not None else spec.num_classes
    if num_classes is None:
        num_classes = classes
    if weights.loader is not None:
        loader = load_target(weights.loader)
        loader(model, weights, num_classes=num_classes, in_chans=in_chans)
        return
    state = read(locate(weights.source, weights.sha256), weights.sha256)
    state = _without_wrappers(state, model)
    if weights.convert is not None:
        state = load_target(weights.convert)(state, model)
    size = weights.input_size or spec.input_size
    channels = size[0] if size else 3
    if in_chans != channels:
        state = _adapt_input(state, model, channels, in_chans)
    left_out: set[str] = set()
    if classes is not None and num_classes != classes:
        state, left_out = _drop_classifier(state, model, classes, num_classes)
    load_state(model, state, name, left_out)


def load_checkpoint(model: nn.Module, path: str | os.PathLike[str]) -> None:
    """Load a local checkpoint into a model; every tensor must fit.

    Raises:
        WeightsError: the file is absent, damaged, holds more than tensors, or does not fit.
    """
    file = Path(os.path.expanduser(path))
    load_state(model, _without_wrappers(read(file), model), str(file))


def load_for_fine_tuning(model: nn.Module, path: str | os.PathLike[str], num_classes: int) -> None:
    """Load a local checkpoint into a model of ``num_classes``; every tensor but the head must fit.

    The tensors of a head with another number of classes are left out, and stay as they are.

    Raises:
        WeightsError: the file is absent, damaged, holds more than tensors, or does not fit.
    """
    file = Path(os.path.expanduser(path))
    state, left_out = _without_wrappers(read(file), model), set[str]()
    classes = {
        ours.shape[0]
        for ours, theirs in _mismatched(state, model).values()
        if ours.ndim and ours.shape[1:] == theirs.shape[1:] and theirs.shape[0] == num_classes
    }
    if len(classes) == 1:
        state, left_out = _drop_classifier(state, model, classes.pop(), num_classes)
    load_state(model, state, str(file), left_out)


def load_state(
    model: nn.Module, state: StateDict, name: str, left_out: Container[str] = ()
) -> None:
    """Load a state dict that must fit but for the tensors left out.

    Args:
        name: whose weights they are, for messages.

    Raises:
        WeightsError: names what is missing, unknown or of another shape.
    """
    mismatched = _mismatched(state, model)
    fitting = {key: tensor for key, tensor in state.items() if key not in mismatched}
    try:
        missing, unexpected = model.load_state_dict(fitting, strict=False)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise WeightsError(one_line(f"the weights {name} do not fit the model: {error}")) from error
    missing = [key for key in missing if key not in left_out and key not in mismatched]
    problems = [
        f"{len(keys)} {what} ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})"
        for keys, what in (
            (missing, "missing"),
            (unexpected, "unknown to the model"),
            (
                [
                    f"{key} {tuple(ours.shape)} for {tuple(theirs.shape)}"
                    for key, (ours, theirs) in mismatched.items()
                ],
                "of another shape",
            ),
        )
        if keys
    ]
    if problems:
        hint = _hint(mismatched)
        raise WeightsError(f"the weights {name} do not fit the model: {'; '.join(problems)}{hint}")


def locate(source: str, sha256: str | None = None) -> Path:
    """Return the local file of a weights source; download it into the cache if need be.

    Raises:
        WeightsError: there is no such file, package or repository, or it cannot be reached.
    """
    if source.startswith("package:"):
        return _in_package(source.removeprefix("package:"))
    if source.startswith("https://"):
        return _download(source, sha256)
    if source.startswith("hf-hub:"):
        return _from_hub(source.removeprefix("hf-hub:"))
    path = Path(os.path.expanduser(source))
    if not path.is_file():
        raise WeightsError(f"there is no weights file {str(path)!r}")
    return path


def _in_package(where: str) -> Path:
    package, _, inside = where.partition("/")
    try:
        found = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        found = None
    folders = list(found.submodule_search_locations or ()) if found else []
    if not folders:
        raise WeightsError(f"the weights are in the package {package!r}, which is not installed")
    for folder in folders:
        if (path := Path(folder, inside)).is_file():
            return path
    raise WeightsError(f"the package {package!r} in {folders[0]} has no file {inside!r}")


def _download(url: str, sha256: str | None) -> Path:
    base = os.path.basename(urlsplit(url).path) or "weights"
    key = (sha256 or hashlib.sha256(url.encode()).hexdigest())[:16].lower()
    path = Path(cache_dir(), "weights", f"{key}-{base}")
    if path.is_file():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Writes to a temporary name beside the file, compares the hash, then renames.
        torch.hub.download_url_to_file(url, str(path), sha256.lower() if sha256 else None)
    except (OSError, RuntimeError, ValueError) as error:
        raise WeightsError(one_line(f"cannot download {url}: {error}")) from error
    return path


def _from_hub(where: str) -> Path:
    """Return a file of a Hugging Face repository, given as ``ORG/REPO[/FILE][@REVISION]``."""
    try:
        import huggingface_hub
    except ImportError:
        raise WeightsError(
            f"the weights hf-hub:{where} need huggingface_hub: pip install huggingface_hub"
        ) from None
    where, _, revision = where.partition("@")
    organisation, _, rest = where.partition("/")
    repository, _, file = rest.partition("/")
    names = [file] if file else ["model.safetensors", "pytorch_model.bin"]
    for name in names:
        try:
            return Path(
                huggingface_hub.hf_hub_download(
                    f"{organisation}/{repository}", name, revision=revision or None
                )
            )
        except huggingface_hub.errors.LocalEntryNotFoundError as error:
            raise WeightsError(f"cannot reach the hub for hf-hub:{where}") from error
        except huggingface_hub.errors.EntryNotFoundError:
            continue
        except Exception as error:
            raise WeightsError(one_line(f"cannot download hf-hub:{where}: {error}")) from error
    raise WeightsError(f"hf-hub:{where} has none of {', '.join(names)}")


def read(path: Path, sha256: str | None = None) -> StateDict:
    """Return the tensors of a file, on the CPU; compare its hash first, if one is given.

    Reads safetensors, and ``torch.save`` files with ``weights_only=True``: nothing is ever
    unpickled but tensors and plain containers.

    Raises:
        WeightsError: the file is absent, has another hash, is damaged or holds more.
    """
    try:
        with path.open("rb") as file:
            if sha256 is not None:
                _verify(file, path, sha256)
            if path.suffix == ".safetensors":
                from safetensors.torch import load

                loaded: Any = load(file.read())
            else:
                loaded = torch.load(file, map_location="cpu", weights_only=True)
    except WeightsError:
        raise
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror or error}") from error
    except Exception as error:
        # Damaged files raise many types: UnpicklingError, SafetensorError, RuntimeError, EOFError.
        raise WeightsError(
            f"{path} is damaged, or holds more than tensors (which is refused, because "
            "unpickling runs code): save a state_dict, or safetensors"
        ) from error
    return unwrap(loaded, path)


def unwrap(loaded: Any, path: Path) -> StateDict:
    """Return the state dict within what a checkpoint holds.

    Raises:
        WeightsError: there is none.
    """
    for container in CONTAINERS:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(container), Mapping):
            loaded = loaded[container]
            break
    if (
        not isinstance(loaded, Mapping)
        or not loaded
        or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in loaded.items())
    ):
        raise WeightsError(f"{path} holds no state dict, that is, tensors under their names")
    return dict(loaded)


def _without_wrappers(state: StateDict, model: nn.Module) -> StateDict:
    """Return the state dict without the prefixes of wrappers that the model is not in."""
    own = model.state_dict()
    for _ in PREFIXES:
        for prefix in PREFIXES:
            if all(name.startswith(prefix) for name in state) and not any(
                name.startswith(prefix) for name in own
            ):
                state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


def _verify(file: IO[bytes], path: Path, sha256: str) -> None:
    digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    if digest != sha256.lower():
        raise WeightsError(
            f"{path} has the sha256 {digest[:12]}..., not {sha256[:12].lower()}...: the file is "
            "not the one that was published; delete it and try again"
        )
    file.seek(0)


def _mismatched(state: StateDict, model: nn.Module) -> dict[str, tuple[Tensor, Tensor]]:
    """Return the tensors of another shape than the model's: name -> (the file's, the model's)."""
    own = model.state_dict()
    return {
        name: (tensor, own[name])
        for name, tensor in state.items()
        if name in own and tensor.shape != own[name].shape
    }


def _adapt_input(state: StateDict, model: nn.Module, channels: int, in_chans: int) -> StateDict:
    """Fit convolutions that read the image to another number of channels.

    One channel takes the sum of the filters, as if the grey image were given in every
    channel. Otherwise the filters are repeated in turn and scaled by ``channels / in_chans``,
    which keeps the size of the activations.
    """
    state = dict(state)
    for name, (ours, theirs) in _mismatched(state, model).items():
        expected = (ours.shape[0], in_chans, *ours.shape[2:])
        if ours.ndim < 3 or ours.shape[1] != channels or theirs.shape != expected:
            continue
        weight = ours.float()
        if in_chans == 1:
            weight = weight.sum(dim=1, keepdim=True)
        else:
            weight = weight[:, torch.arange(in_chans) % channels] * (channels / in_chans)
        state[name] = weight.to(ours.dtype)
    return state


def _drop_classifier(
    state: StateDict, model: nn.Module, classes: int, num_classes: int | None
) -> tuple[StateDict, set[str]]:
    """Leave out tensors with one row per class, where the model has other or no classes."""
    own = model.state_dict()
    left_out = {
        name
        for name, (ours, theirs) in _mismatched(state, model).items()
        if ours.ndim and ours.shape[0] == classes and theirs.shape[0] == num_classes
    }
    if num_classes == 0:  # by convention no classifier: the features come out
        left_out |= {
            name
            for name, tensor in state.items()
            if name not in own and tensor.ndim and tensor.shape[0] == classes
        }
    return {name: tensor for name, tensor in state.items() if name not in left_out}, left_out


def _hint(mismatched: dict[str, tuple[Tensor, Tensor]]) -> str:
    """Return the remedy where only the number of classes seems to differ."""
    if not mismatched:
        return ""
    rows = {ours.shape[0] for ours, _ in mismatched.values() if ours.ndim}
    same_but_rows = all(
        ours.ndim == theirs.ndim and ours.shape[1:] == theirs.shape[1:]
        for ours, theirs in mismatched.values()
    )
    return f"; try num_classes={rows.pop()}" if same_but_rows and len(rows) == 1 else ""
