"""Whole networks: ``zoo.optimize`` beside eager PyTorch, in both memory formats.

Weights are random (time does not depend on them). Every candidate must give eager's output within
1e-4 of its maximum; then all run in turn in one process. Writes benchmarks/results/networks.json
(or --output), with the machine and commit.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import zoo
from zoo.benchmark.machine import Snapshot, describe_machine, disturbance
from zoo.benchmark.stats import geometric_mean, ratio_interval, summarize
from zoo.compiler.optimize import difference

NETWORKS = (
    "cifar/small_cnn",
    "timm/resnet18",
    "timm/resnet50",
    "timm/vgg16",
    "timm/mobilenetv3_large_100",
    "timm/efficientnet_b0",
    "timm/convnext_tiny",
    "timm/regnety_008",
    "timm/densenet121",
)


def candidates(model: nn.Module, x: Tensor, name: str) -> dict[str, Callable[[], Any]]:
    """What to time; zoo first."""
    turned = zoo.create_model(name).eval()
    turned.load_state_dict(model.state_dict())
    turned = turned.to(memory_format=torch.channels_last)
    x_last = x.contiguous(memory_format=torch.channels_last)
    fast = zoo.optimize(model, x, keep="zoo")
    exact = zoo.optimize(model, x, keep="zoo", precision="exact")
    return {
        "zoo": lambda: fast(x),
        "zoo-exact": lambda: exact(x),
        "eager": lambda: model(x),
        "eager-nhwc": lambda: turned(x_last),
    }


def measure(name: str, batch: int, threads: int, rounds: int, seconds: float) -> dict[str, Any]:
    """Times of one network, and how often the machine was disturbed meanwhile."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = zoo.create_model(name).eval()
    size = 32 if name == "cifar/small_cnn" else 224
    x = torch.randn(batch, 3, size, size)
    runs = candidates(model, x, name)
    with torch.inference_mode():
        return {
            "network": name,
            "batch": batch,
            "threads": threads,
            **compare(runs, rounds, seconds),
        }


def compare(runs: dict[str, Callable[[], Any]], rounds: int, seconds: float) -> dict[str, Any]:
    """The candidates' times in turn, after a check of what they return."""
    expected = runs["eager"]()
    errors = {each: difference(run(), expected) for each, run in runs.items()}
    wrong = {each: error for each, error in errors.items() if error > 1e-4}
    if wrong:
        sys.exit(f"wrong output, relative to its maximum: {wrong}")
    calls = {}
    for each, run in runs.items():
        start = time.perf_counter()
        run()
        calls[each] = max(1, round(0.02 / (time.perf_counter() - start)))
    samples: dict[str, list[float]] = {each: [] for each in runs}
    disturbed = 0
    end = time.perf_counter() + seconds
    while len(samples["zoo"]) < 5 or (len(samples["zoo"]) < rounds and time.perf_counter() < end):
        before = Snapshot.take()
        for each, run in runs.items():
            start = time.perf_counter()
            for _ in range(calls[each]):
                run()
            samples[each].append((time.perf_counter() - start) / calls[each])
        disturbed += disturbance(before, Snapshot.take()) > 1
    best = min(("eager", "eager-nhwc"), key=lambda each: summarize(samples[each]).median)
    return {
        "best_rival": best,
        "ratio": summarize(samples[best]).median / summarize(samples["zoo"]).median,
        "ratio_interval": list(ratio_interval(samples[best], samples["zoo"])),
        "disturbed_rounds": disturbed,
        "errors": errors,
        "median_s": {each: summarize(values).median for each, values in samples.items()},
        "samples_s": samples,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--batch", default="1,8")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument(
        "--seconds", type=float, default=8, help="most for one case, after 5 rounds"
    )
    default = Path(__file__).parent / "results" / "networks.json"
    parser.add_argument("--output", type=Path, default=default)
    options = parser.parse_args()

    rows = []
    print(
        f"{'network':<28} {'batch':>5} {'threads':>7}  {'zoo':>8} {'exact':>8} {'eager':>8} "
        f"{'nhwc':>8}  ms, median"
    )
    with torch.no_grad():
        for name in options.networks.split(","):
            for batch in map(int, options.batch.split(",")):
                for threads in map(int, options.threads.split(",")):
                    row = measure(name, batch, threads, options.rounds, options.seconds)
                    rows.append(row)
                    times = " ".join(f"{1e3 * t:8.2f}" for t in row["median_s"].values())
                    print(
                        f"{name:<28} {batch:>5} {threads:>7}  {times}  "
                        f"{row['ratio']:.2f}x {row['best_rival']}",
                        flush=True,
                    )
    mean = geometric_mean([row["ratio"] for row in rows])
    slower = sum(row["ratio"] < 1 for row in rows)
    print(
        f"zoo against the better eager: {mean:.2f}x (geometric mean), slower in {slower} of "
        f"{len(rows)} rows"
    )
    document = {
        "header": {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": shlex.join(["python", "benchmarks/networks.py", *sys.argv[1:]]),
            "rivals": "eager PyTorch only, in both memory formats",
            **describe_machine(),
        },
        "ratio": mean,
        "results": rows,
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    temporary = options.output.with_suffix(f".{os.getpid()}")
    temporary.write_text(json.dumps(document, indent=1) + "\n")
    os.replace(temporary, options.output)


if __name__ == "__main__":
    main()
