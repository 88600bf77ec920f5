"""How fast models answer, measured on images of the evaluation."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

_SECONDS = 0.5  # for each measurement, but at least so many calls:
_CALLS = 3


@dataclass(frozen=True, slots=True)
class Speed:
    """Of the models alone, one after another; reading and preparing images is not in it.

    Attributes:
        latency_ms: one image, the median. latency_p95_ms: what 95 % of the calls stayed within.
        throughput: images per second in batches of ``batch_size``, by the median call.
        device, threads: where it ran.
    """

    latency_ms: float
    latency_p95_ms: float
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
    one, many = _times(models, single), _times(models, placed)
    return Speed(
        latency_ms=float(np.median(one)) * 1e3,
        latency_p95_ms=float(np.percentile(one, 95)) * 1e3,
        throughput=len(placed[0]) / float(np.median(many)),
        batch_size=len(placed[0]),
        device=str(device),
        threads=torch.get_num_threads(),
    )


@torch.inference_mode()
def _times(models: Sequence[nn.Module], inputs: Sequence[Tensor]) -> list[float]:
    """Seconds of each call, after one in which plans are made and memory is taken."""
    seconds: list[float] = []
    on_cuda = inputs[0].is_cuda
    while len(seconds) <= _CALLS or sum(seconds[1:]) < _SECONDS:
        begun = time.perf_counter()
        for model, images in zip(models, inputs, strict=True):
            model(images)
        if on_cuda:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begun)
    return seconds[1:]
