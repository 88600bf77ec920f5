"""All CNN architectures of timm below 60 million parameters through ``zoo.optimize``.

Weights are random; gains, shifts and BatchNorm's statistics are spread as in a trained network. For
each: whether its graph could
be captured and which sizes stayed open, what zoo's kernels do and what is left to PyTorch's, the
error relative to the output's maximum, and the time against eager PyTorch in channels_last (minima
of runs in turn; where zoo seems slower, measured again for longer). Writes
benchmarks/results/sweep.json (or --output) after every architecture, so that it can go on where it
was stopped (--resume).
"""

from __future__ import annotations

import argparse
import copy
import fnmatch
import json
import multiprocessing
import shlex
import sys
import time
import warnings
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

import zoo
from zoo.benchmark.machine import describe_machine
from zoo.benchmark.networks.model import settle
from zoo.benchmark.stats import geometric_mean
from zoo.compiler.optimize import TOLERANCE, difference
from zoo.files import replacing

MOST_PARAMETERS = 60e6
PATIENCE_S = 300
# Attention or state spaces do most of their work, whatever convolutions they have beside.
NO_CNNS = {
    "coat", "cpubone", "crossvit", "csatv2", "davit", "efficientformer", "efficientformer_v2",
    "efficientvim", "efficientvit_mit", "efficientvit_msra", "gcvit", "iformer", "levit",
    "lowformer", "maxxvit", "mvitv2", "nextvit", "pvt_v2", "shvit", "swiftformer", "tiny_vit",
    "twins", "visformer", "vision_transformer", "vision_transformer_hybrid", "volo", "xcit",
}  # fmt: skip


def is_cnn(model: nn.Module) -> bool:
    """Whether this is a convolutional network of the size that the sweep is about."""
    windows = sum(isinstance(m, nn.Conv2d) and max(m.kernel_size) > 1 for m in model.modules())
    family = type(model).__module__.rpartition(".")[2]
    parameters = sum(tensor.numel() for tensor in model.parameters())
    return windows >= 4 and family not in NO_CNNS and parameters < MOST_PARAMETERS


def example(model: nn.Module, image_size: int) -> Tensor:
    """One image, of the model's own size where it takes no other."""
    channels, *own = model.default_cfg["input_size"]
    x = torch.randn(1, channels, *(min(each, image_size) for each in own))
    try:
        model(x)
    except (AssertionError, RuntimeError):
        x = torch.randn(1, channels, *own)
        model(x)
    return x


def eager_error(model: nn.Module, x: Tensor) -> float:
    """How far eager PyTorch is from float64: a network that amplifies rounding is wrong there too.

    On the inputs that zoo.optimize compares outputs for: the example and another one.
    """
    exact = copy.deepcopy(model).double()
    other = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    return max(difference(model(each).double(), exact(each.double())) for each in (x, other))


@torch.no_grad()
def measure(name: str, seconds: float, threads: int, image_size: int) -> dict[str, Any]:
    """The row of one architecture; empty for what is no CNN."""
    torch.set_num_threads(threads)
    warnings.simplefilter("ignore")
    with torch.device("meta"):
        if not is_cnn(timm.create_model(name)):
            return {}
    torch.manual_seed(0)
    model = timm.create_model(name).eval()
    x = example(model, image_size)
    settle(model, torch.randn(4, *x.shape[1:]))
    row: dict[str, Any] = {
        "model": name,
        "parameters": sum(tensor.numel() for tensor in model.parameters()),
        "input_size": list(x.shape[1:]),
    }
    start = time.perf_counter()
    fast = zoo.optimize(model, x, keep="zoo")
    row["optimize_s"] = time.perf_counter() - start
    if fast.network is None:
        row["eager_error"] = eager_error(model, x)
        return {**row, "status": "runs as it is", "reason": fast.reason}
    captured = fast.network.captured[0]
    row["error"] = difference(fast(x), model(x))
    other = torch.cat([x, torch.randn_like(x)])
    row["error_other_batch"] = difference(fast(other), model(other))
    layers = fast.report(x).layers
    own = Counter(layer.op for layer in layers if not layer.kernel.startswith("aten::"))
    foreign = Counter(layer.op for layer in layers if layer.kernel.startswith("aten::"))
    foreign_s = sum(layer.seconds for layer in layers if layer.kernel.startswith("aten::"))
    row |= {
        "status": "plan",
        "open": "".join("NCHW"[axis] for axis in captured.dynamic[0]),
        "steps": dict(own),
        "pytorch_steps": dict(foreign),
        "pytorch_share": foreign_s / sum(layer.seconds for layer in layers),
    }
    return {**row, **(times(fast, model, x, seconds) if seconds > 0 else {})}


