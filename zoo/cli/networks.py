"""Models as commands name them: by a name of the registry, by a file, or by both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.checkpoints import check_architecture, is_checkpoint, load_model, read_checkpoint
from zoo.errors import UsageError, WeightsError
from zoo.models import create_model
from zoo.registry import get_registry

if TYPE_CHECKING:
    from torch import nn

_Command = Callable[..., Any]


def network_options(command: _Command) -> _Command:
    """Add ``--model``, ``--checkpoint`` and ``--num-classes``, as :meth:`Network.named` takes."""
    for option in (
        click.option(
            "--num-classes",
            type=click.IntRange(min=1),
            metavar="N",
            help="Outputs of the model that a file of weights alone is of.  [default: the model's "
            "own]",
        ),
        click.option(
            "--checkpoint",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            metavar="FILE",
            help="A checkpoint of zoo train, which needs no --model, or weights to load instead of "
            "the pretrained ones.",
        ),
        click.option("--model", metavar="NAME", help="Model, with .TAG for its weights."),
    ):
        command = option(command)
    return command


@dataclass(frozen=True, slots=True)
class Network:
    """A model that a user has named; that it exists is known before torch is imported.

    Attributes:
        name: canonical, with the tag if one was given.
        checkpoint: the file with its weights. num_classes: outputs, where that is asked for.
        knows_model: whether the file says which model it is of.
    """

    name: str
    checkpoint: Path | None = None
    num_classes: int | None = None
    knows_model: bool = False

    @classmethod
    def named(
        cls, model: str | None, checkpoint: Path | None, num_classes: int | None = None
    ) -> Network:
        """Check what was named.

        Raises:
            UsageError: neither says which model it is.
            UnknownName, AmbiguousName: from the name.
            WeightsError: there are no weights, or they are of another model.
        """
        if num_classes is not None and checkpoint is None:
            raise UsageError(
                "--num-classes needs --checkpoint: pretrained weights have their own head"
            )
        if checkpoint is not None and (model is None or is_checkpoint(checkpoint)):
            info = read_checkpoint(checkpoint)
            if model is not None:
                entry, _ = get_registry().resolve_weights(model)
                check_architecture(checkpoint, entry.name)
            if num_classes not in (None, len(info.classes)):
                raise UsageError(
                    f"{checkpoint} has {len(info.classes)} classes: leave out --num-classes"
                )
            return cls(info.architecture, checkpoint, None, True)
        if model is None:
            raise UsageError("which model? give --model NAME, or --checkpoint FILE of a run")
        entry, tag = get_registry().resolve_weights(model)
        if checkpoint is None and not entry.tags:
            raise WeightsError(
                f"{entry.name} has no pretrained weights: give some with --checkpoint FILE, or "
                "choose one of the models that zoo list-models --pretrained shows"
            )
        name = entry.name if tag is None else f"{entry.name}.{tag}"
        return cls(name, checkpoint, num_classes)

    @property
    def title(self) -> str:
        """What to call it: its name, and its file if it has one."""
        return f"{self.name} ({self.checkpoint})" if self.checkpoint else self.name

    def load(self) -> nn.Module:
        """Build it, and load its weights. Raises WeightsError if they are damaged or do not fit."""
        if self.checkpoint is None:
            return create_model(self.name, pretrained=True)
        if self.knows_model:
            return load_model(self.checkpoint)
        return create_model(
            self.name, num_classes=self.num_classes, checkpoint_path=self.checkpoint
        )


def optimizes(wanted: bool | None, device: str, worthwhile: bool = True) -> bool:
    """Whether zoo.optimize is to run a model: if asked to, else on the CPU if it is worthwhile.

    Raises:
        UsageError: it was asked to on another device.
    """
    if wanted and device != "cpu":
        raise UsageError(f"--optimize is for the CPU: leave out --device {device}")
    return (device == "cpu" and worthwhile) if wanted is None else wanted


def check_device(device: str) -> None:
    """Raise UsageError unless tensors can be had on a device."""
    import torch

    try:
        torch.zeros(1, device=device).item()  # a meta tensor holds no number
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0]
        raise UsageError(f"device {device!r} cannot be used: {reason}") from error
