"""``zoo data check``: how large a data set is, and how clean."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.cli.networks import Network, check_device, network_options
from zoo.cli.output import (
    Column,
    check_output_file,
    format_json,
    format_table,
    joined,
    note,
    write_file,
)
from zoo.cli.progress import progress
from zoo.errors import DataError, UsageError

if TYPE_CHECKING:
    from zoo.data.check.report import Doubt, Report
    from zoo.data.check.scan import Sample

_SHOWN = 20  # rows of a table; JSON has all


@click.group("data", context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Look at data sets."""


@command.command("check")
@click.argument("dataset", metavar="NAME|PATH")
@click.option(
    "--data-dir",
    type=click.Path(exists=True, path_type=Path),
    metavar="DIR",
    help="Folder that holds the data set.  [default: ZOO_DATA_DIR/NAME]",
)
@click.option("--dataset-download", is_flag=True, help="Download the data set if it is absent.")
@click.option(
    "--split", "only", multiple=True, metavar="NAME", help="Only this split. May be repeated."
)
@network_options
@click.option(
    "--batch-size",
    "-b",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    metavar="N",
    help="Images per forward pass of the model.",
)
@click.option(
    "--workers",
    "-j",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="N",
    help="Processes that prepare images for the model.",
)
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1, ...")
@click.option(
    "--format",
    "format_",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="Tables show the first of long lists, JSON all.",
)
@click.option(
    "--output",
    "-o",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the result to a file instead of stdout.",
)
@click.option(
    "--contact-sheet",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.png",
    help="Write a picture with images of each class, in which what is odd is marked.",
)
@click.option("--force", is_flag=True, help="Overwrite the output files.")
@click.option("--strict", is_flag=True, help="Exit with 1 if there is any problem.")
def check(
    dataset: str,
    data_dir: Path | None,
    dataset_download: bool,
    only: tuple[str, ...],
    model: str | None,
    checkpoint: Path | None,
    num_classes: int | None,
    batch_size: int,
    workers: int,
    device: str,
    format_: str,
    output: Path | None,
    contact_sheet: Path | None,
    force: bool,
    strict: bool,
) -> None:
    """Look through a data set: which, how large, how clean.

    Reads every image of every split and reports the number of images of each class, sizes, modes,
    channel statistics, files that cannot be read, images that are there twice or nearly so (between
    splits they make evaluations too good), and classes that are rare. With a model, also labels
    that it contradicts with confidence: use one that has not been trained on these images.

    \b
    Examples:
      zoo data check photos/ --contact-sheet photos.png
      zoo data check cifar10 --split test --checkpoint runs/a/best.safetensors --format json
    """
    check_output_file(output, force)
    check_output_file(contact_sheet, force)
    if contact_sheet is not None and contact_sheet.suffix.lower() != ".png":
        raise UsageError(f"--contact-sheet {contact_sheet}: the file's name must end in .png")
    asks = model is not None or checkpoint is not None
    network = Network.named(model, checkpoint, num_classes) if asks else None
    download = {"download": True} if dataset_download else {}
    datasets, unopened = _open(dataset, only, data_dir, download)

    from zoo.data.check.report import Report, find_groups
    from zoo.data.check.scan import scan

    images = sum(map(len, datasets.values()))
    with progress("looking at images", images) as update:
        samples = scan(datasets, update)
    with progress("looking for duplicates", images) as update:
        groups = find_groups(samples, update)
    doubts = None
    classes = next(iter(datasets.values())).classes
    if network is not None:
        check_device(device)
        doubts = _doubts(network, dataset, datasets, samples, batch_size, workers, device)
    report = Report(dataset, classes, samples, unopened, groups, doubts)
    if contact_sheet is not None:
        _write_sheet(contact_sheet, report, datasets)
    document = report.document()
    text = format_json(document) if format_ == "json" else _page(document)
    if output is not None:
        write_file(output, text + "\n")
    else:
        click.echo(text)
    if strict and document["problems"]:
        raise SystemExit(1)


