"""``zoo train``: train a classifier, or go on with a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from zoo.cli.output import Column, note, print_rows
from zoo.errors import UsageError
from zoo.evaluation.needs import need
from zoo.training.config import SETTINGS, kind_of
from zoo.training.memory import keep_freed_memory
from zoo.training.settings import Named, parse_yaml

if TYPE_CHECKING:
    from zoo.training.session import Outcome


class _Yaml(click.ParamType[Any]):
    """Text that is YAML: a name, or a mapping."""

    name = "yaml"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return parse_yaml(value, f"{param.opts[-1]} {value}" if param else value)


def _setting_option(name: str) -> click.Option:
    """The flag of a setting, without a default: what is not given comes from elsewhere."""
    told = SETTINGS[name].metadata
    kind, _ = kind_of(name)
    flag = name.replace("_", "-")
    options: dict[str, Any] = {"help": _help(name), "metavar": told["metavar"], "default": None}
    if kind is bool:
        off = f"--{flag.removeprefix('no-')}" if flag.startswith("no-") else f"--no-{flag}"
        return click.Option([f"--{flag}/{off}", name], **options)
    inner = kind
    if get_args(kind) and kind != dict[str, Any]:
        (inner, _) = get_args(kind)
        options |= {"nargs": told["count"]} if told["count"] else {"multiple": True}
    if told["choices"]:
        options["type"] = click.Choice(told["choices"])
    elif inner in (Named, dict[str, Any]):
        options["type"] = _Yaml()
    else:
        options["type"] = inner
    return click.Option([*(told["flags"] or (f"--{flag}",)), name], **options)


def _help(name: str) -> str:
    """The help line with the default that holds where no recipe, file or flag says otherwise."""
    text, default = str(SETTINGS[name].metadata["help"]), SETTINGS[name].default
    if default is MISSING or default in (None, ()) or isinstance(default, bool):
        return text
    if isinstance(default, Named):
        default = default.plain()
    elif isinstance(default, tuple):
        default = " ".join(format(value, ".3g") for value in default)
    return f"{text}  [default: {default}]"


def _with_settings(command: click.Command) -> click.Command:
    command.params[:0] = [_setting_option(name) for name in SETTINGS]
    return command


@_with_settings
@click.command("train")
@click.option(
    "--config",
    "-c",
    "config_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="YAML file of settings, as a run's args.yaml; flags go over it.",
)
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder of the run.  [default: runs/DATASET-MODEL]",
)
@click.option("--force", is_flag=True, help="Remove a run that is in the output folder.")
@click.option(
    "--resume",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Go on with the run in a folder, with its settings.",
)
@click.option(
    "--format",
    "format_",
    type=click.Choice(["table", "json", "csv"]),
    default="table",
    show_default=True,
)
def command(
    config_file: Path | None,
    output: Path | None,
    force: bool,
    resume: Path | None,
    format_: str,
    **flags: Any,
) -> None:
    """Train a classifier, or go on with a run.

    Settings come from the recipe, then from -c FILE, then from flags; zoo list-recipes shows the
    recipes. A run's folder holds its settings, the weights of the last and of the best epoch, a
    summary, curves, and all that --resume needs to go on as if nothing had happened. Ctrl-C ends
    the step and saves; a second one does not wait.

    \b
    Examples:
      zoo train --dataset digits --model cifar/small_cnn --output runs/a
      zoo train --resume runs/a
      zoo train --dataset photos/ --model efficientnet-lite/efficientnet_lite0 --pretrained \\
          --freeze backbone --lr 0.01
      torchrun --nproc-per-node 2 -m zoo train --dataset digits --model cifar/small_cnn -b 32
    """
    need("accelerate", "matplotlib", "tensorboard", "timm", "yaml", what="training", extra="train")
    keep_freed_memory()
    given = {name: value for name, value in flags.items() if value is not None and value != ()}
    if resume is not None:
        if output is not None or force:
            raise UsageError("--resume goes on in the run's folder: leave out --output and --force")
        outcome = _resumed(resume, config_file, given)
    else:
        outcome = _begun(output, config_file, given, force)
    if outcome.folder is None:
        return
    if not outcome.trained:
        note(f"{outcome.folder} is finished: all {outcome.epochs} epochs are done")
    if outcome.signal:
        note(
            f"stopped after {len(outcome.history)} of {outcome.epochs} epochs; go on with: "
            f"zoo train --resume {outcome.folder}"
        )
    print_rows(_rows(outcome), format_, _COLUMNS)
    if outcome.signal:
        raise SystemExit(128 + outcome.signal)


def _begun(
    output: Path | None, config_file: Path | None, given: Mapping[str, Any], force: bool
) -> Outcome:
    from zoo.training.recipes import resolve

    config = resolve(given, config_file)
    _check_names(config)
    from zoo.training.session import train

    return train(config, output, overwrite=force)


def _resumed(folder: Path, config_file: Path | None, given: Mapping[str, Any]) -> Outcome:
    from zoo.training.config import read_settings

    settings = {**(read_settings(config_file) if config_file else {}), **given}
    from zoo.training.session import resume

    return resume(folder, settings)


def _check_names(config: Any) -> None:
    """Check the names of model, loss and augmentations before torch is imported."""
    from zoo.registry import get_registry

    registry = get_registry()
    registry.resolve_weights(config.model)
    registry.resolve("losses", config.loss.name)
    for each in config.augment:
        registry.resolve("augmentations", each.name)


_PERCENT: Callable[[float], str] = "{:.2f}".format

_COLUMNS = [
    Column("run"),
    Column("epochs", right=True),
    Column("eval_top1", title="top-1 %", show=_PERCENT, right=True),
    Column("eval_top5", title="top-5 %", show=_PERCENT, right=True),
    Column("eval_loss", title="loss", show="{:.4f}".format, right=True),
    Column("best_top1", title="best top-1 %", show=_PERCENT, right=True),
    Column("best_epoch", title="in epoch", right=True),
]


def _rows(outcome: Outcome) -> list[dict[str, Any]]:
    best = outcome.best
    if best is None:
        return []
    last = outcome.history[-1]
    return [
        {
            "run": str(outcome.folder),
            "epochs": len(outcome.history),
            **{name: last[name] for name in ("train_loss", "eval_loss", "eval_top1", "eval_top5")},
            "best_top1": best["eval_top1"],
            "best_epoch": int(best["epoch"]) + 1,
        }
    ]
