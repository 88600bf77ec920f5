"""Times of training: zoo train beside a plain loop, the digits, and a frozen backbone.

- ``loop``: images per second of ``zoo train`` (its own figure, the median of its epochs but the
  first) beside an explicit PyTorch loop that does the same work: batches gathered from uint8 images
  in memory, shifted by up to 4 pixels and mirrored image by image, normalised; channels_last; fused
  Adam. Each is a process of its own; they take turns.
- ``digits``: ``zoo train --dataset digits --model cifar/small_cnn --epochs 30``, five seeds, each
  by fused ops and by PyTorch's: whole processes and their accuracy on the 360 test images.
- ``freeze``: the classifier of efficientnet_lite0 on crops of two photographs, with the frozen part
  by zoo.optimize and as it is in PyTorch: whole processes, of which the features are computed anew,
  and again with the features in the cache.

Writes benchmarks/results/training.json (or --output), with the machine and commit of each part.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from zoo.benchmark.machine import Snapshot, describe_machine, disturbance
from zoo.files import replacing

HERE = Path(__file__).parent
CASES = (("small_cnn", 32), ("small_cnn", 128), ("resnet20", 128))
EPOCHS = 3


def plain_loop(model_name: str, batch: int) -> None:
    """Print the images per second of each epoch of an ordinary loop."""
    import torch

    import zoo

    os.environ["ZOO_EXTRA_PLUGINS"] = str(HERE / "noise.py")
    data = zoo.create_dataset("noise/colour32", split="train")
    model = zoo.create_model(f"cifar/{model_name}").to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    mean = torch.tensor([0.5, 0.5, 0.5]).view(1, 3, 1, 1)
    std = torch.tensor([0.25, 0.25, 0.25]).view(1, 3, 1, 1)
    images, targets = data.images, data.targets
    for _ in range(EPOCHS):
        start = time.perf_counter()
        order = torch.randperm(len(images))
        for first in range(0, len(images) - batch + 1, batch):
            chosen = order[first : first + batch]
            padded = torch.nn.functional.pad(images[chosen], (4, 4, 4, 4))
            windows = padded.unfold(2, 32, 1).unfold(3, 32, 1)
            x, y = torch.randint(0, 9, (2, batch))
            part = windows[torch.arange(batch), :, y, x]
            flip = torch.rand(batch) < 0.5
            part = torch.where(flip.view(-1, 1, 1, 1), part.flip(3), part)
            part = part.float().div_(255).sub_(mean).div_(std)
            part = part.contiguous(memory_format=torch.channels_last)
            loss = torch.nn.functional.cross_entropy(model(part), targets[chosen])
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        print(f"{len(order) // batch * batch / (time.perf_counter() - start):.1f} images/s")


def zoo_train(folder: Path, *arguments: str, cache: Path | None = None) -> tuple[float, str, str]:
    """Run ``zoo train``; return its wall time, stdout and stderr."""
    environment = {**os.environ, "ZOO_EXTRA_PLUGINS": str(HERE / "noise.py")}
    if cache is not None:
        environment["ZOO_CACHE_DIR"] = str(cache)
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "zoo", "train", *arguments, "--output", folder, "--format", "csv"],
        capture_output=True,
        text=True,
        env=environment,
    )
    if done.returncode:
        sys.exit(done.stderr)
    return time.perf_counter() - start, done.stdout, done.stderr


def speed(printed: str) -> float:
    """The median of the epochs' images per second, the first left out."""
    figures = [float(each.replace(",", "")) for each in re.findall(r"([\d,.]+) images/s", printed)]
    return statistics.median(figures[1:])


def measure_loop(rounds: int, only: str | None) -> dict[str, dict[str, object]]:
    rows: dict[str, dict[str, object]] = {}
    for model, batch in CASES:
        if only not in (None, model):
            continue
        samples: dict[str, list[float]] = {"zoo train": [], "plain loop": []}
        disturbed = []
        for number in range(rounds):
            before = Snapshot.take()
            with tempfile.TemporaryDirectory() as folder:
                _, _, printed = zoo_train(
                    Path(folder, "run"),
                    *("--dataset", "noise/colour32", "--model", f"cifar/{model}", "-b", str(batch)),
                    *("--opt", "adam", "--weight-decay", "0", "--epochs", str(EPOCHS)),
                    *("--sched", "constant", "--crop-padding", "4"),
                )
            samples["zoo train"].append(speed(printed))
            done = subprocess.run(
                [sys.executable, __file__, "--plain", model, str(batch)],
                capture_output=True,
                text=True,
                check=True,
            )
            samples["plain loop"].append(speed(done.stdout))
            disturbed.append(disturbance(before, Snapshot.take()))
            print(f"{model} batch {batch}: round {number + 1} of {rounds}", file=sys.stderr)
        row: dict[str, object] = {"model": f"cifar/{model}", "batch": batch}
        for name, values in samples.items():
            row[name] = {"images_per_second": statistics.median(values), "samples": values}
        row["disturbance"] = disturbed
        rows[f"{model}, batch {batch}"] = row
    return rows


