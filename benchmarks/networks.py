"""Nine networks through ``zoo bench --model``, beside PyTorch and the inference engines.

Each network and number of threads is a run of its own, and a file: what is there already is left
alone, so that it can go on where it was stopped. Run it with the Python of the environment that
``make bench-env`` makes; nothing else should run meanwhile.

With --throughput eight images at once, by zoo and by ncnn, each as one process with two threads and
as two processes with one thread. Others are left out: all processes are in memory together.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

MODELS = (
    "cifar/small_cnn", "timm/resnet18", "timm/resnet50", "timm/vgg16",
    "timm/mobilenetv3_large_100", "timm/efficientnet_b0", "timm/convnext_tiny",
    "timm/regnety_008", "timm/densenet121",
)  # fmt: skip
RIVALS = "eager-nhwc,inductor,aotinductor,openvino,onnxruntime,ncnn"
ROOT = Path(__file__).parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, allow_abbrev=False, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--threads", help="separated by commas (default: 1,2; with --throughput 2)")
    parser.add_argument("--models", default=",".join(MODELS), help="separated by commas")
    parser.add_argument(
        "--rivals", help=f"separated by commas (default: {RIVALS}; with --throughput ncnn)"
    )
    parser.add_argument(
        "--throughput", action="store_true", help="zoo and ncnn in several processes too"
    )
    parser.add_argument(
        "--output", type=Path, metavar="FOLDER",
        help="where the files go (default: benchmarks/results/networks, with --throughput\n"
        "benchmarks/results/throughput, which are for processors with AVX2)",
    )  # fmt: skip
    options = parser.parse_args()
    kind, least, others = (
        ("throughput", "2", "ncnn") if options.throughput else ("networks", "1,2", RIVALS)
    )
    folder = options.output or Path("benchmarks/results", kind)
    (ROOT / folder).mkdir(parents=True, exist_ok=True)
    for threads in (options.threads or least).split(","):
        for model in options.models.split(","):
            file = folder / f"{model.rpartition('/')[2]}-{threads}.json"
            if (ROOT / file).exists():
                continue
            print(file, file=sys.stderr)
            rivals = options.rivals or others
            if options.throughput:
                cases = ["--batch", "8", "--rivals", rivals, "--throughput"]
            else:
                rivals += ",openvino-throughput" * (threads != "1")
                cases = ["--batch", "1,8", "--rivals", rivals]
            command = [
                "bench", "--model", model, *cases, "--threads", threads,
                "--rounds", "5", "--max-time", "3", "--output", str(file),
            ]  # fmt: skip
            subprocess.run(
                [sys.executable, "-m", "zoo", *command],
                cwd=ROOT,
                stdout=subprocess.DEVNULL,
                check=True,
            )


if __name__ == "__main__":
    main()
