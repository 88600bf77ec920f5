"""What a training run is made of: one frozen value, which recipes, YAML files and flags fill in.

Names are timm's. Nothing here imports torch: mistakes are told before it is loaded.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import Field, dataclass, fields
from pathlib import Path
from typing import Any, get_type_hints

from zoo.errors import UnknownName, UsageError
from zoo.names import closest
from zoo.registry import get_registry
from zoo.training.settings import Named, checked, parse_yaml, plain_value, setting, without_none


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The settings of a run. ``None`` leaves the choice to what it says in the help line.

    Raises:
        UsageError: a value is of the wrong type or out of its bounds.
    """

    # Data
    dataset: str = setting(
        metavar="NAME|PATH",
        help="Data set: a name, a folder of pictures (a folder per class, perhaps within split "
        "folders such as train and val) or a .csv file.",
    )
    data_dir: str | None = setting(
        None, metavar="DIR", free=True, help="Folder that the data set lies in."
    )
    dataset_download: bool = setting(
        False, free=True, help="Download the data set where it is missing and may be downloaded."
    )
    recipe: str | None = setting(
        None,
        metavar="NAME",
        help="Settings to start from (zoo list-recipes); none for none.  [default: the data set's]",
    )
    train_split: str = setting("train", metavar="SPLIT", help="Split to train on.")
    val_split: str | None = setting(
        None,
        metavar="SPLIT",
        help="Split to evaluate on after each epoch.  [default: val, validation or test]",
    )
    val_share: float = setting(
        0.2,
        metavar="SHARE",
        least=0,
        below=1,
        help="Share of each class that is kept for evaluation where the data set has no split for "
        "it.",
    )
    on_error: str = setting(
        "skip", choices=("skip", "raise"), help="What an unreadable image does."
    )
    batch_size: int = setting(
        128, flags=("-b", "--batch-size"), metavar="N", least=1, help="Images per step and process."
    )
    workers: int = setting(
        0,
        flags=("-j", "--workers"),
        metavar="N",
        least=0,
        free=True,
        help="Processes that read images; the result does not depend on them.",
    )

    # Model
    model: str = setting(metavar="NAME", help="Model, with .TAG for its weights.")
    model_kwargs: dict[str, Any] = setting(
        {}, metavar="YAML", help="Further arguments of the model, as '{width: 32}'."
    )
    pretrained: bool = setting(False, help="Start from the model's pretrained weights.")
    initial_checkpoint: str | None = setting(
        None,
        metavar="FILE",
        help="Start from the weights in a file; a head for other classes starts anew.",
    )
    input_size: tuple[int, ...] | None = setting(
        None,
        metavar="C H W",
        count=3,
        least=1,
        help="Channels, height and width of the images.  [default: the pretrained weights', the "
        "data set's, the model's]",
    )
    freeze: str | None = setting(
        None, choices=("backbone",), help="Train the classifier alone; the rest stays as it is."
    )
    optimize: bool = setting(
        True, help="Run the frozen part by zoo.optimize, where it runs on the CPU."
    )

    # Augmentation
    no_aug: bool | None = setting(
        None,
        help="Leave out all augmentation: images as in evaluation.  [default: with --freeze]",
    )
    scale: tuple[float, ...] = setting(
        (0.08, 1.0), metavar="LOW HIGH", count=2, least=0, help="Area of the random crop."
    )
    ratio: tuple[float, ...] = setting(
        (3 / 4, 4 / 3), metavar="LOW HIGH", count=2, least=0, help="Its width over its height."
    )
    crop_padding: int | None = setting(
        None,
        metavar="N",
        least=0,
        help="Pixels by which images are shifted that have the model's size already.  [default: an "
        "eighth of it]",
    )
    hflip: float = setting(0.5, metavar="SHARE", least=0, most=1, help="Share of mirrored images.")
    color_jitter: float | None = setting(
        None, metavar="RANGE", least=0, help="Change brightness, contrast and saturation."
    )
    aa: str | None = setting(
        None, metavar="POLICY", help="AutoAugment or RandAugment policy, as rand-m9-mstd0.5."
    )
    augment: tuple[Named, ...] = setting(
        (),
        metavar="YAML",
        help="Further augmentation, as zoo/rotation or 'zoo/rotation: {degrees: 10}'. Repeatable.",
    )
    reprob: float = setting(
        0.0, metavar="SHARE", least=0, most=1, help="Share of images with a random part erased."
    )
    mixup: float = setting(0.0, metavar="ALPHA", least=0, help="Mixup; 0 for none.")
    cutmix: float = setting(0.0, metavar="ALPHA", least=0, help="CutMix; 0 for none.")
    mixup_prob: float = setting(
        1.0, metavar="SHARE", least=0, most=1, help="Share of images that either mixes."
    )
    smoothing: float = setting(
        0.0, metavar="SHARE", least=0, below=1, help="Label smoothing; 0 for none."
    )

    # Optimization
    epochs: int = setting(20, metavar="N", least=1, help="Passes over the training split.")
    loss: Named = setting(
        Named("zoo/cross_entropy"),
        metavar="YAML",
        help="Loss, as zoo/mse or 'zoo/cross_entropy: {label_smoothing: 0.1}'.",
    )
    opt: str = setting("adamw", metavar="NAME", help="Optimizer, by timm's name.")
    lr: float = setting(1e-3, metavar="RATE", least=0, help="Learning rate.")
    weight_decay: float = setting(0.05, metavar="RATE", least=0, help="Weight decay.")
    momentum: float = setting(
        0.9, metavar="SHARE", least=0, below=1, help="Momentum, of optimizers that have one."
    )
    opt_kwargs: dict[str, Any] = setting(
        {}, metavar="YAML", help="Further arguments of the optimizer, as '{betas: [0.9, 0.98]}'."
    )
    layer_decay: float | None = setting(
        None,
        metavar="FACTOR",
        least=0,
        most=1,
        help="Factor of the learning rate from each layer to the one before.  [default: none]",
    )
    clip_grad: float | None = setting(
        None, metavar="NORM", least=0, help="Longest gradient.  [default: any]"
    )
    grad_accum_steps: int = setting(
        1, metavar="N", least=1, help="Batches whose gradients are averaged for a step."
    )
    sched: str = setting(
        "cosine",
        choices=("cosine", "tanh", "step", "multistep", "poly", "wsd", "rsqrt", "constant"),
        help="Schedule of the learning rate.",
    )
    warmup_epochs: int = setting(
        0, metavar="N", least=0, help="Epochs in which the learning rate rises."
    )
    warmup_lr: float = setting(
        1e-5, metavar="RATE", least=0, help="Learning rate at the start of the warm-up."
    )
    min_lr: float = setting(0.0, metavar="RATE", least=0, help="Lowest learning rate.")
    decay_epochs: float | None = setting(
        None,
        metavar="N",
        least=0,
        help="Epochs between steps (step), or of the decay (wsd, rsqrt; below 1: a share).",
    )
    decay_milestones: tuple[int, ...] = setting(
        (30, 60), metavar="N", help="Epochs of the steps (multistep). Repeatable."
    )
    decay_rate: float = setting(
        0.1, metavar="FACTOR", least=0, help="Factor of a step; exponent (poly)."
    )
    model_ema: bool = setting(
        False, help="Evaluate and save an exponential moving average of the weights."
    )
    model_ema_decay: float = setting(
        0.9998, metavar="SHARE", least=0, below=1, help="What the average keeps of itself a step."
    )
    model_ema_warmup: bool = setting(False, help="Let the average begin with a short memory.")

    # Machine
    device: str = setting(
        "auto", choices=("auto", "cpu", "cuda"), free=True, help="Where to compute."
    )
    amp: bool = setting(False, help="Compute in half precision where it is safe.")
    amp_dtype: str = setting(
        "bfloat16", choices=("bfloat16", "float16"), help="Half precision's type."
    )
    channels_last: bool = setting(
        True, help="Keep the channels of a pixel beside each other, which is faster."
    )
    ops: str = setting(
        "auto",
        choices=("auto", "fused", "torch"),
        help="By what convolutions train: zoo's fused ops, PyTorch's, or on the CPU in float32 the "
        "faster ones, by measuring.",
    )
    seed: int = setting(0, metavar="N", least=0, help="Seed of all random numbers.")
    checkpoint_every: int = setting(
        0,
        metavar="STEPS",
        least=0,
        free=True,
        help="Also save the state within epochs, after so many steps; 0: at their ends alone.",
    )

    def __post_init__(self) -> None:
        for held in fields(self):
            value = checked(held, getattr(self, held.name), KINDS[held.name])
            object.__setattr__(self, held.name, value)
        if self.pretrained and self.initial_checkpoint:
            raise UsageError("give either pretrained or initial_checkpoint, not both")

    def plain(self) -> dict[str, Any]:
        """The settings as YAML writes them; :func:`read_settings` and the class read them back."""
        return {held.name: plain_value(getattr(self, held.name)) for held in fields(self)}


