"""How fast models answer, measured on images of the evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.benchmark import Measurement, Timer

_MIN_TIME = 0.5  # seconds for each measurement


@dataclass(frozen=True, slots=True)
class Speed:
    """Of the models alone, one after another; reading and preparing images is not in it.

    Attributes:
        latency_ms: one image, the median. latency_iqr_ms: interquartile range.
        throughput: images per second in batches of ``batch_size``, the median.
        device, threads: where it ran.
    """

    latency_ms: float
    latency_iqr_ms: float
    throughput: float
    batch_size: int
    device: str
    threads: int


def measure_speed(
    models: Sequence[nn.Module], inputs: Sequence[Tensor], device: str | torch.device = "cpu"
) -> Speed:
    """Time models, each on its own prepared batch ``(N, C, H, W)``, the same N for all."""
    placed = [each.to(device, memory_format=torch.channels_last) for each in inputs]
    single = [each[:1].clone(memory_format=torch.channels_last) for each in placed]
    one, many = _time(models, single), _time(models, placed)
    return Speed(
        latency_ms=one.median * 1e3,
        latency_iqr_ms=one.iqr * 1e3,
        throughput=len(placed[0]) / many.median,
        batch_size=len(placed[0]),
        device=str(device),
        threads=torch.get_num_threads(),
    )


def _time(models: Sequence[nn.Module], inputs: Sequence[Tensor]) -> Measurement:
    def run() -> None:
        for model, images in zip(models, inputs, strict=True):
            model(images)

    timer = Timer("run()", globals={"run": run}, num_threads=torch.get_num_threads())
    with torch.inference_mode():
        run()  # plans are made and memory is taken in the first call
        return timer.blocked_autorange(min_run_time=_MIN_TIME)
