"""Hold the CUDA kernels' resources against a budget, and say what they let a device do at most.

Reads what ``nvcc -Xptxas -v`` reported, one file per source and architecture (``make cuda-check``
makes them). A kernel that spills, or takes more registers or shared memory than budget.tsv grants,
fails the check. The tables of docs/cuda.md are printed from the same figures: they are predictions.

Usage: cuda_check.py [--update] [--tables] REPORT...
"""

from __future__ import annotations

import argparse
import csv
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

BUDGET = Path(__file__).with_name("budget.tsv")


@dataclass(frozen=True)
class Usage:
    """What a thread and a block of one kernel take on one architecture."""

    registers: int
    shared: int  # bytes a block
    spills: int  # bytes a thread

    def __str__(self) -> str:
        """Registers and bytes, as in the budget."""
        return f"{self.registers} {self.shared}"


@dataclass(frozen=True)
class Device:
    """One device of an architecture: what a multiprocessor holds, what its data sheet promises."""

    name: str
    warps: int  # of a multiprocessor
    blocks: int
    shared: int  # bytes
    reserved: int  # bytes of these that each block costs
    float32: float  # TFLOP/s
    matrices: float  # TFLOP/s, float16 with float32 sums
    memory: float  # GB/s


DEVICES = {
    "75": Device("T4", 32, 16, 64 << 10, 0, 8.1, 65, 320),
    "80": Device("A100 40 GB", 64, 32, 164 << 10, 1 << 10, 19.5, 312, 1555),
    "86": Device("A10", 48, 16, 100 << 10, 1 << 10, 31.2, 125, 600),
    "90": Device("H100 SXM", 64, 32, 228 << 10, 1 << 10, 66.9, 989, 3350),
    "100": Device("B200", 64, 32, 228 << 10, 1 << 10, 75, 2250, 8000),
    "120": Device("RTX 5090", 48, 24, 100 << 10, 1 << 10, 104.8, 209.5, 1792),
}

Report = dict[str, dict[str, Usage]]  # kernel, architecture


def short(name: str) -> str:
    """``conv2d<float, 128x64, true, false>`` from the demangled name of a kernel."""
    name = name.removeprefix("void ").replace("zoo::cuda::", "").replace("_kernel<", "<")
    name = re.sub(r"\(bool\)([01])", lambda m: "true" if m[1] == "1" else "false", name)
    name = re.sub(r"\(int\)", "", name)
    name = re.sub(r"Tile<(\d+), (\d+)>", r"\1x\2", name)
    return name.split(">(")[0] + ">"


def read(paths: list[str]) -> Report:
    """Read the kernels' usage from ptxas's reports."""
    entries: list[tuple[str, str, Usage]] = []
    for path in paths:
        text = Path(path).read_text()
        for part in text.split("Compiling entry function '")[1:]:
            name, arch = re.match(r"(\w+)' for 'sm_(\d+)\w?'", part).groups()  # type: ignore[union-attr]

            def number(pattern: str, part: str = part) -> int:
                found = re.search(pattern, part)
                return int(found[1]) if found else 0

            spills = number(r"(\d+) bytes spill stores") + number(r"(\d+) bytes spill loads")
            stack = number(r"(\d+) bytes stack frame")
            usage = Usage(
                number(r"Used (\d+) registers"), number(r"(\d+) bytes smem"), spills + stack
            )
            entries.append((name, arch, usage))
    mangled = "\n".join(name for name, _, _ in entries)
    plain = subprocess.run(["c++filt"], input=mangled, check=True, capture_output=True, text=True)
    report: Report = {}
    for name, (_, arch, usage) in zip(plain.stdout.split("\n"), entries, strict=False):
        report.setdefault(short(name), {})[arch] = usage
    return report


def read_budget() -> dict[str, dict[str, str]]:
    """Read the committed budget: kernel, architecture, "registers shared"."""
    if not BUDGET.exists():
        return {}
    with BUDGET.open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    return {row.pop("kernel"): row for row in rows}


def write_budget(report: Report) -> None:
    """Make what the kernels take now their budget."""
    with BUDGET.open("w") as file:
        print("kernel", *DEVICES, sep="\t", file=file)
        for kernel, by_arch in sorted(report.items()):
            print(kernel, *(by_arch[arch] for arch in DEVICES), sep="\t", file=file)


def problems(report: Report, budget: dict[str, dict[str, str]]) -> list[str]:
    """Return what is beyond the budget, a line each."""
    found = [f"{kernel} is in budget.tsv but not compiled" for kernel in budget.keys() - report]
    for kernel, by_arch in sorted(report.items()):
        for arch, usage in by_arch.items():
            if usage.spills:
                found.append(f"{kernel} on sm_{arch}: {usage.spills} bytes spilled to memory")
            granted = budget.get(kernel, {}).get(arch)
            if granted is None:
                found.append(f"{kernel} on sm_{arch}: no budget (--update sets it)")
                continue
            for what, value, most in zip(
                ("registers", "bytes shared"),
                (usage.registers, usage.shared),
                map(int, granted.split()),
                strict=True,
            ):
                if value > most:
                    found.append(f"{kernel} on sm_{arch}: {value} {what}, {most} granted")
    return found


