"""``zoo predict``: classify images."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from zoo.cli.networks import Network, check_device, network_options, optimizes
from zoo.cli.output import (
    Column,
    check_output_file,
    format_rows,
    note,
    noted_warnings,
    write_file,
)
from zoo.data.find import Found, find_images
from zoo.evaluation.results import ImageResult

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
@network_options
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
    model: str | None,
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
      zoo predict photos/ --checkpoint runs/a/best.safetensors
    """
    check_output_file(output, force)
    network = Network.named(model, checkpoint, num_classes)
    found = list(find_images(images))
    if any(image.error is None for image in found):
        many = len(found) >= _MANY
        results = _predict(
            found, network, topk, batch_size, device, optimizes(optimize, device, many)
        )
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


def _predict(
    found: list[Found], network: Network, topk: int, batch_size: int, device: str, optimize: bool
) -> list[ImageResult]:
    from zoo.evaluation.predict import class_names, predict_images

    check_device(device)
    model = network.load()
    results = predict_images(
        model,
        found,
        labels=class_names(model),
        topk=topk,
        batch_size=batch_size,
        device=device,
        optimize=optimize,
    )
    hidden = len(found) <= batch_size or not sys.stderr.isatty()
    shown = click.progressbar(results, length=len(found), file=sys.stderr, hidden=hidden)
    with noted_warnings(), shown:
        return list(shown)


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
