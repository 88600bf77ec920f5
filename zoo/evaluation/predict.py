"""Predictions of an image classifier for image files."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import torch

import zoo
from zoo.data.find import Found
from zoo.data.images import ImageError, open_image
from zoo.data.transforms import EvalTransform
from zoo.errors import UsageError
from zoo.evaluation.labels import load_labels
from zoo.evaluation.results import ImageResult, Prediction


def class_names(model: torch.nn.Module) -> Sequence[str] | None:
    """Load the class names that a model's ``pretrained_cfg`` refers to; None if it has none.

    Raises:
        ZooError: the names cannot be loaded.
    """
    return load_labels((getattr(model, "pretrained_cfg", None) or {}).get("labels"))


def predict_images(
    model: torch.nn.Module,
    images: Iterable[Found],
    *,
    labels: Sequence[str] | None = None,
    topk: int = 5,
    batch_size: int = 32,
    device: str | torch.device = "cpu",
    optimize: bool = False,
) -> Iterator[ImageResult]:
    """Classify image files in batches and yield a result for each, in the order given.

    A file that cannot be used yields its error and disturbs no other. The model is put in
    evaluation mode, in channels_last layout and on ``device``, and stays so.

    Args:
        model: maps float32 (N, C, H, W) to logits (N, classes). Its ``pretrained_cfg``
            rules the preprocessing (see :class:`zoo.data.transforms.EvalTransform`).
        images: files, or names that led to none, as :func:`zoo.data.find.find_images` gives.
        labels: class names by index; without them, or if they are not as many as the model's
            outputs, the index is the label.
        topk: predictions per image, at most as many as there are classes.
        optimize: run the model by :func:`zoo.optimize`, on the CPU.

    Raises:
        UsageError: the preprocessing that the model asks for is not known.
    """
    if topk < 1 or batch_size < 1:
        raise UsageError(f"topk ({topk}) and batch size ({batch_size}) must be at least 1")
    transform = EvalTransform.from_config(getattr(model, "pretrained_cfg", None) or {})
    model = model.eval().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if optimize:
        model = zoo.optimize(model, torch.randn(1, transform.channels, *transform.crop))

    def load(found: Found) -> torch.Tensor | str:
        if found.error is not None:
            return found.error
        try:
            return transform(open_image(found.path, transform.channels))
        except ImageError as error:
            return str(error)

    source = iter(images)
    with ThreadPoolExecutor() as pool:
        while batch := list(islice(source, batch_size)):
            with warnings.catch_warnings():
                # Pillow warns of odd metadata, and of large images at half the size it refuses.
                warnings.simplefilter("ignore")
                loaded = list(pool.map(load, batch))
            good = [item for item in loaded if isinstance(item, torch.Tensor)]
            best = iter(_best(model, torch.stack(good), topk, device) if good else ())
            for found, item in zip(batch, loaded, strict=True):
                if isinstance(item, str):
                    yield ImageResult(found.path, error=item)
                else:
                    yield ImageResult(found.path, _named(*next(best), labels))


@torch.inference_mode()
def _best(
    model: torch.nn.Module, inputs: torch.Tensor, topk: int, device: str | torch.device
) -> list[tuple[list[float], list[int], int]]:
    """Per input: probabilities and class indices, best first, and the number of classes."""
    logits = model(inputs.to(device, memory_format=torch.channels_last))
    probabilities = logits.float().softmax(dim=1)
    classes = probabilities.shape[1]
    values, indices = probabilities.topk(min(topk, classes), dim=1)
    return [(v, i, classes) for v, i in zip(values.tolist(), indices.tolist(), strict=True)]


def _named(
    probabilities: list[float], indices: list[int], classes: int, labels: Sequence[str] | None
) -> tuple[Prediction, ...]:
    known = labels if labels is not None and len(labels) == classes else None
    return tuple(
        Prediction(known[index] if known else str(index), index, probability)
        for probability, index in zip(probabilities, indices, strict=True)
    )
