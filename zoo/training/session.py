"""Runs a training from its settings to its last epoch, and what is saved on the way.

At the end of an epoch the weights, the summary and the curves are written first and the state last:
a run that is killed in between does the epoch again, and writes the same.
"""

from __future__ import annotations

import json
import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast_object_list
from torch import Tensor, nn

from zoo import tensor_files
from zoo.checkpoints import Checkpoint, CheckpointError, save_checkpoint
from zoo.data.loader import Loader
from zoo.data.pipeline import Transform
from zoo.errors import UsageError, ZooError
from zoo.nn import fuse_for_training
from zoo.training.about import describe_run, describe_session, package_versions
from zoo.training.compose import Task, compose
from zoo.training.config import TrainConfig, absolute_paths, read_settings
from zoo.training.curves import draw_curves
from zoo.training.events import Events
from zoo.training.freeze import cached_features, fast_features, feature_transform, split_model
from zoo.training.fusing import choose
from zoo.training.interrupt import Interruption
from zoo.training.loop import Diverged, Trainer
from zoo.training.progress import Progress
from zoo.training.run import ARGS, Run, check_output, check_unchanged, is_run
from zoo.training.state import KIND, StateError, read_state, write_state

_DRAW_S = 60.0
"""Between two drawings of the curves, which take a quarter of a second; the last one is drawn."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        folder: the run's; None in all processes but the first.
        history: a row of the summary for each complete epoch.
        epochs: how many there are to be.
        signal: the signal that stopped it before its end; 0 for none.
        trained: whether this call did anything.
    """

    folder: Path | None
    history: list[dict[str, float]]
    epochs: int
    signal: int = 0
    trained: bool = True

    @property
    def best(self) -> dict[str, float] | None:
        """The row with the highest ``eval_top1``, the first of equal ones."""
        return best_row(self.history)


def best_row(history: list[dict[str, float]]) -> dict[str, float] | None:
    """The row with the highest ``eval_top1``, the first of equal ones; None of none."""
    return max(history, key=lambda row: row["eval_top1"], default=None)


def train(config: TrainConfig, output: Path | None = None, *, overwrite: bool = False) -> Outcome:
    """Train in a new folder.

    Args:
        output: the folder; by default one in ``runs`` that is free.
        overwrite: remove a run that is in it.

    Raises:
        ZooError: something does not fit, cannot be read or written, or the loss is not finite.
    """
    if output is not None:
        check_output(output, overwrite)
    with _accelerator(config) as accelerator:
        session = _Session(compose(config), accelerator)
        run = None
        if accelerator.is_main_process:
            about = describe_run(
                config.seed, session.task.data, accelerator.num_processes, accelerator.device
            )
            run = Run.create(output, session.task.config, about, overwrite=overwrite)
        return session.go(run)


def resume(folder: Path, given: Mapping[str, Any]) -> Outcome:
    """Go on with a run, bit for bit; start it over where no state was saved yet.

    Args:
        given: settings that were asked for; they must be the run's, but for those that do not
            change the result.

    Raises:
        ZooError: as of :func:`train`; or settings, data or the number of processes differ.
    """
    if not is_run(folder):
        raise UsageError(f"there is no run in {folder}: a run's folder holds {ARGS}")
    # Runs of before there was a choice were PyTorch's; to leave it open is to leave it as it is.
    held = TrainConfig(**{"ops": "torch", **read_settings(folder / ARGS)})
    asked = {name: value for name, value in given.items() if (name, value) != ("ops", "auto")}
    config = check_unchanged(held, absolute_paths(asked), folder)
    run = Run(folder)
    if run.state.is_file():
        place = tensor_files.read_description(run.state, KIND)["place"]
        if place["epoch"] == config.epochs:
            return Outcome(folder, place["history"], config.epochs, trained=False)
    with _accelerator(config) as accelerator:
        if accelerator.is_main_process:
            run.take()
        task = compose(config)
        before = _check_same(folder, task, accelerator)
        session = _Session(task, accelerator)
        session.note_versions(before)
        if run.state.is_file():
            session.trainer.load(*read_state(run.state))
        return session.go(run if accelerator.is_main_process else None, resumed=True)


@contextmanager
def _accelerator(config: TrainConfig) -> Iterator[Accelerator]:
    """What knows devices, processes and precision, for the time of a run."""
    gpu = torch.cuda.is_available()
    if config.device == "cuda" and not gpu:
        raise UsageError("this machine or this PyTorch has no CUDA device: leave out --device cuda")
    half = {"bfloat16": "bf16", "float16": "fp16"}[config.amp_dtype] if config.amp else "no"
    cpu = config.device == "cpu" or not gpu
    if cpu and half == "fp16":
        raise UsageError("on the CPU half precision is bfloat16: leave out --amp-dtype float16")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="OMP_NUM_THREADS")
        accelerator = Accelerator(cpu=cpu, mixed_precision=half)
    before = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    try:
        yield accelerator
    finally:
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = before
        accelerator.end_training()
        AcceleratorState._reset_state(reset_partial_state=True)  # the next run may differ


