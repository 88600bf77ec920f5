"""Images per second of training input: zoo beside torchvision, timm and kornia, at the same work.

Three tasks: images of 32x32 in memory, batch 128, shifted by up to four pixels, flipped and
normalised; the same with brightness, contrast and saturation changed; photographs as JPEG files,
batch 64, cropped at random, resized to 224x224, flipped and normalised. Everything on two
processors: two worker processes for what is done image by image, two threads for what is done
batch by batch. zoo's result is checked against torchvision's functions first. The candidates of a
task take turns. Writes benchmarks/results/input_pipeline.json (or --output).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from zoo.benchmark.machine import Snapshot, describe_machine, disturbance, worker_environment
from zoo.benchmark.stats import ratio_interval, summarize
from zoo.data import jpeg
from zoo.data.loader import Loader
from zoo.data.pipeline import train_transform
from zoo.data.randomness import sample_keys, subkeys, uniform
from zoo.files import replacing

PROCESSORS = 2
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
JITTER = 0.4
SMALL, LARGE = 6400, 512
"""Images of a round, 32x32 and JPEG."""

Candidates = dict[str, Iterable[Any]]


class InMemory(Dataset[tuple[torch.Tensor, int]]):
    classes = tuple("0123456789")

    def __init__(self, images: torch.Tensor, transform: Callable[..., Any] | None = None) -> None:
        self.images = images
        self.targets = torch.arange(len(images)) % 10
        self.transform = transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        image = self.images[index]
        return (self.transform(image) if self.transform else image), int(self.targets[index])


class Batches:
    """Shuffled batches of images in memory through one call each."""

    def __init__(self, images: torch.Tensor, augment: Callable[..., Any]) -> None:
        self.images = images
        self.augment = augment

    def __iter__(self) -> Iterable[Any]:
        for chosen in torch.randperm(len(self.images)).split(128):
            yield self.augment(self.images[chosen]), chosen


def in_processes(dataset: Dataset[Any], batch: int) -> DataLoader[Any]:
    return DataLoader(dataset, batch, shuffle=True, num_workers=PROCESSORS, persistent_workers=True)


def small_candidates(images: torch.Tensor, jitter: bool) -> Candidates:
    from kornia import augmentation as kornia

    changes = [v2.ColorJitter(JITTER, JITTER, JITTER)] if jitter else []
    to_float = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
    crop_and_flip = [v2.RandomCrop(32, 4), v2.RandomHorizontalFlip()]
    one_by_one = v2.Compose([*crop_and_flip, *changes, *to_float])
    as_picture = v2.Compose([v2.ToPILImage(), *crop_and_flip, *changes, v2.ToImage(), *to_float])
    by_kornia = kornia.AugmentationSequential(
        kornia.RandomCrop((32, 32), padding=4),
        kornia.RandomHorizontalFlip(),
        *([kornia.ColorJiggle(JITTER, JITTER, JITTER)] if jitter else []),
        kornia.Normalize(MEAN, STD),
    )
    transform = train_transform(
        (3, 32, 32), mean=MEAN, std=STD, crop_padding=4, color_jitter=JITTER if jitter else 0
    )
    return {
        "zoo": Loader(InMemory(images), 128, transform=transform, shuffle=True),
        "zoo, two workers": Loader(
            InMemory(images), 128, transform=transform, shuffle=True, workers=PROCESSORS
        ),
        "torchvision, tensors one by one": in_processes(InMemory(images, one_by_one), 128),
        "torchvision, PIL one by one": in_processes(InMemory(images, as_picture), 128),
        "torchvision, one draw for a batch": Batches(images, one_by_one),
        "kornia, batches": Batches(images, lambda batch: by_kornia(batch.float() / 255)),
    }


class Folder(Dataset[Any]):
    """A data set of files, as zoo's loader takes it."""

    def __init__(self, samples: list[tuple[str, int]]) -> None:
        self.paths = [path for path, _ in samples]
        self.targets = torch.tensor([target for _, target in samples])

    def __len__(self) -> int:
        return len(self.paths)


class Decoded(Dataset[Any]):
    """JPEG through torchvision.io and transforms of tensors."""

    def __init__(self, samples: list[tuple[str, int]], transform: Callable[..., Any]) -> None:
        self.samples = samples
        self.transform = transform

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        from torchvision.io import ImageReadMode, decode_image

        path, target = self.samples[index]
        return self.transform(decode_image(path, ImageReadMode.RGB)), target


