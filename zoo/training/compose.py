"""Puts a run together from its settings, and finds what does not fit before the first batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.checkpoints import check_architecture, is_checkpoint, read_checkpoint
from zoo.data.pipeline import Transform, eval_transform, train_transform
from zoo.errors import UsageError
from zoo.models import create_loss, create_model
from zoo.names import one_line
from zoo.registry import Entry, get_registry
from zoo.training.config import TrainConfig
from zoo.training.data import Data, open_data
from zoo.training.state import seed_step
from zoo.weights import load_for_fine_tuning

Criterion = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Task:
    """What a run trains, on what, by what measure.

    Attributes:
        model: on the CPU, in train mode.
        architecture: canonical name. model_kwargs: what it was created with.
        preprocessing: ``input_size``, ``mean``, ``std``, ``interpolation``, ``crop_pct``.
        train, evaluation: the transforms of either split.
        loss: of logits and of what the train transform makes of targets.
    """

    config: TrainConfig
    data: Data
    model: nn.Module
    architecture: str
    model_kwargs: Mapping[str, Any]
    preprocessing: Mapping[str, Any]
    train: Transform
    evaluation: Transform
    loss: Criterion

    def example(self) -> Tensor:
        """Two images of noise in the model's size, normalised."""
        generator = torch.Generator().manual_seed(0)
        return torch.randn(2, *self.preprocessing["input_size"], generator=generator)


def compose(config: TrainConfig) -> Task:
    """Open the data, create the model with its starting weights, and check that all fits.

    Raises:
        ZooError: something does not exist or does not fit; the message names it.
    """
    entry, tag = get_registry().resolve_weights(config.model)
    name = entry.name if tag is None else f"{entry.name}.{tag}"
    loss_entry = get_registry().resolve("losses", config.loss.name)
    data = open_data(config)
    preprocessing = _preprocessing(config, entry, tag, data)
    train, evaluation = _transforms(config, preprocessing, data)
    loss = _loss(config, loss_entry, train)
    kwargs = _model_kwargs(config, entry, preprocessing, data)
    seed_step(config.seed, 0, 0)
    model = create_model(name, pretrained=config.pretrained, **kwargs)
    if config.initial_checkpoint:
        check_architecture(config.initial_checkpoint, entry.name)
        load_for_fine_tuning(model, config.initial_checkpoint, len(data.classes))
    task = Task(config, data, model, entry.name, kwargs, preprocessing, train, evaluation, loss)
    _try(task, name)
    return task


def _preprocessing(
    config: TrainConfig, entry: Entry, tag: str | None, data: Data
) -> dict[str, Any]:
    """What images are prepared to: the starting weights' way, else the data set's, the model's."""
    spec = entry.spec
    weights = spec.weights.get(tag or next(iter(spec.weights), None))
    start: dict[str, Any] = {}
    if config.initial_checkpoint and is_checkpoint(config.initial_checkpoint):
        start = dict(read_checkpoint(config.initial_checkpoint).pretrained_cfg)
    elif config.pretrained and weights is not None:
        for key in ("input_size", "mean", "std", "interpolation", "crop_pct"):
            value = getattr(weights, key)
            start[key] = getattr(spec, key) if value is None else value
    size = config.input_size or start.get("input_size")
    if size is None and (data.image_size and "img_size" in spec.capabilities):
        size = data.image_size
    if size is None and spec.input_size:
        size = (data.image_size or spec.input_size)[0], *spec.input_size[1:]
    size = size or data.image_size
    if size is None:
        raise UsageError(f"{entry.name} does not say how large its images are: give --input-size")
    ours = data.spec if data.spec is not None and data.spec.mean and data.spec.std else spec
    native = data.image_size is not None and tuple(size[1:]) == data.image_size[1:]
    found = {
        "input_size": tuple(size),
        "mean": start.get("mean") or ours.mean or spec.mean,
        "std": start.get("std") or ours.std or spec.std,
        "interpolation": start.get("interpolation") or spec.interpolation,
        # Images that have the model's size are not cropped.
        "crop_pct": 1.0 if native else start.get("crop_pct") or spec.crop_pct,
    }
    return {key: value for key, value in found.items() if value is not None}


