"""Wall time of listing all models: ``zoo list-models`` beside timm.

Both start as whole processes, as a shell would start them, one after the other in turn. zoo's
index is warm: it is made before the first measured run. Writes
benchmarks/results/list_models.json (or --output), with the machine and commit.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from zoo.benchmark.machine import Snapshot, describe_machine, disturbance
from zoo.benchmark.stats import ratio_interval, summarize
from zoo.files import replacing

TIMM = "import timm; print(*timm.list_models(), sep='\\n')"


def seconds_of(command: list[str]) -> tuple[float, int]:
    """Run a command; return its wall time and how many lines it printed."""
    start = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return time.perf_counter() - start, done.stdout.count(b"\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--rounds", type=int, default=20)
    default = Path(__file__).parent / "results" / "list_models.json"
    parser.add_argument("--output", type=Path, default=default)
    options = parser.parse_args()

    zoo = shutil.which("zoo", path=Path(sys.executable).parent)
    if zoo is None:
        sys.exit("the zoo command is not installed beside this interpreter")
    commands = {
        "zoo list-models": [zoo, "list-models", "--format", "names"],
        "timm.list_models": [sys.executable, "-c", TIMM],
        "python alone": [sys.executable, "-c", "pass"],
    }
    lines = {name: seconds_of(command)[1] for name, command in commands.items()}  # warm-up
    samples: dict[str, list[float]] = {name: [] for name in commands}
    disturbed = []
    for number in range(options.rounds):
        before = Snapshot.take()
        for name, command in commands.items():
            samples[name].append(seconds_of(command)[0])
        disturbed.append(disturbance(before, Snapshot.take()))
        print(f"round {number + 1} of {options.rounds}", file=sys.stderr)

    results = []
    for name, seconds in samples.items():
        summary = summarize(seconds)
        results.append(
            {
                "candidate": name,
                "models": lines[name],
                "median_s": summary.median,
                "min_s": summary.minimum,
                "iqr_s": summary.iqr,
                "samples_s": seconds,
            }
        )
        print(
            f"{name:<18} {lines[name]:>5} lines  median {summary.median:7.3f} s  "
            f"min {summary.minimum:7.3f} s"
        )
    low, high = ratio_interval(samples["timm.list_models"], samples["zoo list-models"])
    ratio = results[1]["median_s"] / results[0]["median_s"]
    print(f"zoo is {ratio:.1f} times faster (95 %: {low:.1f} to {high:.1f})")
    busy = sum(value > 1 for value in disturbed)
    if busy:
        print(f"the machine was busy in {busy} of {options.rounds} rounds")
    document = {
        "header": {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "disturbed_rounds": busy,
            **describe_machine(),
        },
        "results": results,
        "ratio": ratio,
        "ratio_interval": [low, high],
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    with replacing(options.output) as temporary:
        temporary.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