def measure_digits(seeds: int) -> dict[str, object]:
    command = ("--dataset", "digits", "--model", "cifar/small_cnn", "--epochs", "30")
    seconds: dict[str, list[float]] = {"fused": [], "torch": []}
    accuracies: dict[str, list[float]] = {"fused": [], "torch": []}
    for seed in range(seeds):
        for ops in seconds:
            with tempfile.TemporaryDirectory() as folder:
                took, printed, _ = zoo_train(
                    Path(folder, "run"), *command, "--seed", str(seed), "--ops", ops
                )
            (row,) = csv.DictReader(io.StringIO(printed))
            seconds[ops].append(took)
            accuracies[ops].append(float(row["eval_top1"]))
            told = f"{accuracies[ops][-1]:.2f} %, {took:.1f} s"
            print(f"digits: seed {seed}, {ops}: {told}", file=sys.stderr)
    return {
        "command": f"zoo train {' '.join(command)}",
        **{
            ops: {
                "eval_top1": found,
                "mean_eval_top1": statistics.fmean(found),
                "seconds": seconds[ops],
            }
            for ops, found in accuracies.items()
        },
    }


def crops(folder: Path, per_class: dict[str, int]) -> None:
    """Cut pictures of two classes out of scikit-learn's two photographs."""
    import random

    from PIL import Image
    from sklearn.datasets import load_sample_images

    draw = random.Random(0)
    sample = load_sample_images()
    for path, pixels in zip(sample.filenames, sample.images, strict=True):
        photo = Image.fromarray(pixels)
        for split, count in per_class.items():
            place = folder / split / Path(path).stem
            place.mkdir(parents=True)
            for number in range(count):
                side = draw.randrange(200, 400)
                left = draw.randrange(photo.width - side)
                top = draw.randrange(photo.height - side)
                photo.crop((left, top, left + side, top + side)).save(place / f"{number}.jpg")


def measure_freeze(rounds: int) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    counts = {"train": 750, "val": 250}
    with tempfile.TemporaryDirectory() as place:
        pictures = Path(place, "pictures")
        crops(pictures, counts)
        arguments = (
            *("--dataset", str(pictures), "--model", "efficientnet-lite/efficientnet_lite0"),
            *("--pretrained", "--freeze", "backbone", "--epochs", "20", "-b", "32"),
        )
        samples: dict[str, dict[str, list[float]]] = {}
        for number in range(rounds):
            for name, flag in (("zoo.optimize", "--optimize"), ("PyTorch", "--no-optimize")):
                held = samples.setdefault(name, {"first": [], "features": [], "again": []})
                cache = Path(place, f"cache-{name}-{number}")
                for which in ("first", "again"):
                    took, printed, said = zoo_train(
                        Path(place, f"{name}-{number}-{which}"), *arguments, flag, cache=cache
                    )
                    held[which].append(took)
                    if which == "first":
                        found = re.findall(r"that took ([\d.]+) s", said)
                        held["features"].append(sum(map(float, found)))
                (row,) = csv.DictReader(io.StringIO(printed))
                print(f"freeze: {name}: {held}, {row['eval_top1']} %", file=sys.stderr)
        for name, held in samples.items():
            rows.append(
                {
                    "frozen_part": name,
                    "images": 2 * sum(counts.values()),
                    "epochs": 20,
                    "seconds_of_features": held["features"],
                    "seconds_in_all": held["first"],
                    "seconds_in_all_with_features_in_cache": held["again"],
                }
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=("loop", "digits", "freeze"))
    parser.add_argument("--model", help="of the loop, this one alone; other results stay")
    parser.add_argument("--plain", nargs=2, metavar=("MODEL", "BATCH"), help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, default=HERE / "results" / "training.json")
    options = parser.parse_args()
    if options.plain:
        plain_loop(options.plain[0], int(options.plain[1]))
        return
    document = json.loads(options.output.read_text()) if options.output.exists() else {}
    jobs = {
        "loop": lambda: document.get("loop", {}) | measure_loop(options.rounds, options.model),
        "digits": lambda: measure_digits(options.rounds),
        "freeze": lambda: measure_freeze(options.rounds),
    }
    for name, job in jobs.items():
        if options.only in (None, name):
            date = datetime.now(UTC).isoformat(timespec="seconds")
            document.setdefault("headers", {})[name] = {"date": date, **describe_machine()}
            document[name] = job()
    with replacing(options.output) as temporary:
        temporary.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