def _transforms(
    config: TrainConfig, preprocessing: Mapping[str, Any], data: Data
) -> tuple[Transform, Transform]:
    evaluation = eval_transform(**preprocessing)
    classes = len(data.classes)
    plain = config.no_aug if config.no_aug is not None else config.freeze is not None
    if plain:
        if config.mixup or config.cutmix or config.augment or config.aa or config.reprob:
            raise UsageError(
                "no_aug leaves out mixup, cutmix, augment, aa and reprob: leave them out too, or "
                "add --aug"
            )
        soft = classes if config.smoothing else None
        return dataclasses.replace(
            evaluation, num_classes=soft, smoothing=config.smoothing
        ), evaluation
    return train_transform(
        evaluation.input_size,
        mean=evaluation.mean,
        std=evaluation.std,
        scale=_pair(config.scale),
        ratio=_pair(config.ratio),
        crop_padding=config.crop_padding,
        hflip=config.hflip,
        color_jitter=config.color_jitter or 0.0,
        aa=config.aa,
        augment=[(each.name, each.arguments) for each in config.augment],
        reprob=config.reprob,
        mixup=config.mixup,
        cutmix=config.cutmix,
        mixup_prob=config.mixup_prob,
        smoothing=config.smoothing,
        num_classes=classes,
    ), evaluation


def _pair(values: tuple[float, ...]) -> tuple[float, float]:
    low, high = values
    return low, high


def _loss(config: TrainConfig, entry: Entry, train: Transform) -> Criterion:
    """The loss as a function of logits and of the targets that the transform gives."""
    spec = entry.spec
    accepted = (spec.target,) if isinstance(spec.target, str) else spec.target
    if spec.needs_features or not {"index", "soft", "multihot"} & {*accepted}:
        raise UsageError(
            f"{entry.name} is a loss of features, and training gives it logits: choose another "
            "--loss (zoo list-losses)"
        )
    if train.num_classes is not None and "soft" not in accepted:
        able = [
            other.name
            for other in get_registry().entries("losses")
            if "soft" in (other.spec.target, *other.spec.target)
        ]
        raise UsageError(
            f"mixup, cutmix and smoothing make probabilities of targets, and {entry.name} takes "
            f"{' or '.join(accepted)}: leave them out, or choose --loss {' or '.join(able)}"
        )
    loss = create_loss(entry.name, **config.loss.arguments)
    if train.num_classes is not None or "index" in accepted:
        return loss
    return lambda logits, targets: loss(logits, F.one_hot(targets, logits.shape[1]).float())


def _model_kwargs(
    config: TrainConfig, entry: Entry, preprocessing: Mapping[str, Any], data: Data
) -> dict[str, Any]:
    channels, height, width = preprocessing["input_size"]
    kwargs = {"num_classes": len(data.classes), "in_chans": channels, **config.model_kwargs}
    size = entry.spec.input_size
    if "img_size" in entry.spec.capabilities and (size is None or size[1:] != (height, width)):
        kwargs.setdefault("img_size", (height, width))
    return kwargs


def _try(task: Task, name: str) -> None:
    """Let the model and the loss run once on noise, so that sizes that do not fit show."""
    example = task.example()
    classes = len(task.data.classes)
    size = "x".join(map(str, example.shape[1:]))
    task.model.eval()
    try:
        with torch.no_grad():
            logits = task.model(example)
    except Exception as error:  # whatever the model's code raises
        raise UsageError(
            one_line(f"{name} does not take images of {size} ({error}): give another --input-size")
        ) from error
    if not isinstance(logits, Tensor) or logits.shape != (2, classes):
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise UsageError(
            f"{name} returns {shape} for two images of {size}, not logits {(2, classes)}: it "
            f"cannot be trained on {classes} classes"
        )
    targets = torch.tensor([0, 1])
    if task.train.num_classes is not None:
        targets = F.one_hot(targets, classes).float()
    try:
        value = task.loss(logits, targets)
    except Exception as error:
        raise UsageError(one_line(f"the loss {task.config.loss.name} fails: {error}")) from error
    if value.ndim:
        raise UsageError(
            f"the loss {task.config.loss.name} returns {tuple(value.shape)}, not one number: leave "
            "out reduction"
        )
    task.model.train()
