"""The loop: steps, epochs, evaluation. What is saved of it, and when, is :mod:`.session`'s."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from inspect import signature
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from timm.optim import (
    create_optimizer_v2,
    get_optimizer_class,
    get_optimizer_info,
    list_optimizers,
)
from timm.scheduler import create_scheduler_v2
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from zoo.data.loader import Batch, Loader
from zoo.errors import UsageError, ZooError
from zoo.evaluation.metrics import accuracy
from zoo.names import closest, one_line
from zoo.training.compose import Criterion
from zoo.training.config import TrainConfig
from zoo.training.state import Place, is_finite, load_optimizer, seed_step

if TYPE_CHECKING:
    from accelerate import Accelerator


class Diverged(ZooError):
    """The loss or the weights are no longer finite."""


class Trainer:
    """Trains a module.

    Args:
        module: what is trained, on the CPU.
        before: what images go through first, on the device; the frozen part, if there is one.
        train, evaluation: batches.

    Attributes:
        place: where training is.
    """

    def __init__(
        self,
        config: TrainConfig,
        accelerator: Accelerator,
        module: nn.Module,
        before: Callable[[Tensor], Tensor] | None,
        loss: Criterion,
        train: Loader,
        evaluation: Loader,
    ) -> None:
        self.config = config
        self.accelerator = accelerator
        self.before = before
        self.loss = loss
        self.train = train
        self.evaluation = evaluation
        self.place = Place()
        self.updates_per_epoch = math.ceil(len(train) / config.grad_accum_steps)

        if config.channels_last:
            module = module.to(memory_format=torch.channels_last)
        self.module = module.to(accelerator.device)
        self.average = (
            ModelEmaV3(
                self.module, decay=config.model_ema_decay, use_warmup=config.model_ema_warmup
            )
            if config.model_ema
            else None
        )
        optimizer = _optimizer(config, self.module)
        self.schedule = _schedule(config, optimizer, self.updates_per_epoch)
        self.model, self.optimizer = accelerator.prepare(self.module, optimizer)
        if accelerator.scaler is None:
            # Accelerate's wrapper looks for other packages in each step: most of a millisecond.
            self.optimizer = optimizer

    @property
    def evaluated(self) -> nn.Module:
        """What is evaluated and saved: the average of the weights, where one is kept."""
        return self.average.module if self.average else self.module

    @property
    def learning_rate(self) -> float:
        """The highest of the layers'."""
        return float(max(group["lr"] for group in self.optimizer.param_groups))

    def epoch(self, after_step: Callable[[float, float], bool]) -> bool:
        """Train for the rest of an epoch.

        Args:
            after_step: is told the loss and the images of each step; True ends the epoch early.

        Returns:
            whether the epoch is complete.

        Raises:
            Diverged: the loss is not finite. The step is not taken.
        """
        place, accumulated = self.place, self.config.grad_accum_steps
        self.model.train()
        self.train.set_epoch(place.epoch)
        self.train.start(place.batch)
        batches = iter(self.train)
        while place.batch < len(self.train):
            size = min(accumulated, len(self.train) - place.batch)
            loss, images = self._step(islice(batches, size), size)
            if after_step(loss, images):
                return False
        return True

    def _step(self, batches: Iterator[Batch], size: int) -> tuple[float, float]:
        """Take a step on some batches; return the loss and the images, over all processes."""
        config, accelerator, place = self.config, self.accelerator, self.place
        seed_step(config.seed, place.updates + 1, accelerator.process_index)
        sums = torch.zeros(3, device=accelerator.device)  # of loss, hits, images
        for number, batch in enumerate(batches, 1):
            pixels, targets = self._placed(batch)
            # Gradients are summed over the processes with the last batch alone.
            with accelerator.no_sync(self.model) if number < size else nullcontext():
                logits = self.model(pixels)
                # A share of a batch may be empty: no loss, but its part in the sum of gradients.
                loss = self.loss(logits, targets) if len(pixels) else logits.sum()
                accelerator.backward(loss / size)
            with torch.no_grad():
                labels = targets.argmax(1) if targets.ndim > 1 else targets
                hits = accuracy(logits, labels, (1,))[0]
                sums += torch.stack([loss * len(pixels), hits, hits.new_tensor(len(pixels))])
        loss_sum, hits, images = accelerator.reduce(sums, "sum").tolist()
        if not math.isfinite(loss_sum):
            raise self.diverged(f"the loss is {loss_sum}", pixels)
        if config.clip_grad is not None:
            accelerator.clip_grad_norm_(self.model.parameters(), config.clip_grad)
        self.optimizer.step()
        self.optimizer.zero_grad()
        place.updates += 1
        place.batch += size
        place.loss_sum += loss_sum
        place.correct += hits
        place.seen += images
        self.schedule.step_update(place.updates)
        if self.average:
            self.average.update(self.module, step=place.updates)
        return loss_sum / max(images, 1), images

    def evaluate(self) -> dict[str, float]:
        """Loss and accuracies in per cent over the evaluation split, each image counted once."""
        accelerator, model = self.accelerator, self.evaluated
        self._share_buffers()
        model.eval()
        sums = torch.zeros(4, device=accelerator.device)  # of loss, top-1, top-5, images
        for batch in self.evaluation:
            images, targets = self._placed(batch)
            if not len(images):
                continue
            with torch.no_grad(), accelerator.autocast():
                logits = model(images).float()
            loss = nn.functional.cross_entropy(logits, targets, reduction="sum")
            hits = accuracy(logits, targets)
            sums += torch.cat([loss[None], hits, hits.new_tensor([len(images)])])
        loss_sum, top1, top5, images = accelerator.reduce(sums, "sum").tolist()
        count = max(images, 1)
        return {
            "eval_loss": loss_sum / count,
            "eval_top1": 100 * top1 / count,
            "eval_top5": 100 * top5 / count,
        }

    def _placed(self, batch: Batch) -> tuple[Tensor, Tensor]:
        device = self.accelerator.device
        images = batch.images.to(device, non_blocking=True)
        if self.config.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        if self.before:
            images = self.before(images)
        return images, batch.targets.to(device, non_blocking=True)

    def _share_buffers(self) -> None:
        """Give all processes the first one's running statistics, which are those that are saved."""
        if self.accelerator.num_processes > 1:
            for buffer in self.evaluated.buffers():
                torch.distributed.broadcast(buffer, 0)

    def diverged(self, what: str, pixels: Tensor | None = None) -> Diverged:
        """An error that says where, and what might help; ``pixels`` are what the step was of."""
        place = self.place
        remedy = "lower --lr, or add --clip-grad or --warmup-epochs"
        if pixels is not None and not pixels.isfinite().all():
            remedy = "its images hold values that are not finite; zoo data check finds them"
        return Diverged(
            f"{what} in epoch {place.epoch + 1}, step {place.updates + 1}, at learning rate "
            f"{self.learning_rate:.3g}: {remedy}"
        )

    def state(self) -> dict[str, Any]:
        """What :meth:`load` goes on from, besides the place.

        Raises:
            Diverged: a weight is not finite.
        """
        if not is_finite(self.module):
            raise self.diverged("a weight is not finite")
        parts = {
            "model": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        if self.average:
            parts["average"] = self.average.module.state_dict()
        if self.accelerator.scaler is not None:
            parts["scaler"] = self.accelerator.scaler.state_dict()
        return parts

    def load(self, parts: Mapping[str, Any], place: Place) -> None:
        """Go on from a state that was saved."""
        self.module.load_state_dict(parts["model"])
        load_optimizer(self.optimizer, parts["optimizer"])
        if self.average:
            self.average.module.load_state_dict(parts["average"])
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(parts["scaler"])
        self.place = place
        self.schedule.step_update(place.updates)


def _optimizer(config: TrainConfig, module: nn.Module) -> torch.optim.Optimizer:
    name = config.opt.lower()
    names = [str(name) for name in list_optimizers()]
    if name.removeprefix("lookahead_") not in names:
        close = closest(config.opt, names)
        hint = (
            f"did you mean {' or '.join(close)}?"
            if close
            else "timm.optim.list_optimizers() names them"
        )
        raise UsageError(f"there is no optimizer {config.opt!r}; {hint}")
    if get_optimizer_info(name.removeprefix("lookahead_")).second_order:
        raise UsageError(
            f"the optimizer {config.opt} needs second derivatives, which zoo train does not "
            "compute: choose another --opt"
        )
    made_by = get_optimizer_class(name.removeprefix("lookahead_"), bind_defaults=False)
    options = dict(config.opt_kwargs)
    if made_by.__module__.startswith("torch.") and "fused" in signature(made_by).parameters:
        options.setdefault("fused", True)  # one pass over the weights
    try:
        optimizer = create_optimizer_v2(
            module,
            config.opt,
            lr=config.lr,
            weight_decay=config.weight_decay,
            momentum=config.momentum,
            layer_decay=config.layer_decay,
            **options,
        )
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(one_line(f"the optimizer {config.opt} refuses: {error}")) from error
    scales = {group.get("lr_scale") for group in optimizer.param_groups}
    if config.layer_decay not in (None, 1) and len(scales) == 1:
        raise UsageError(
            f"{config.model} does not say which layer a weight belongs to (group_matcher), so "
            "--layer-decay would do nothing: leave it out"
        )
    return optimizer


def _schedule(config: TrainConfig, optimizer: torch.optim.Optimizer, updates: int) -> Any:
    schedule, _ = create_scheduler_v2(
        optimizer,
        config.sched,
        num_epochs=config.epochs,
        decay_epochs=config.decay_epochs,
        decay_milestones=list(config.decay_milestones),
        decay_rate=config.decay_rate,
        min_lr=config.min_lr,
        warmup_lr=config.warmup_lr,
        warmup_epochs=config.warmup_epochs,
        step_on_epochs=False,
        updates_per_epoch=updates,
    )
    schedule.step_update(0)
    return schedule