def _open(
    dataset: str, only: Sequence[str], data_dir: Path | None, download: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Open the splits; return those that can be, and what is wrong with the others.

    Raises:
        ZooError: none of them can be.
    """
    from zoo.data.datasets import open_dataset, splits

    datasets: dict[str, Any] = {}
    failed: dict[str, DataError] = {}
    for split in only or splits(dataset, data_dir):
        try:
            datasets[split] = open_dataset(dataset, split=split, root=data_dir, **download)
        except DataError as error:
            failed[split] = error
    if not datasets:
        raise next(iter(failed.values()))
    return datasets, {split: str(error) for split, error in failed.items()}


def _doubts(
    network: Network,
    dataset: str,
    datasets: Mapping[str, Any],
    samples: Sequence[Sample],
    batch_size: int,
    workers: int,
    device: str,
) -> list[Doubt]:
    """Ask a model about all images of all splits."""
    import torch

    from zoo.data.check.report import Doubt
    from zoo.data.loader import Loader
    from zoo.data.pipeline import eval_transform
    from zoo.evaluation.classes import match_classes
    from zoo.evaluation.doubts import contradicted
    from zoo.evaluation.outcomes import Member, collect
    from zoo.evaluation.predict import class_names

    model = network.load().eval().to(device)
    config = getattr(model, "pretrained_cfg", None) or {}
    transform = eval_transform(**{k: v for k, v in config.items() if v is not None})
    with torch.inference_mode():
        outputs = model(torch.zeros(1, *transform.input_size, device=device)).shape[-1]
    number = {(sample.split, sample.index): n for n, sample in enumerate(samples)}
    doubts = []
    for split, data in datasets.items():
        columns = match_classes(network.title, outputs, class_names(model), dataset, data.classes)
        member = Member(
            network.title,
            model,
            Loader(data, batch_size, transform=transform, workers=workers, on_error="skip"),
            None if columns is None else torch.tensor(columns),
        )
        with progress(f"asking {network.title} about {split}", len(data)) as update:
            said = collect([member], len(data.classes), device=device, progress=update).together
        for place in contradicted(said, len(data.classes)).tolist():
            doubts.append(
                Doubt(
                    number[split, int(said.indices[place])],
                    int(said.predicted[place]),
                    float(said.probabilities[place, 0]),
                    float(said.of_target[place]),
                )
            )
    return sorted(doubts, key=lambda doubt: doubt.of_label)


def _write_sheet(path: Path, report: Report, datasets: Mapping[str, Any]) -> None:
    from zoo.data.check.sheet import contact_sheet

    stream = io.BytesIO()
    contact_sheet(report, datasets).save(stream, "PNG")
    write_file(path, stream.getvalue())
    note(f"wrote {path}")


def _page(document: Mapping[str, Any]) -> str:
    """Lay the result out for people."""
    splits = list(document["splits"])
    parts = [_facts(document)]
    rows = sorted(document["classes"], key=lambda row: -sum(row[split] for split in splits))
    columns: list[Column | str] = ["class"]
    columns += (Column(split, right=True) for split in splits)
    if len(rows) > _SHOWN:
        half = _SHOWN // 2
        between = {"class": f"({len(rows) - 2 * half} more)", **dict.fromkeys(splits, "")}
        rows = [*rows[:half], between, *rows[-half:]]
    parts.append(format_table(rows, columns))
    parts += _section("unreadable", document["unreadable"], ["image", "error"])
    groups = [
        {
            "what": "identical" if group["exact"] else "nearly identical",
            "where": "between splits" if group["across_splits"] else "within a split",
            "labels": _some(list(dict.fromkeys(image["label"] for image in group["images"]))),
            "images": _some([_name(image) for image in group["images"]]),
        }
        for group in document["duplicates"]
    ]
    parts += _section("duplicates", groups, ["what", "where", "labels", "images"])
    shares = [Column(key, show=lambda share: f"{100 * share:.1f} %", right=True)
              for key in ("label_probability", "probability")]  # fmt: skip
    parts += _section(
        "suspicious labels",
        document["suspicious"] or [],
        ["image", "label", shares[0], "predicted", shares[1]],
    )
    problems = document["problems"]
    parts.append("\n".join(["problems", *(f"  {text}" for text in problems or ["none found"])]))
    return "\n\n".join(parts)


def _facts(document: Mapping[str, Any]) -> str:
    def span(key: str) -> str:
        of = document[key]
        return f"{key} {of['min']} to {of['max']}, median {of['median']}"

    classes = len(document["classes"])
    facts = {
        "data set": document["dataset"],
        "task": f"{document['task']}, {classes} class{'es' * (classes != 1)}",
        "images": f"{document['images']:,} ("
        + joined([f"{split} {count:,}" for split, count in document["splits"].items()])
        + ")",
    }
    if document["width"]:
        one = document["sizes"] == 1
        size = f"{document['width']['min']} x {document['height']['min']}"
        facts["size"] = f"{size}, all" if one else f"{span('width')}; {span('height')}"
        facts["modes"] = joined([f"{mode} {count:,}" for mode, count in document["modes"].items()])
        if document["turned_by_exif"]:
            facts["turned"] = f"{document['turned_by_exif']:,} by EXIF"
    if document["mean"]:
        for key in ("mean", "std"):
            of = joined([f"{value:.4f}" for value in document[key]])
            facts[key] = f"{of} ({next(iter(document['splits']))})"
    width = max(map(len, facts))
    return "\n".join(f"{key.ljust(width)}  {text}" for key, text in facts.items())


def _section(title: str, rows: Sequence[Any], columns: Sequence[Column | str]) -> list[str]:
    if not rows:
        return []
    shown = [{"image": _name(row), **row} if "index" in row else row for row in rows[:_SHOWN]]
    more = f"\n... and {len(rows) - _SHOWN:,} more" if len(rows) > _SHOWN else ""
    return [f"{title} ({len(rows):,})\n" + format_table(shown, columns) + more]


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 4 else ""
    return joined(names[:3] if more else names) + more


def _name(image: Mapping[str, Any]) -> str:
    return image["path"] or f"{image['split']} {image['index']}"
