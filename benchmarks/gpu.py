"""All that needs a GPU, in one go: zoo built for it, its tests, the compile gate, the benchmarks.

On a machine with a GPU and the nvcc of torch's CUDA release:

    .venv/bin/python benchmarks/gpu.py        # or: make gpu

- builds zoo._C in place with ZOO_CUDA=1, for this GPU alone unless TORCH_CUDA_ARCH_LIST says else;
- runs tests/gpu;
- holds the kernels' registers and shared memory on this architecture to their budget;
- times convolutions and pools beside PyTorch (``zoo bench --device cuda``).

Writes benchmarks/results/cuda.json, and into docs/cuda.md on what, when and with which outcome the
kernels last ran, failures too; after each part, so that what was measured stays if the rest is cut
off. Without a GPU, or if the build fails, nothing is written. Exits with 1 unless all went well.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from zoo.benchmark import cuda
from zoo.benchmark.machine import describe_machine
from zoo.benchmark.report import case_rows, samples_on_one_line
from zoo.files import replacing

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "cuda.json"
PAGE = ROOT / "docs" / "cuda.md"
BEGIN, END = "<!-- hardware: benchmarks/gpu.py writes this -->", "<!-- /hardware -->"

DTYPES = ("float32", "float16", "bfloat16")
SETS = (
    ("conv2d", "resnet"),
    ("conv2d", "depthwise"),
    ("conv2d_pool", "all"),
    ("max_pool2d", "resnet"),
    ("avg_pool2d", "resnet"),
    ("adaptive_avg_pool2d", "mobilenet"),
)

Record = dict[str, Any]


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def environment(**variables: str) -> dict[str, str]:
    """This process's, in which zoo is the one of this folder."""
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), **variables}


def capability() -> str:
    return "{}.{}".format(*torch.cuda.get_device_capability())


def build() -> None:
    """Build zoo._C where it is imported from; end the script if that fails."""
    archs = os.environ.get("TORCH_CUDA_ARCH_LIST", capability())
    say(f"building zoo with ZOO_CUDA=1 for {archs}")
    done = subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", "--inplace"],
        cwd=ROOT,
        env=environment(ZOO_CUDA="1", TORCH_CUDA_ARCH_LIST=archs),
    )
    if done.returncode:
        sys.exit("the build failed, see above: nothing was run and nothing written")


def test(folder: Path) -> Record:
    """Run tests/gpu, and count what came of it."""
    say("running tests/gpu")
    report = folder / "junit.xml"
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "tests/gpu", f"--junitxml={report}"],
        cwd=ROOT,
        env=environment(),
        stdout=sys.stderr,
    )
    seconds = round(time.perf_counter() - start, 1)
    counts = read_junit(report.read_text()) if report.exists() else {}
    return {"exit_code": done.returncode, "seconds": seconds, **counts}


def read_junit(text: str) -> Record:
    """How many tests passed, failed and were skipped, of pytest's XML; names of those that failed.

    Errors of fixtures and of whole files count as failures.
    """
    outcomes: Counter[str] = Counter()
    failures = []
    for case in ET.fromstring(text).iter("testcase"):
        kinds = {child.tag for child in case}
        failed = bool(kinds & {"failure", "error"})
        outcomes["failed" if failed else "skipped" if "skipped" in kinds else "passed"] += 1
        if failed:
            failures.append(f"{case.get('classname')}.{case.get('name')}".removeprefix("."))
    counts = {kind: outcomes[kind] for kind in ("passed", "failed", "skipped")}
    return {**counts, "failures": failures}


def gate() -> Record:
    """Hold the kernels on this architecture to their budget, where there is one, and nvcc."""
    arch = capability().replace(".", "")
    budget = (ROOT / "tests" / "simt" / "budget.tsv").read_text().splitlines()[0].split("\t")
    nvcc = shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")
    if arch not in budget or nvcc is None:
        why = "nvcc is not on PATH" if nvcc is None else f"there is no budget for sm_{arch}"
        return {"arch": arch, "outcome": f"skipped: {why}"}
    say(f"make cuda-check ARCHS={arch}")
    done = subprocess.run(
        ["make", "-C", "tests/simt", "cuda-check", f"ARCHS={arch}", f"NVCC={nvcc}",
         f"PYTHON={sys.executable}"],
        cwd=ROOT,
        stdout=sys.stderr,
    )  # fmt: skip
    return {"arch": arch, "outcome": "failed" if done.returncode else "passed"}


