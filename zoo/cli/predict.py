"""``zoo predict``: classify images."""

from __future__ import annotations

import sys
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from zoo.cli.output import (
    Column,
    check_output_file,
    format_rows,
    note,
    write_file,
)
from zoo.data.find import Found, find_images
from zoo.errors import UsageError, WeightsError
from zoo.evaluation.results import ImageResult
from zoo.registry import get_registry

_COLUMNS = [
    Column("image"),
    Column("label", shrink=True),
    Column("probability", show="{:.4f}".format, right=True),
    Column("class_index", title="class", right=True),
]

# Images whose saved time pays for the preparation. efficientnet_lite0 on two threads of Zen 3: 100
# images take 11.6 s as it is and 15.2 s optimized, 400 take 22.3 s and 17.7 s.
_MANY = 250


@click.command("predict")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.option("--model", required=True, metavar="NAME", help="Model, with .TAG for its weights.")
@click.option(
    "--checkpoint",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Weights to load from a file instead of the pretrained ones.",
)
@click.option(
    "--num-classes",
    type=click.IntRange(min=1),
    metavar="N",
    help="Outputs of the model that the checkpoint is of.  [default: the model's own]",
)
@click.option(
    "--topk",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    metavar="N",
    help="Predictions per image.",
)
@click.option(
    "--batch-size",
    "-b",
    type=click.IntRange(min=1),
    default=32,
    show_default=True,
    metavar="N",
    help="Images per forward pass.",
)
@click.option(
    "--optimize/--no-optimize",
    default=None,
    help="Whether zoo.optimize runs the model, which takes it some seconds to prepare.  [default: "
    f"on the CPU, from {_MANY} images on]",
)
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1, ...")
@click.option(
    "--format",
    "format_",
    type=click.Choice(["table", "json", "csv"]),
    default="table",
    show_default=True,
)
@click.option(
    "--output",
    "-o",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the result to a file instead of stdout.",
)
@click.option("--force", is_flag=True, help="Overwrite the output file.")
def command(
    images: tuple[str, ...],
    model: str,
    checkpoint: Path | None,
    num_classes: int | None,
    topk: int,
    batch_size: int,
    optimize: bool | None,
    device: str,
    format_: str,
    output: Path | None,
    force: bool,
) -> None:
    """Classify images with a pretrained model.

    IMAGE is a file, a folder (searched recursively) or a quoted glob pattern ('**' spans
    folders). Each image is prepared as the model's weights ask for. An image that cannot be
    read is reported on stderr, the others still come out, and the exit code is 1.

    \b
    Examples:
      zoo predict cat.jpg --model efficientnet-lite/efficientnet_lite0
      zoo predict photos/ 'more/**/*.png' --model timm/resnet50.a1_in1k --format json
    """
    check_output_file(output, force)
    if num_classes is not None and checkpoint is None:
        raise UsageError("--num-classes needs --checkpoint: pretrained weights have their own head")
    # Names are checked before torch is imported, which takes seconds.
    entry, tag = get_registry().resolve_weights(model)
    if checkpoint is None and not entry.tags:
        raise WeightsError(
            f"{entry.name} has no pretrained weights: give some with --checkpoint FILE, or choose "
            "one of the models that zoo list-models --pretrained shows"
        )
    found = list(find_images(images))
    if any(image.error is None for image in found):
        name = entry.name if tag is None else f"{entry.name}.{tag}"
        optimize = _optimizes(optimize, device, len(found))
        results = _predict(found, name, checkpoint, num_classes, topk, batch_size, device, optimize)
    else:
        # Importing torch and loading a model would only delay the bad news.
        results = [ImageResult(image.path, error=image.error) for image in found]
    rows = _json_rows(results) if format_ == "json" else _flat_rows(results, format_)
    text = format_rows(rows, format_, _COLUMNS)
    if output is not None:
        write_file(output, text + "\n")
    elif text:
        click.echo(text)
    failed = [result for result in results if result.error is not None]
    for result in failed:
        note(f"Error: {result.image}: {result.error}")
    if failed:
        raise SystemExit(1)


def _optimizes(wanted: bool | None, device: str, images: int) -> bool:
    if wanted and device != "cpu":
        raise UsageError(f"--optimize is for the CPU: leave out --device {device}")
    return (device == "cpu" and images >= _MANY) if wanted is None else wanted


def _predict(
    found: list[Found],
    model: str,
    checkpoint: Path | None,
    num_classes: int | None,
    topk: int,
    batch_size: int,
    device: str,
    optimize: bool,
) -> list[ImageResult]:
    import torch

    from zoo.evaluation.predict import class_names, predict_images
    from zoo.models import create_model

    try:
        torch.zeros(1, device=device).item()  # a meta tensor holds no number
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0]
        raise UsageError(f"device {device!r} cannot be used: {reason}") from error
    network = create_model(
        model,
        pretrained=checkpoint is None,
        num_classes=num_classes,
        checkpoint_path=str(checkpoint) if checkpoint else None,
    )
    labels = class_names(network)
    results = predict_images(
        network,
        found,
        labels=labels,
        topk=topk,
        batch_size=batch_size,
        device=device,
        optimize=optimize,
    )
    hidden = len(found) <= batch_size or not sys.stderr.isatty()
    shown = click.progressbar(results, length=len(found), file=sys.stderr, hidden=hidden)
    recording = warnings.catch_warnings(record=True, category=UserWarning, action="always")
    with recording as caught, shown:
        done = list(shown)
    for warning in caught:  # that the model runs as it is
        note(f"Warning: {warning.message}")
    return done


def _json_rows(results: list[ImageResult]) -> list[dict[str, Any]]:
    return [
        {"image": result.image, "error": result.error}
        if result.error is not None
        else {"image": result.image, "predictions": [asdict(item) for item in result.predictions]}
        for result in results
    ]


def _flat_rows(results: list[ImageResult], format_: str) -> list[dict[str, Any]]:
    """A row per prediction.

    CSV has a row for a failed image too, tables leave it to stderr; tables name an image once.
    """
    rows: list[dict[str, Any]] = []
    for result in results:
        for rank, prediction in enumerate(result.predictions):
            image = result.image if rank == 0 or format_ == "csv" else ""
            rows.append({"image": image, **asdict(prediction), "error": None})
        if result.error is not None and format_ == "csv":
            nothing = dict.fromkeys(("label", "class_index", "probability"))
            rows.append({"image": result.image, **nothing, "error": result.error})
    return rows