def jpeg_candidates(folder: Path) -> Candidates:
    from timm.data import create_loader
    from timm.data.dataset import ImageDataset
    from torchvision import transforms as v1
    from torchvision.datasets import ImageFolder

    by_pillow = v1.Compose(
        [
            v1.RandomResizedCrop(224),
            v1.RandomHorizontalFlip(),
            v1.ToTensor(),
            v1.Normalize(MEAN, STD),
        ]
    )
    by_tensors = v2.Compose(
        [
            v2.RandomResizedCrop(224, antialias=True),
            v2.RandomHorizontalFlip(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )
    pictures = ImageFolder(str(folder), by_pillow)
    transform = train_transform((3, 224, 224), mean=MEAN, std=STD)
    timm_loader = create_loader(
        ImageDataset(str(folder)),
        (3, 224, 224),
        64,
        is_training=True,
        color_jitter=0,
        interpolation="bilinear",
        mean=MEAN,
        std=STD,
        num_workers=PROCESSORS,
        device=torch.device("cpu"),
        pin_memory=False,
        persistent_workers=True,
    )
    samples = pictures.samples
    return {
        "zoo": Loader(Folder(samples), 64, transform=transform, shuffle=True, workers=PROCESSORS),
        "torchvision, ImageFolder": in_processes(pictures, 64),
        "torchvision, decode_jpeg and v2": in_processes(Decoded(samples, by_tensors), 64),
        "timm": timm_loader,
    }


def check_small(images: torch.Tensor, jitter: bool) -> None:
    """zoo's batch is what torchvision's functions make of the parameters that were drawn."""
    # Colours in the middle of the range, where nothing is clamped on the way.
    images = 96 + images // 4
    strength = 0.2 if jitter else 0
    transform = train_transform(
        (3, 32, 32), mean=MEAN, std=STD, crop_padding=4, color_jitter=strength
    )
    batch = next(iter(Loader(InMemory(images), 128, transform=transform, seed=3, shuffle=True)))
    crop, flip, color = subkeys(sample_keys(3, 0, batch.indices), 3)
    places, flips = (9 * uniform(crop, 2)).long(), uniform(flip, 1)[0] < 0.5
    factors = 1 + strength * (2 * uniform(color, 4)[:3] - 1)
    for row, index in enumerate(batch.indices):
        image = F.pad(images[index], [4]).float() / 255
        image = F.crop(image, int(places[0, row]), int(places[1, row]), 32, 32)
        image = F.horizontal_flip(image) if flips[row] else image
        if jitter:
            brightness, contrast, saturation = factors[:, row].tolist()
            image = F.adjust_contrast(F.adjust_saturation(image, saturation), contrast)
            image = F.adjust_brightness(image, brightness)
        expected = F.normalize(image, list(MEAN), list(STD))
        torch.testing.assert_close(batch.images[row], expected, rtol=0, atol=2e-3)


def check_jpeg(folder: Path) -> None:
    from torchvision.datasets import ImageFolder

    pictures = ImageFolder(str(folder))
    transform = train_transform((3, 224, 224), mean=(0, 0, 0), std=(1 / 255,) * 3)
    loader = Loader(Folder(pictures.samples), 16, transform=transform, seed=3, shuffle=True)
    batch = next(iter(loader))
    keys = sample_keys(3, 0, batch.indices)
    flips = uniform(subkeys(keys, 2)[1], 1)[0] < 0.5
    for row, index in enumerate(batch.indices.tolist()):
        image = F.pil_to_tensor(pictures[index][0])
        width, height = pictures[index][0].size
        box = transform.fit.box(width, height, int(keys[row]))
        scale = jpeg.reduction(box, (224, 224)) if width * height >= jpeg.LARGE else 1
        # At a reduced scale the crop begins and ends with a pixel of that scale.
        left, top, right, bottom = (scale * round(edge / scale) for edge in box)
        expected = F.resized_crop(
            image, top, left, bottom - top, right - left, [224, 224], antialias=True
        ).float()
        expected = F.horizontal_flip(expected) if flips[row] else expected
        difference = (batch.images[row] - expected).abs()
        # Decoding at a reduced scale is another filter than the resize's; it hardly shows.
        if difference.mean() > 1.5:
            sys.exit(f"image {index}: differs from torchvision's by {difference.mean():.1f} levels")


def make_photographs(folder: Path, width: int, height: int) -> None:
    """Write parts of scikit-learn's two photographs as JPEG files of that size."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    photographs = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    generator = torch.Generator().manual_seed(0)
    for number in range(LARGE):
        photograph = photographs[number % 2]
        zoom, right, down = torch.rand(3, generator=generator).tolist()
        zoom = 0.6 + 0.35 * zoom
        box_width = zoom * photograph.width
        box_height = min(photograph.height, box_width * height / width)
        left = right * (photograph.width - box_width)
        top = down * (photograph.height - box_height)
        box = (left, top, left + box_width, top + box_height)
        path = folder / f"class{number % 2}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        part = photograph.resize((width, height), Image.Resampling.BICUBIC, box=box)
        part.save(path, quality=90)


def images_per_second(batches: Iterable[Any]) -> float:
    """Rate over whole epochs, of at least half a second in all."""
    start, seconds, images = time.perf_counter(), 0.0, 0
    while seconds < 0.5:
        for batch in batches:
            images += len(batch[0])
        seconds = time.perf_counter() - start
    return images / seconds


def measure(task: str, candidates: Candidates, rounds: int) -> list[dict[str, Any]]:
    for batches in candidates.values():
        images_per_second(batches)  # starts the processes
    samples: dict[str, list[float]] = {name: [] for name in candidates}
    disturbed = 0
    for number in range(rounds):
        before = Snapshot.take()
        for name, batches in candidates.items():
            samples[name].append(images_per_second(batches))
        disturbed += disturbance(before, Snapshot.take()) > 1
        print(f"{task}: round {number + 1} of {rounds}", file=sys.stderr)
    results = []
    for name, rates in samples.items():
        seconds = [1 / rate for rate in rates]
        low, high = ratio_interval(seconds, [1 / rate for rate in samples["zoo"]])
        summary = summarize(seconds)
        results.append(
            {
                "task": task,
                "candidate": name,
                "median_images_per_s": 1 / summary.median,
                "best_images_per_s": 1 / summary.minimum,
                "zoo_is_faster_by": [low, high],
                "images_per_s": rates,
                "disturbed_rounds": disturbed,
            }
        )
        print(
            f"{task:<30} {name:<34} median {1 / summary.median:>9,.0f} images/s  "
            f"best {1 / summary.minimum:>9,.0f}  zoo/it {low:.2f} to {high:.2f}"
        )
    return results


def tasks(folder: Path) -> dict[str, Callable[[], Candidates]]:
    """Checked as they are made."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (SMALL, 3, 32, 32), generator=generator, dtype=torch.uint8)

    def small(jitter: bool) -> Candidates:
        check_small(images, jitter)
        return small_candidates(images, jitter)

    def photographs(width: int, height: int) -> Candidates:
        place = folder / f"{width}x{height}"
        make_photographs(place, width, height)
        check_jpeg(place)
        return jpeg_candidates(place)

    return {
        "32x32 crop, flip": lambda: small(False),
        "32x32 crop, flip, jitter": lambda: small(True),
        "JPEG 500x375 to 224": lambda: photographs(500, 375),
        "JPEG 1600x1200 to 224": lambda: photographs(1600, 1200),
    }


def main() -> None:
    environment = worker_environment()
    if environment != dict(os.environ):
        os.execve(sys.executable, [sys.executable, *sys.argv], environment)
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--task", help="only tasks that contain this word, not written to a file")
    default = Path(__file__).parent / "results" / "input_pipeline.json"
    parser.add_argument("--output", type=Path, default=default)
    options = parser.parse_args()

    torch.set_num_threads(PROCESSORS)
    warnings.simplefilter("ignore")
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for task, candidates in tasks(Path(folder)).items():
            if options.task is None or options.task in task:
                results += measure(task, candidates(), options.rounds)
    if options.task is not None:
        return
    from importlib.metadata import version

    names = ("torch", "torchvision", "timm", "kornia", "pillow")
    document = {
        "header": {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "processors": PROCESSORS,
            "rounds": options.rounds,
            **describe_machine(),
            "libraries": {name: version(name) for name in names},
        },
        "results": results,
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    with replacing(options.output) as temporary:
        temporary.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