def _check_same(folder: Path, task: Task, accelerator: Accelerator) -> dict[str, str]:
    """Refuse to go on with other data or another number of processes.

    Returns:
        the versions that the run was begun with.

    Raises:
        UsageError: they differ.
        ZooError: ``run.json`` cannot be read.
    """
    path = folder / "run.json"
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        processes = about["hardware"]["processes"]
        fingerprints = about["data"]["fingerprints"]
        versions: dict[str, str] = about["versions"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ZooError(f"cannot read {path}: {error!r}") from error
    if processes != accelerator.num_processes:
        raise UsageError(
            f"{folder} was begun by {processes} process{'es' * (processes > 1)}, not "
            f"{accelerator.num_processes}: go on with as many"
        )
    if fingerprints != task.data.fingerprints():
        raise UsageError(
            f"the data set {task.config.dataset} has changed since {folder} was begun: put it "
            "back, or begin a new run from its weights by --initial-checkpoint "
            f"{folder}/last.safetensors"
        )
    return versions


class _Session:
    """One process's part in a run."""

    def __init__(self, task: Task, accelerator: Accelerator) -> None:
        self.task, self.accelerator = task, accelerator
        for line in task.data.notes:
            self._note(line)
        module, before, loaders = task.model, None, None
        if task.config.freeze:
            module, before, loaders = self._frozen()
        module = self._by_chosen_ops(module)
        train, evaluation = loaders or (
            self._loader(task.data.train, task.train, training=True),
            self._loader(task.data.evaluation, task.evaluation),
        )
        self.trainer = Trainer(
            self.task.config, accelerator, module, before, task.loss, train, evaluation
        )

    def go(self, run: Run | None, resumed: bool = False) -> Outcome:
        """Train to the end, or until a signal.

        Args:
            run: the folder; None in all processes but the first, which alone writes.
        """
        config, trainer, place = self.task.config, self.trainer, self.trainer.place
        self.run = run
        self.saved = place.updates if place.updates else None
        self.drawn = time.monotonic()
        self.progress = Progress(
            config.epochs,
            trainer.updates_per_epoch,
            done=place.updates,
            shown=run is not None,
        )
        if run is not None and resumed:
            run.note_resumption(
                {
                    "step": place.updates,
                    **describe_session(self.accelerator.num_processes, self.accelerator.device),
                }
            )
        self.events = Events(run.folder, place.updates) if run is not None else None
        try:
            with Interruption() as self.interruption:
                while place.epoch < config.epochs and not self._stopped():
                    self.progress.begin_epoch()
                    if not trainer.epoch(self._after_step):
                        self._save_state()
                        break
                    self._end_epoch()
        except Diverged as error:
            raise Diverged(f"{error}; {self._kept()}") from error
        except (StateError, CheckpointError) as error:
            assert run is not None  # others write nothing
            raise ZooError(
                f"{error}; {self._kept()}: make room, and go on with: zoo train --resume "
                f"{run.folder}"
            ) from error
        finally:
            self.progress.close()
            if self.events:
                self.events.close()
            if run is not None:
                run.release()
        complete = place.epoch == config.epochs
        return Outcome(
            run.folder if run is not None else None,
            place.history,
            config.epochs,
            signal=0 if complete else self.interruption.signal,
        )

    def _after_step(self, loss: float, images: float) -> bool:
        """Tell of a step, save where it is time; return whether to stop."""
        place, every = self.trainer.place, self.task.config.checkpoint_every
        done = math.ceil(place.batch / self.task.config.grad_accum_steps)
        self.progress.step(
            place.epoch,
            done,
            place.loss_sum / max(place.seen, 1),
            100 * place.correct / max(place.seen, 1),
            images,
        )
        if self.events:
            self.events.step(place.updates, loss, self.trainer.learning_rate)
        whole = place.batch == len(self.trainer.train)
        if every and place.updates % every == 0 and not whole:
            self._save_state()
        return self._stopped() and not whole

    def _stopped(self) -> bool:
        """Whether any process was told to stop; the same in all of them."""
        if self.accelerator.num_processes == 1:
            return self.interruption.signal != 0
        flag = torch.tensor(float(self.interruption.signal), device=self.accelerator.device)
        torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX)
        self.interruption.signal = int(flag)
        return self.interruption.signal != 0

    def _end_epoch(self) -> None:
        trainer, place = self.trainer, self.trainer.place
        row = {
            "epoch": place.epoch,
            "train_loss": place.loss_sum / max(place.seen, 1),
            **trainer.evaluate(),
            "lr": trainer.learning_rate,
        }
        if not all(map(math.isfinite, row.values())):
            raise trainer.diverged(f"the loss of the evaluation is {row['eval_loss']}")
        place.end_epoch(row)
        if self.run is not None:
            self._save_epoch(self.run, row)
        self.progress.end_epoch(row)

    def _save_epoch(self, run: Run, row: dict[str, float]) -> None:
        place = self.trainer.place
        info = self._checkpoint(row)
        weights = self._weights()
        save_checkpoint(run.last, weights, info)
        if best_row(place.history) is row:
            save_checkpoint(run.best, weights, info)
        run.write_summary(place.history)
        now = time.monotonic()
        if place.epoch == self.task.config.epochs or now - self.drawn > _DRAW_S:
            self.drawn = now
            run.write("curves.png", draw_curves(place.history, str(run.folder)))
        if self.events:
            self.events.epoch(place.updates, row, self.progress.images_per_second)
        self._save_state()

    def _save_state(self) -> None:
        if self.run is not None:
            write_state(self.run.state, self.trainer.state(), self.trainer.place)
            self.saved = self.trainer.place.updates

    def _weights(self) -> dict[str, Tensor]:
        """The whole model's, with the average of what was trained where one is kept."""
        model = self.task.model
        if self.trainer.average is None:
            return model.state_dict()
        of_trained = {id(value): name for name, value in _tensors(self.trainer.module).items()}
        averaged = self.trainer.evaluated.state_dict()
        return {
            name: averaged[of_trained[id(value)]] if id(value) in of_trained else value
            for name, value in _tensors(model).items()
        }

    def _checkpoint(self, row: dict[str, float]) -> Checkpoint:
        task = self.task
        return Checkpoint(
            architecture=task.architecture,
            model_kwargs=dict(task.model_kwargs),
            classes=list(task.data.classes),
            pretrained_cfg=dict(task.preprocessing),
            dataset=task.config.dataset,
            epoch=int(row["epoch"]) + 1,
            metrics={name: value for name, value in row.items() if name.startswith("eval_")},
            versions=package_versions(),
        )

    def _loader(self, dataset: Any, transform: Transform, training: bool = False) -> Loader:
        config, processes = self.task.config, self.accelerator.num_processes
        together = config.batch_size * processes
        return Loader(
            dataset,
            config.batch_size,
            transform=transform,
            seed=config.seed,
            shuffle=training,
            workers=config.workers,
            # A last batch of another size would count more; but a small set has no other.
            drop_last=training and (len(dataset) >= together or processes > 1),
            rank=self.accelerator.process_index,
            world=processes,
            on_error="raise" if config.on_error == "raise" else "skip",
        )

    def _frozen(
        self,
    ) -> tuple[nn.Module, Callable[[Tensor], Tensor] | None, tuple[Loader, Loader] | None]:
        """The classifier, and the frozen part: as features in the loaders, or run before it."""
        task, accelerator = self.task, self.accelerator
        backbone, head = split_model(task)
        task.model.eval().requires_grad_(False)
        head.requires_grad_(True)
        if task.train.stages or task.train.fit is not task.evaluation.fit:
            return head, fast_features(task, backbone, accelerator.device, self._note), None
        with accelerator.local_main_process_first():  # others find them in the cache
            train, evaluation = cached_features(task, backbone, accelerator.device, self._note)
        loaders = (
            self._loader(train, feature_transform(task.train, train.images), training=True),
            self._loader(evaluation, feature_transform(task.evaluation, train.images)),
        )
        flat = isinstance(head, nn.Linear)
        return head, (lambda images: images.flatten(1)) if flat else None, loaders

    def _by_chosen_ops(self, module: nn.Module) -> nn.Module:
        """The module as it is trained, and the task with what it is trained by."""
        config, accelerator = self.task.config, self.accelerator
        if config.freeze and config.ops == "auto":
            config = replace(config, ops="torch")  # of a classifier there is nothing to fuse
        size, device = self.task.preprocessing["input_size"], accelerator.device.type
        plain = module
        if config.ops == "fused" or accelerator.is_main_process:  # one measures for all
            ops, module, told = choose(config, module, size, device)
            config = replace(config, ops=ops)
            if told:
                self._note(told)
        if self.task.config.ops == "auto" and accelerator.num_processes > 1:
            (ops,) = broadcast_object_list([config.ops])
            config = replace(config, ops=ops)
            if ops == "fused" and module is plain:
                module = fuse_for_training(plain)
        self.task = replace(self.task, config=config)
        return module

    def note_versions(self, before: Mapping[str, str]) -> None:
        """Tell which versions differ from those that the run was begun with."""
        now = package_versions()
        changed = [
            f"{name} was {version}, is {now.get(name)}"
            for name, version in before.items()
            if now.get(name) != version
        ]
        if changed:
            self._note(f"{'; '.join(changed)}: results may differ from here on")

    def _note(self, message: str) -> None:
        if self.accelerator.is_main_process:
            Progress(1, 1).note(message)

    def _kept(self) -> str:
        if self.run is None or self.saved is None:
            return "nothing was saved yet (--force replaces the run)"
        return f"{self.run.folder} keeps the state of step {self.saved}"


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers under their names in the state dict, themselves and not their data."""
    return module.state_dict(keep_vars=True)