def bench(folder: Path, rivals: str, batch: int) -> Iterator[Record]:
    """The documents of ``zoo bench``, one for each set and type; of a failure what it said last."""
    for op, name in SETS:
        for dtype in DTYPES:
            output = folder / f"{op}-{name}-{dtype}.json"
            command = ["bench", "--device", "cuda", "--op", op, "--set", name, "--dtype", dtype]
            command += ["--batch", str(batch), "--rivals", rivals, "--output", str(output)]
            say(f"zoo {' '.join(command[:-2])}")
            code, last = run([sys.executable, "-m", "zoo", *command])
            written = json.loads(output.read_text()) if output.exists() else {"results": []}
            failure = (last or f"exit code {code}") if code else None
            yield {"op": op, "set": name, "dtype": dtype, "failure": failure, **written}


def run(command: Sequence[str]) -> tuple[int, str]:
    """Run a command whose messages pass by; its exit code, and the last of them."""
    last = ""
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None  # it is a pipe
        for line in process.stderr:
            sys.stderr.write(line)
            last = line.strip() or last
    return process.returncode, last


def went_well(record: Mapping[str, Any]) -> bool:
    return (
        record["tests"]["exit_code"] == 0
        and record["cuda_check"]["outcome"] != "failed"
        and not any(document["failure"] for document in record["benchmarks"])
    )


def paragraph(record: Mapping[str, Any]) -> str:
    """What docs/cuda.md says of the record."""
    gpu, tests, check = record["gpu"], record["tests"], record["cuda_check"]
    name = record["commit"] or "unknown"
    commit = name[:12] + "+" * name.endswith("+")  # files differed from the commit
    title = "Last verified on hardware" if went_well(record) else "Last run on hardware, and failed"
    counts = ", ".join(f"{tests.get(kind, 0)} {kind}" for kind in ("passed", "failed", "skipped"))
    sentences = [
        f"**{title}: {gpu['name']} (capability {gpu['capability']}), {record['date'][:10]}, commit "
        f"`{commit}`.**",
        f"`tests/gpu`: {counts}.",
        f"Compile gate on sm_{check['arch']}: {check['outcome']}.",
        f"`zoo bench --device cuda`: {_verdicts(record['benchmarks'])}",
    ]
    failures = [
        *tests.get("failures", ()),
        *(
            f"{document['op']} in {document['dtype']} ({document['failure']})"
            for document in record["benchmarks"]
            if document["failure"]
        ),
    ]
    if failures:
        more = f" and {len(failures) - 5} more" if len(failures) > 5 else ""
        sentences.append(f"Failed: {'; '.join(failures[:5])}{more}.")
    sentences.append(
        f"Driver {gpu['driver']}, CUDA {gpu['cuda']}, cuDNN {gpu['cudnn']}, torch "
        f"{record['torch']}. All of it: [benchmarks/results/cuda.json](../benchmarks/results/"
        "cuda.json)."
    )
    return " ".join(sentences)


def _verdicts(documents: Sequence[Mapping[str, Any]]) -> str:
    rows = [row for document in documents for row in case_rows(document["results"])]
    counts = Counter(row["verdict"] for row in rows if row.get("verdict"))
    if not counts:
        return "nothing was timed."
    return (
        f"of {counts.total()} cases the quickest of zoo's ways was faster than the best of "
        f"PyTorch's in {counts['faster']}, the same in {counts['same']}, slower in "
        f"{counts['slower']}."
    )


def put(page: str, text: str) -> str:
    """The page with the text between the marks, instead of what was there."""
    found = re.subn(
        f"{re.escape(BEGIN)}.*?{re.escape(END)}",
        lambda match: f"{BEGIN}\n{text}\n{END}",
        page,
        flags=re.DOTALL,
    )
    if found[1] != 1:
        raise ValueError(f"{PAGE} has not one place between {BEGIN} and {END}")
    return found[0]


def save(record: Record) -> None:
    """Write the record, and what the page says of it."""
    text = samples_on_one_line(json.dumps(record, indent=2))
    for path, content in ((RESULT, text + "\n"), (PAGE, put(PAGE.read_text(), paragraph(record)))):
        with replacing(path) as temporary:
            temporary.write_text(content)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--rivals",
        default="builtin",
        help="as of zoo bench: eager,eager-nhwc leaves out the hours of max-autotune",
    )
    parser.add_argument("--batch", type=int, default=32, help="images of a case (default: 32)")
    options = parser.parse_args()
    if reason := cuda.missing():
        sys.exit(f"no CUDA device: {reason}; nothing was run and nothing written")
    machine = describe_machine()
    build()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        record: Record = {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            **machine,
            "torch": torch.__version__,
            "gpu": cuda.describe_gpu(),
            "tests": test(folder),
            "cuda_check": gate(),
            "benchmarks": [],
        }
        save(record)
        for document in bench(folder, options.rivals, options.batch):
            record["benchmarks"].append(document)
            save(record)
    print(paragraph(record))
    sys.exit(not went_well(record))


if __name__ == "__main__":
    main()
