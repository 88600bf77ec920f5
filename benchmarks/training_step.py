"""A step of training on the CPU: zoo's fused ops beside PyTorch and Keras.

Contestants, each a process of its own that trains the same network by Adam (float32) on the same
kind of batches (noise, held as uint8 in memory; shifted by up to 4 pixels and mirrored image by
image, normalised), freed memory kept by malloc as ``zoo train`` has it:

- ``zoo``: ``zoo.nn.fuse_for_training``, channels_last, fused Adam, input by ``zoo.data.loader``;
- ``eager``: the same in PyTorch as it is, ``compile``: forward and backward by torch.compile;
- ``keras``: Keras 3 on TensorFlow without XLA, input by tf.data, in an environment of its own
  (``make keras-env``); ``keras-8``, where steps are short: eight of them in one call.

All begin with the weights of one and the same network: who does not reach its losses (PyTorch's in
float64, the first three steps) within 0.5 % is out.

- speed: blocks of steps, input included, in turn, with one of PyTorch's twice as a control;
- memory: how far resident memory rises above the level before a step, and before the first three;
- profile: time by kind of op, and the timeline of a step, in eager PyTorch and with zoo's ops.

Writes benchmarks/results/training_step.json (or --output); cases that are not measured stay.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from step.cases import CASES, ENGINES, RIVALS, Case
from step.race import look, race

from zoo.benchmark.machine import Snapshot, describe_machine, disturbance
from zoo.benchmark.timing import Plan
from zoo.files import replacing

RESULT = Path(__file__).parent / "results" / "training_step.json"
REPEATS = 11  # of steps that are looked into


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def plain(value: Any) -> Any:
    """The same with None for what is not a number, which JSON does not have."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def measure(part: str, case: Case, options: argparse.Namespace) -> dict[str, Any]:
    """What a case of a part comes to."""
    names = ["zoo", *(name for name in RIVALS if name in options.rivals)]
    if part != "speed" or not case.short:
        names = [name for name in names if ENGINES.get(name, 1) == 1]
    if part == "speed":
        plan = Plan(rounds=options.rounds, block_s=options.block, patience=2)
        return race(case, names, plan, say)
    if part == "memory":
        return look(case, names, say, peak=REPEATS)
    return look(case, [name for name in names if name in ("zoo", "eager")], say, profile=REPEATS)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for part, help in (
        ("speed", "images per second; this alone by default"),
        ("memory", "peak memory of a step"),
        ("profile", "time of its ops"),
    ):
        parser.add_argument(f"--{part}", action="store_true", help=help)
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", help="cases with one of these in their names"
    )
    parser.add_argument("--list", action="store_true", help="print the names of the cases")
    parser.add_argument(
        "--rivals",
        type=lambda text: text.split(","),
        default=list(RIVALS),
        help="separated by commas (default: all of them)",
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--block", type=float, default=1.5, help="seconds of a block at least")
    parser.add_argument("--output", type=Path, default=RESULT)
    parser.add_argument("--force", action="store_true", help="replace what it holds of the cases")
    options = parser.parse_args()
    if unknown := set(options.rivals) - set(RIVALS):
        parser.error(f"there is no rival {unknown.pop()}; there are {', '.join(RIVALS)}")
    chosen = [each for each in CASES if any(name in str(each) for name in options.only or [""])]
    if not chosen:
        parser.error("--only leaves no case; --list shows their names")
    if options.list:
        print(*chosen, sep="\n")
        return
    parts = [name for name in ("speed", "memory", "profile") if getattr(options, name)] or ["speed"]
    document = json.loads(options.output.read_text()) if options.output.exists() else {}
    machine = describe_machine()
    if document and document["header"]["cpu"] != machine["cpu"]:
        sys.exit(f"{options.output} is of another processor: choose another --output")

    # Memory and profiles are the same whatever the number of threads, or nearly so.
    jobs = [(part, case) for part in parts for case in chosen]
    jobs = [(part, case) for part, case in jobs if part == "speed" or case.threads == 2]
    there = [f"{part} of {case}" for part, case in jobs if str(case) in document.get(part, {})]
    if there and not options.force:
        sys.exit(f"{options.output} has {there[0]} already: --force replaces it")
    document["header"] = machine
    for part, case in jobs:
        before = Snapshot.take()
        found = measure(part, case, options)
        about = {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "commit": machine["commit"],
            "disturbance": disturbance(before, Snapshot.take()),
        }
        document.setdefault(part, {})[str(case)] = {**about, **found}
        options.output.parent.mkdir(parents=True, exist_ok=True)
        with replacing(options.output) as temporary:
            temporary.write_text(json.dumps(plain(document), indent=1) + "\n")


if __name__ == "__main__":
    main()