def threads_of(kernel: str) -> int:
    """Return the threads of a block, as the kernel's plan has them."""
    tile = re.search(r"(\d+)x\d+", kernel)
    return int(tile[1]) if tile else 128 if kernel.startswith("depthwise") else 256


def warps_at_once(usage: Usage, threads: int, device: Device) -> int:
    """Return how many warps a multiprocessor holds: registers, shared memory or slots limit it."""
    warps = threads // 32
    of_a_warp = -(-usage.registers * 32 // 256) * 256  # granted in steps of 256
    by_registers = 65536 // of_a_warp // 4 * 4 // warps  # each of 4 schedulers has a quarter
    shared = -(-usage.shared // 256) * 256 + device.reserved
    by_shared = device.shared // shared if shared else device.blocks
    return min(by_registers, by_shared, device.blocks, device.warps // warps) * warps


def occupancy_table(report: Report, archs: list[str]) -> str:
    """Registers, bytes of shared memory and resident warps in per cent, per architecture."""
    lines = ["| kernel | " + " | ".join(f"sm_{arch}" for arch in archs) + " |"]
    lines.append("|---" * (len(archs) + 1) + "|")
    for kernel, by_arch in sorted(report.items()):
        cells = []
        for arch in archs:
            usage, device = by_arch[arch], DEVICES[arch]
            warps = warps_at_once(usage, threads_of(kernel), device)
            cells.append(f"{usage.registers} / {usage.shared} / {100 * warps // device.warps} %")
        lines.append(f"| `{kernel}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


@dataclass(frozen=True)
class Layer:
    """A layer, for the roofline: its operations, and the elements that it reads and writes."""

    name: str
    operations: float
    elements: float
    by_matrices: bool = False


def layers() -> list[Layer]:
    """Return the layers of the roofline: batch 32, channels_last, maps of 56x56."""
    pixels = 32 * 56 * 56
    conv = [
        Layer(
            f"conv2d {k}x{k}, {c} to {o} channels",
            2.0 * pixels * k * k * c * o,
            pixels * (c + o) + k * k * c * o,
            True,
        )
        for k, c, o in ((1, 64, 64), (1, 64, 256), (3, 64, 64))
    ]
    pooled = Layer(
        "conv2d 3x3, 64 to 64 channels, 2x2 pool",
        2.0 * pixels * 9 * 64 * 64,
        pixels * (64 + 16) + 9 * 64 * 64,
        True,
    )
    depthwise = [
        Layer(f"depthwise {k}x{k}, 128 channels", 2.0 * pixels * k * k * 128, pixels * 256)
        for k in (3, 5, 7)
    ]
    pool = Layer("max_pool2d 3x3, stride 2, 64 channels", pixels * 64 * 9 / 4, pixels * 64 * 1.25)
    return [*conv, pooled, *depthwise, pool]


def roofline_table(archs: list[str]) -> str:
    """Milliseconds that the data sheets allow at least, and whether arithmetic or memory limits."""
    lines = ["| layer | type | " + " | ".join(f"{DEVICES[a].name}" for a in archs) + " |"]
    lines.append("|---" * (len(archs) + 2) + "|")
    for layer in layers():
        for dtype, size in (("float32", 4), ("float16", 2), ("bfloat16", 2)):
            cells = []
            for arch in archs:
                device = DEVICES[arch]
                units = layer.by_matrices and (
                    dtype == "float16" or (dtype == "bfloat16" and arch != "75")
                )
                peak = device.matrices if units else device.float32
                arithmetic = layer.operations / peak / 1e9
                memory = layer.elements * size / device.memory / 1e6
                limit = "arithmetic" if arithmetic > memory else "memory"
                cells.append(f"{max(arithmetic, memory):.3f} {limit}")
            lines.append(f"| {layer.name} | {dtype} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> int:
    """Check the reports on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--update", action="store_true", help="write budget.tsv from the reports")
    parser.add_argument("--tables", action="store_true", help="print the tables of docs/cuda.md")
    parser.add_argument("reports", nargs="+", metavar="REPORT")
    args = parser.parse_args()
    report = read(args.reports)
    archs = [arch for arch in DEVICES if all(arch in by_arch for by_arch in report.values())]
    if args.update:
        if archs != list(DEVICES):
            print(f"--update needs all architectures: {' '.join(DEVICES)}", file=sys.stderr)
            return 2
        write_budget(report)
    if args.tables:
        print(occupancy_table(report, archs), roofline_table(archs), sep="\n\n")
    found = problems(report, read_budget())
    for problem in found:
        print(problem, file=sys.stderr)
    kernels = f"{len(report)} kernels on {', '.join(f'sm_{arch}' for arch in archs)}"
    print(f"cuda-check: {kernels}: {len(found)} beyond the budget", file=sys.stderr)
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