KINDS: dict[str, Any] = get_type_hints(TrainConfig)
"""Setting -> its type."""

SETTINGS: dict[str, Field[Any]] = {held.name: held for held in fields(TrainConfig)}
"""Setting -> its declaration."""


def kind_of(name: str) -> tuple[Any, bool]:
    """A setting's type without ``None``, and whether it may be ``None``."""
    return without_none(KINDS[name])


def absolute_paths(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings whose paths mean the same in every working folder."""
    found = dict(settings)
    for name in ("dataset", "data_dir", "initial_checkpoint"):
        value = found.get(name)
        # A data set's name comes before a path that is called alike.
        if isinstance(value, str) and not (name == "dataset" and _names_a_data_set(value)):
            found[name] = os.path.abspath(os.path.expanduser(value))
    return found


def _names_a_data_set(value: str) -> bool:
    try:
        get_registry().resolve("datasets", value)
    except UnknownName:
        return not os.path.exists(os.path.expanduser(value)) and os.sep not in value
    return True


def check_names(settings: Any, where: str) -> dict[str, Any]:
    """The settings in a file, all of them known by name.

    Raises:
        UsageError: it holds something else.
    """
    if not isinstance(settings, Mapping):
        raise UsageError(f"{where} must hold settings, as 'epochs: 10'")
    for name in settings:
        if name not in SETTINGS:
            close = closest(str(name), SETTINGS)
            hint = f"; did you mean {' or '.join(close)}?" if close else ""
            raise UsageError(f"{where}: there is no setting {str(name)!r}{hint}")
    return dict(settings)


def read_settings(path: Path) -> dict[str, Any]:
    """The settings in a YAML file, such as a run's ``args.yaml``.

    Raises:
        UsageError: there is no such file, or it holds something else.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"cannot read {path}: {reason}") from error
    return check_names(parse_yaml(text, str(path)), str(path))
