"""Training of the classifier alone: the frozen part computes features, once where it can.

Without augmentation the features of an image never change: they are computed once, by
``zoo.optimize`` on the CPU, and kept in the folder ``features`` of the cache. With augmentation the
frozen part runs in each step, optimized too.
"""

from __future__ import annotations

import copy
import hashlib
import os
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import torch
from torch import Tensor, nn

import zoo
from zoo import tensor_files
from zoo._version import __version__
from zoo.config import cache_dir
from zoo.data.datasets import fingerprint
from zoo.data.datasets.base import ImagesInMemory
from zoo.data.loader import Loader
from zoo.data.pipeline import Transform
from zoo.errors import UsageError, ZooError
from zoo.training.compose import Task

Features = Callable[[Tensor], Tensor]


class FeaturesError(ZooError):
    """Features cannot be kept in the cache, or read from it."""


KIND = tensor_files.Kind(
    key="zoo.features",
    format=1,
    error=FeaturesError,
    absent="holds no features: delete it",
    outdated="delete it",
)


def split_model(task: Task) -> tuple[nn.Module, nn.Module]:
    """The part of a model that is frozen, and its classifier, which shares the model's weights.

    Raises:
        UsageError: the model does not end in a layer with an output per class.
    """
    model, classes = task.model, len(task.data.classes)
    ends = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d) and module.weight.shape[0] == classes
    ]
    if ends:
        name, head = ends[-1]
        model.eval()
        backbone = copy.deepcopy(model)
        backbone.set_submodule(name, nn.Identity())
        example = task.example()
        with torch.no_grad():
            features = backbone(example)
            same = isinstance(features, Tensor) and _gives(head, features, model(example))
        if same:
            return backbone.requires_grad_(False), head
    raise UsageError(
        f"{task.architecture} does not end in its classifier, so the rest cannot be frozen: leave "
        "out --freeze"
    )


def _gives(head: nn.Module, features: Tensor, logits: Tensor) -> bool:
    try:
        return torch.allclose(head(features), logits, rtol=1e-4, atol=1e-5)
    except RuntimeError:  # of shapes that do not fit
        return False


def fast_features(
    task: Task, backbone: nn.Module, device: torch.device, note: Callable[[str], None]
) -> Features:
    """The frozen part as a function, on a device; without gradients."""
    run: Features = backbone.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if device.type == "cpu" and task.config.optimize:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # told by the note
            fast = zoo.optimize(backbone, task.example())
        if fast.reason is None:
            run = fast
        else:
            note(f"the frozen part runs in PyTorch: {fast.reason}")

    def features(images: Tensor) -> Tensor:
        with torch.no_grad():
            return run(images)

    return features


def cached_features(
    task: Task, backbone: nn.Module, device: torch.device, note: Callable[[str], None]
) -> tuple[ImagesInMemory, ImagesInMemory]:
    """The features of the images to train on and to evaluate on, from the cache or anew.

    They come as data sets whose images are features: a vector of length F is ``(F, 1, 1)``.
    Unreadable images are left out.

    Raises:
        FeaturesError: the cache cannot be written.
    """
    prepared = cache(partial(fast_features, task, backbone, device, note))  # only if it is needed

    def of(dataset: ImagesInMemory) -> ImagesInMemory:
        key = _key(task, backbone, dataset, device)
        path = Path(cache_dir(), "features", f"{key}.safetensors")
        try:
            _, held = tensor_files.read(path, KIND)
        except FeaturesError:
            note(f"computing the features of {len(dataset)} images, once")
            start = time.monotonic()
            held = _compute(task, prepared(), dataset, device)
            note(f"that took {time.monotonic() - start:.1f} s")
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise FeaturesError(f"cannot make {path.parent}: {error.strerror}") from error
            tensor_files.write(path, KIND, {"model": task.architecture}, held, overwrite=True)
        return ImagesInMemory(held["features"], held["targets"], dataset.classes)

    return of(task.data.train), of(task.data.evaluation)


def feature_transform(transform: Transform, features: Tensor) -> Transform:
    """What a transform does to features ``(N, F, H, W)``: nothing; targets as they were to be."""
    size = features.shape[1], features.shape[2], features.shape[3]
    return replace(transform, input_size=size, mean=(0.0,) * size[0], std=(1.0,) * size[0])


def _compute(
    task: Task, run: Features, dataset: ImagesInMemory, device: torch.device
) -> dict[str, Tensor]:
    config = task.config
    loader = Loader(
        dataset,
        config.batch_size,
        transform=task.evaluation,
        workers=max(config.workers, 1),  # reads while the frozen part computes
        on_error="raise" if config.on_error == "raise" else "skip",
    )
    features, targets = [], []
    for batch in loader:
        if len(batch.images):
            features.append(run(batch.images.to(device)).float().cpu())
            targets.append(batch.targets)
    if not features:
        raise FeaturesError("no image can be read: zoo data check shows why")
    found = torch.cat(features)
    return {
        "features": found.reshape(*found.shape[:2], *(found.shape[2:] or (1, 1))),
        "targets": torch.cat(targets),
    }


def _key(task: Task, backbone: nn.Module, dataset: ImagesInMemory, device: torch.device) -> str:
    """What features depend on, as a hash."""
    parts = [
        __version__,
        torch.__version__,
        task.architecture,
        str(sorted(task.preprocessing.items())),
        f"{device.type} {task.config.optimize}",
        fingerprint(dataset),
        *(tensor_files.digest(value.detach().cpu()) for value in backbone.state_dict().values()),
    ]
    return hashlib.sha256(os.fsencode("\0".join(parts))).hexdigest()[:32]