@torch.inference_mode()
def times(fast: nn.Module, model: nn.Module, x: Tensor, seconds: float) -> dict[str, float]:
    """Minima of runs in turn, zoo's and eager's."""
    for tensor in model.parameters():
        if tensor.dim() == 4:  # a model that has weights of five refuses to be turned as a whole
            tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)
    x_last = x.contiguous(memory_format=torch.channels_last)
    runs = (lambda: fast(x_last), lambda: model(x_last))
    best = [float("inf")] * 2
    for attempt in range(2):
        end = time.perf_counter() + seconds * (1 + 3 * attempt)
        rounds = 0
        while rounds < 3 or time.perf_counter() < end:
            for i, run in enumerate(runs):
                start = time.perf_counter()
                run()
                best[i] = min(best[i], time.perf_counter() - start)
            rounds += 1
        if best[0] <= best[1]:
            break
    return {"zoo_ms": best[0] * 1e3, "eager_ms": best[1] * 1e3, "ratio": best[1] / best[0]}


class Worker:
    """One process that measures; a new one where it died or took too long."""

    def __init__(self) -> None:
        self._pool: ProcessPoolExecutor | None = None

    def row(self, name: str, *options: Any) -> dict[str, Any]:
        """What ``measure`` returns, or a row that says how it failed."""
        if self._pool is None:
            spawn = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(1, mp_context=spawn)
        try:
            return self._pool.submit(measure, name, *options).result(PATIENCE_S)
        except (BrokenProcessPool, TimeoutError) as error:
            _kill(self._pool)
            self._pool = None
            reason = f"took more than {PATIENCE_S} s" if isinstance(error, TimeoutError) else "died"
        except Exception as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
        return {"model": name, "status": "failed", "reason": reason}


def _kill(pool: ProcessPoolExecutor) -> None:
    for process in list((pool._processes or {}).values()):
        process.kill()
    pool.shutdown(cancel_futures=True)


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Counts over all rows."""
    planned = [row for row in rows if row["status"] == "plan"]
    ratios = [row["ratio"] for row in planned if "ratio" in row]
    return {
        "architectures": len(rows),
        "planned": len(planned),
        "wholly_zoo": sum(not row["pytorch_steps"] for row in planned),
        "beyond_tolerance": sorted(
            row["model"]
            for row in planned
            if max(row["error"], row["error_other_batch"]) > TOLERANCE
        ),
        "slower": sorted(row["model"] for row in planned if row.get("ratio", 1) < 1),
        "ratio": geometric_mean(ratios) if ratios else None,
        "amplifies_rounding": sorted(
            row["model"] for row in rows if row.get("eager_error", 0) > TOLERANCE
        ),
        "not_planned": {row["model"]: row["reason"] for row in rows if row["status"] != "plan"},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--models", default="*", help="patterns, separated by commas")
    parser.add_argument("--seconds", type=float, default=0.6, help="of timing for each; 0: none")
    parser.add_argument("--image-size", type=int, default=224, help="at most")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--resume", action="store_true", help="keep the rows of an earlier run")
    default = Path(__file__).parent / "results" / "sweep.json"
    parser.add_argument("--output", type=Path, default=default)
    options = parser.parse_args()

    header = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["python", "benchmarks/sweep.py", *sys.argv[1:]]),
        "timm": timm.__version__,
        **describe_machine(),
    }
    rows: list[dict[str, Any]] = []
    if options.resume and options.output.exists():
        rows = json.loads(options.output.read_text())["results"]
    done = {row["model"] for row in rows}
    patterns = options.models.split(",")
    names = [n for n in timm.list_models() if any(fnmatch.fnmatch(n, p) for p in patterns)]
    worker = Worker()
    for number, name in enumerate(names, 1):
        if name in done:
            continue
        row = worker.row(name, options.seconds, options.threads, options.image_size)
        if not row:
            continue
        rows.append(row)
        text = f"{row['ratio']:.2f}x" if "ratio" in row else row.get("reason", "captured")
        print(f"{number}/{len(names)} {name:<36} {text}", file=sys.stderr, flush=True)
        document = {"header": header, "summary": summary(rows), "results": rows}
        with replacing(options.output) as temporary:
            temporary.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
