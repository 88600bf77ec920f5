"""``zoo evaluate``: figures of models on a data set."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.cli.evaluate_output import format_report, result_rows
from zoo.cli.networks import Network, check_device, network_options, optimizes
from zoo.cli.output import (
    check_output_file,
    format_csv,
    format_json,
    human_size,
    note,
    noted_warnings,
    write_file,
)
from zoo.cli.progress import progress
from zoo.errors import UsageError, ZooError
from zoo.evaluation.needs import need
from zoo.evaluation.results import RESULT_COLUMNS
from zoo.names import one_line

if TYPE_CHECKING:
    from zoo.evaluation.outcomes import Member
    from zoo.evaluation.report import Report


@click.command("evaluate")
@network_options
@click.option(
    "--ensemble",
    metavar="A,B,...",
    help="Average the probabilities of several models, given as names or files with commas.",
)
@click.option("--dataset", required=True, metavar="NAME|PATH", help="A name, a folder or a CSV.")
@click.option(
    "--data-dir",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder that holds the data set.  [default: ZOO_DATA_DIR/NAME]",
)
@click.option("--dataset-download", is_flag=True, help="Download the data set if it is absent.")
@click.option(
    "--split", metavar="NAME", help="Split.  [default: the first of val, validation and test]"
)
@click.option(
    "--level",
    multiple=True,
    metavar="NODE",
    help="Report at a coarser level too: take the classes below a node of the data set's "
    "hierarchy, such as dog, for one; '*' for all nodes right above classes. May be repeated.",
)
@click.option(
    "--batch-size",
    "-b",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    metavar="N",
    help="Images per forward pass.",
)
@click.option(
    "--workers",
    "-j",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="N",
    help="Processes that read images; 0: threads of this one.",
)
@click.option(
    "--input-size",
    type=click.IntRange(min=1),
    nargs=3,
    metavar="C H W",
    help="Size of the model's input.  [default: what its weights ask for]",
)
@click.option(
    "--optimize/--no-optimize",
    default=None,
    help="Whether zoo.optimize runs the models.  [default: on the CPU]",
)
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1, ...")
@click.option(
    "--report",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Write report.json, results.csv and index.html into a folder.",
)
@click.option(
    "--format",
    "format_",
    type=click.Choice(["table", "json", "csv"]),
    default="table",
    show_default=True,
    help="JSON has everything, CSV a row per model in timm's columns.",
)
@click.option(
    "--output",
    "-o",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the result to a file instead of stdout.",
)
@click.option("--force", is_flag=True, help="Overwrite the output file and the report.")
def command(
    model: str | None,
    checkpoint: Path | None,
    num_classes: int | None,
    ensemble: str | None,
    dataset: str,
    data_dir: Path | None,
    dataset_download: bool,
    split: str | None,
    level: tuple[str, ...],
    batch_size: int,
    workers: int,
    input_size: tuple[int, int, int] | None,
    optimize: bool | None,
    device: str,
    report: Path | None,
    format_: str,
    output: Path | None,
    force: bool,
) -> None:
    """Evaluate a model, or an ensemble, on a data set.

    Top-1 and top-5 accuracy, precision, recall and F1 of each class and their means over classes,
    the confusion matrix, negative log-likelihood, expected calibration error, 95 % bootstrap
    intervals, latency and throughput. Shares are in per cent. An image that cannot be read is
    reported and left out, and the exit code is 1.

    \b
    Examples:
      zoo evaluate --checkpoint runs/a/best.safetensors --dataset digits
      zoo evaluate --model timm/resnet50.a1_in1k --dataset imagenet --data-dir /data/ilsvrc \\
          --report report/
      zoo evaluate --ensemble resnet20.safetensors,small_cnn.safetensors --dataset cifar10
    """
    need("torchmetrics", what="zoo evaluate")
    check_output_file(output, force)
    _check_report(report, force)
    networks = _networks(model, checkpoint, num_classes, ensemble)
    optimize = optimizes(optimize, device)

    from zoo.data.datasets import open_dataset, splits, validation_split
    from zoo.evaluation.classes import readable

    split = split or validation_split(splits(dataset, data_dir))
    if split is None:
        raise UsageError(
            f"{dataset} has none of the splits val, validation and test: name one with --split "
            f"({', '.join(splits(dataset, data_dir))})"
        )
    download = {"download": True} if dataset_download else {}
    images: Any = open_dataset(dataset, split=split, root=data_dir, **download)
    images.classes = readable(images.classes)
    check_device(device)
    with noted_warnings():
        members, rows = _members(
            networks, dataset, images, input_size, batch_size, workers, optimize, device
        )
        result = _evaluate(members, images, level, device)
    header = {
        "model": " + ".join(network.title for network in networks),
        "dataset": dataset,
        "split": split,
        "images": len(result.outcomes.targets),
        "unreadable": _unreadable(members, images),
        "classes": len(images.classes),
        "level": ["all right above the classes" if node == "*" else node for node in level],
        "batch_size": batch_size,
        "workers": workers,
        "optimized": optimize,
        "seconds": result.seconds,
        "images_per_second": len(result.outcomes.targets) / result.seconds,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["zoo", *sys.argv[1:]]),
        **_machine(),
    }
    document = {"header": header, "results": result_rows(result, rows), **result.document()}
    if report is not None:
        _write_report(report, document, result, images)
    text = format_report(document, result, format_)
    if output is not None:
        write_file(output, text + "\n")
    else:
        click.echo(text)
    if header["unreadable"]:
        raise SystemExit(1)


def _check_report(folder: Path | None, force: bool) -> None:
    """Refuse a report folder that is in use or cannot be made, before any work is done for it."""
    if folder is None:
        return
    need("matplotlib", "jinja2", what="--report")
    if folder.exists() and any(folder.iterdir()) and not force:
        raise UsageError(f"{folder} exists and is not empty: choose another name or add --force")
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise ZooError(f"cannot make the folder {folder}: {error.strerror}") from error


def _write_report(folder: Path, document: dict[str, Any], result: Report, images: Any) -> None:
    from zoo.evaluation.page import render

    write_file(folder / "report.json", format_json(document) + "\n")
    write_file(folder / "results.csv", format_csv(document["results"], RESULT_COLUMNS) + "\n")
    write_file(folder / "index.html", render(document, result, images))
    note(f"wrote {folder / 'index.html'}")


def _networks(
    model: str | None, checkpoint: Path | None, num_classes: int | None, ensemble: str | None
) -> list[Network]:
    if ensemble is None:
        return [Network.named(model, checkpoint, num_classes)]
    if model is not None or checkpoint is not None or num_classes is not None:
        raise UsageError("--ensemble names all the models: leave out --model and --checkpoint")
    names = [name.strip() for name in ensemble.split(",") if name.strip()]
    if len(names) < 2:
        raise UsageError("--ensemble needs two models or more, with commas between them")
    return [
        Network.named(None, Path(name)) if Path(name).is_file() else Network.named(name, None)
        for name in names
    ]


def _members(
    networks: Sequence[Network],
    dataset: str,
    images: Any,
    input_size: tuple[int, int, int] | None,
    batch_size: int,
    workers: int,
    optimize: bool,
    device: str,
) -> tuple[list[Member], list[dict[str, Any]]]:
    """Load the models, and say of each what the table of results does."""
    import torch

    import zoo
    from zoo.data.loader import Loader
    from zoo.data.pipeline import eval_transform
    from zoo.evaluation.classes import match_classes
    from zoo.evaluation.outcomes import Member
    from zoo.evaluation.predict import class_names

    members, rows = [], []
    for network in networks:
        model = network.load().eval()
        config = dict(getattr(model, "pretrained_cfg", None) or {})
        if input_size is not None:
            config |= {"input_size": input_size, "resize_size": None}
        config = {name: value for name, value in config.items() if value is not None}
        transform = eval_transform(**config)
        labels = class_names(model)
        rows.append(
            {
                "model": network.title,
                "img_size": transform.input_size[1],
                "param_count": sum(each.numel() for each in model.parameters()),
                "crop_pct": config.get("crop_pct", 0.875),
                "interpolation": config.get("interpolation", "bicubic"),
            }
        )
        model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        batch = min(batch_size, len(images))  # that plans are made of beforehand
        example = torch.randn(batch, *transform.input_size, device=device)
        try:
            with torch.inference_mode():
                outputs = model(example[:1]).shape[-1]
        except (RuntimeError, ValueError, AssertionError) as error:
            raise UsageError(
                f"{network.title} cannot take inputs of {human_size(transform.input_size)}: "
                f"{one_line(error)}"
            ) from error
        columns = match_classes(network.title, outputs, labels, dataset, images.classes)
        if optimize:
            note(f"optimizing {network.title}")
            model = zoo.optimize(model, example)
        loader = Loader(images, batch_size, transform=transform, workers=workers, on_error="skip")
        members.append(
            Member(
                network.title,
                model,
                loader,
                None if columns is None else torch.tensor(columns),
            )
        )
    return members, rows


def _evaluate(members: Sequence[Member], images: Any, level: Sequence[str], device: str) -> Report:
    """Evaluate, then time the models."""
    import torch

    from zoo.evaluation.classes import grouped
    from zoo.evaluation.report import evaluate
    from zoo.evaluation.speed import measure_speed

    groups, names = None, list[str]()
    if level:
        hierarchy = getattr(images, "hierarchy", None)
        if hierarchy is None:
            raise UsageError(
                "--level: this data set has no hierarchy above its classes; ImageNet's comes with "
                "its devkit, the folder ILSVRC2012_devkit_t12"
            )
        indices, names = grouped(hierarchy, level, images.classes)
        groups = torch.tensor(indices)
    with progress("evaluating", len(images)) as update:
        result = evaluate(
            members,
            images.classes,
            device=device,
            groups=groups,
            group_names=names,
            progress=update,
        )
    inputs = [next(batch.images for batch in each.loader if len(batch.images)) for each in members]
    speed = measure_speed([member.model for member in members], inputs, device)
    return replace(result, speed=speed)


def _unreadable(members: Sequence[Member], images: Any) -> list[dict[str, str]]:
    reasons: dict[int, str] = {}
    for member in members:
        reasons |= member.loader.skipped  # type: ignore[attr-defined]
    paths = getattr(images, "paths", None)
    return [
        {"image": str(paths[index]) if paths is not None else str(index), "error": reason}
        for index, reason in sorted(reasons.items())
    ]


def _machine() -> dict[str, Any]:
    import torch

    from zoo.benchmark.machine import describe_machine

    found = describe_machine()
    return {
        "cpu": found["cpu"],
        "versions": {**found["versions"], "torch": torch.__version__},
    }
