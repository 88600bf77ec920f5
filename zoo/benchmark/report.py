"""What came out, for people and for programs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from zoo.benchmark.names import ENGINES, OURS, RIVALS, plain_name
from zoo.benchmark.stats import geometric_mean

Row = dict[str, Any]

_LONG = ("samples_ms", "cold_samples_ms", "top")
_ERRORS = {
    "error": "of the output's maximum",
    "backward_error": "of an output's sum |weight| |input|",
}
_RATIO = (
    "Medians in ms. The ratio is the best builtin's time over the quickest of ours: above 1 is "
    "faster."
)
# Only JSON's own white space holds line breaks: within strings they are written \\n.
_NUMBERS = re.compile(r"\[\n\s*((?:[-+.\deE]+,?\s+)+)\]")


def is_ours(row: Mapping[str, Any]) -> bool:
    """Whether a row is about one of zoo's own candidates."""
    return plain_name(row["candidate"]) in OURS


def samples_on_one_line(text: str) -> str:
    """Return indented JSON with each list of numbers on one line."""
    return _NUMBERS.sub(lambda match: "[" + " ".join(match[1].split()) + "]", text)


def csv_rows(results: Sequence[Row]) -> list[Row]:
    """Return the rows without their raw samples."""
    return [{key: value for key, value in row.items() if key not in _LONG} for row in results]


def case_rows(results: Sequence[Row]) -> list[Row]:
    """Fold the results into one row per case and thread count, losing ones first.

    Keys: ``case``, ``threads``, a median in ms by each candidate's name, and of the quickest of
    ours ``ratio``, ``interval``, ``verdict``, ``gflops``, ``percent_of_gemm``, ``rival_ratio``, and
    ``percent_of_roofline`` if it is known. Where none of ours ran, the last ones are missing.
    """
    groups: dict[tuple[str, int], list[Row]] = {}
    for row in results:
        groups.setdefault((row["case"], row["threads"]), []).append(row)
    folded = []
    for (case, threads), rows in groups.items():
        line: Row = {"case": case, "threads": threads}
        line.update({row["candidate"]: row["median_ms"] for row in rows})
        ours = min(filter(is_ours, rows), key=lambda row: row["median_ms"], default=None)
        if ours:
            line["ratio"] = ours["ratio_to_best_builtin"]
            line["interval"] = ours["ratio_interval"]
            line["verdict"] = ours["verdict"]
            line["gflops"] = ours["gflops"]
            line["percent_of_gemm"] = ours["percent_of_gemm"]
            line["percent_of_roofline"] = ours.get("percent_of_roofline")
            line["rival_ratio"] = ours["ratio_to_best_rival"]
        folded.append(line)
    return sorted(folded, key=lambda line: line.get("ratio") or 0.0)


def candidate_rows(results: Sequence[Row]) -> list[Row]:
    """The rows of networks, those of losing cases first, the quickest of a case first."""
    order = [(line["case"], line["threads"]) for line in case_rows(results)]
    return sorted(
        results, key=lambda row: (order.index((row["case"], row["threads"])), row["median_ms"])
    )


def ceiling_rows(header: Mapping[str, Any]) -> list[Row]:
    """The ceilings of each process: ``threads``, ``fma_gflops``, ``gemm_gflops``, GB/s by level."""
    return [
        {
            "threads": process["threads"],
            "fma_gflops": process["peak"]["fma_gflops"],
            "gemm_gflops": process["gemm_gflops"],
            **{f"{level}_gbps": speed for level, speed in process["peak"]["read_gbps"].items()},
        }
        for process in header["processes"]
        if "peak" in process
    ]


def ceiling_lines(header: Mapping[str, Any]) -> list[str]:
    """Say which ceilings may be too low."""
    lines = []
    for process in header["processes"]:
        threads, fma = _threads(process["threads"]), process["peak"]["fma_gflops"]
        if process["peak"]["disturbance"] > 1:
            lines.append(
                f"The machine was busy while the ceilings of {threads} were measured: they may be "
                "too low"
            )
        elif process["gemm_gflops"] > fma:
            lines.append(
                f"The ceiling of {threads} is too low: a matrix product reached "
                f"{process['gemm_gflops']:.0f} GFLOP/s, multiply-adds in registers {fma:.0f}"
            )
    return lines


def _threads(number: int) -> str:
    return f"{number} thread{'s' if number != 1 else ''}"


def candidate_names(results: Sequence[Row]) -> list[str]:
    """Names of the candidates that were timed in any case, in their own order."""
    return list(dict.fromkeys(row["candidate"] for row in results))


def summary_lines(document: Mapping[str, Any]) -> list[str]:
    """Say in a few lines what the results are, how sure they are and what is missing."""
    results, controls = document["results"], document["controls"]
    lines = []
    for name in candidate_names(results):
        rows = [row for row in results if row["candidate"] == name and row["verdict"]]
        if rows and not rows[0]["builtin"]:
            mean = geometric_mean([row["ratio_to_best_builtin"] for row in rows])
            counts = [
                sum(row["verdict"] == v for row in rows) for v in ("slower", "same", "faster")
            ]
            lines.append(
                f"{name}: {mean:.2f} times the best builtin's speed (geometric mean of "
                f"{len(rows)}); slower in {counts[0]}, same in {counts[1]}, faster in {counts[2]}"
            )
    for name in candidate_names(results):
        ratios = [
            row["ratio_to_best_rival"]
            for row in results
            if row["candidate"] == name and is_ours(row) and row["best_rival"]
        ]
        if ratios:
            lines.append(
                f"{name}: {geometric_mean(ratios):.2f} times the best engine's speed (geometric "
                f"mean of {len(ratios)}); slower in {sum(ratio < 1 for ratio in ratios)}"
            )
    lines += _error_lines(results)
    builtins = {row["candidate"] for row in results if row["builtin"]}
    judges = [control for control in controls if control["candidate"] in builtins]
    if judges:
        worst = max(judges, key=lambda control: control["resolution"])
        lines.append(
            f"Resolution (one builtin against itself): ratios within {worst['resolution']:.3f} "
            f"are called the same in the worst case ({worst['case']})"
        )
    disturbed = sum(control["disturbed_kept"] for control in controls)
    if disturbed:
        thrown = sum(control["thrown_away"] for control in controls)
        lines.append(
            f"The machine was busy: {thrown} disturbed rounds were thrown away, but {disturbed} "
            f"of {sum(control['rounds'] for control in controls)} had to be kept"
        )
    return lines + left_out_lines(document["not_timed"])


def _error_lines(results: Sequence[Row]) -> list[str]:
    """The largest errors of each candidate, where any has one."""
    if not any(row["error"] for row in results):
        return []
    known = {key: text for key, text in _ERRORS.items() if key in results[0]}
    told = []
    for name in candidate_names(results):
        rows = [row for row in results if row["candidate"] == name]
        largest = [f"{max(row[key] for row in rows):.1e}" for key in known]
        told.append(f"{name} {' / '.join(largest)}")
    return [f"Largest error, {' / '.join(known.values())}: {', '.join(told)}"]


def left_out_lines(not_timed: Sequence[Row]) -> list[str]:
    """Say who was not timed and why, what went wrong before what did not apply."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    # Of wrong results the worst stands for all.
    for row in sorted(not_timed, key=lambda row: -(row["error"] or 0)):
        key = (row["status"], row["candidate"], "" if row["error"] else row["reason"])
        groups.setdefault(key, []).append(row)
    ordered = sorted(groups.items(), key=lambda item: item[0][0] == "skipped")
    return [
        f"{status.capitalize()}: {name} in {len(rows)} case{'s' if len(rows) > 1 else ''} "
        f"({rows[0]['case']}{', ...' if len(rows) > 1 else ''}): {rows[0]['reason']}"
        for (status, name, _), rows in ordered
    ]


def header_lines(header: Mapping[str, Any]) -> list[str]:
    """Say what was measured on what."""
    process = header["processes"][0]
    versions = header["versions"]
    what = f"{header['op'] or 'Ceilings'}, {header['dtype']}" + (
        f", activation {header['activation']}" if header["activation"] else ""
    )
    if "gpu" in process:
        return [*_gpu_lines(what, versions["zoo"], process), _RATIO]
    threads = ", ".join(str(process["threads"]) for process in header["processes"])
    return [
        what
        + (", cold weights" if header["weights"] == "cold" else "")
        + _held_to(header["cpu_capability"])
        + f"; {header['cpu']}, {header['cpus']} processors, threads: {threads}",
        f"zoo {versions['zoo']} ({process['zoo_capability'] or 'not built'}), torch "
        f"{process['torch']} ({process['torch_capability']}), oneDNN {process['onednn']}; "
        f"{process['allocator']}; huge pages: {header['huge_pages']}",
        *(
            ["Engines: " + ", ".join(f"{name} {v}" for name, v in header["engines"].items())]
            if header["engines"]
            else []
        ),
        *([_RATIO] if header["op"] else []),
    ]


def measured_on(header: Mapping[str, Any]) -> str:
    """Name of the processor, or of the GPU if it was that."""
    processes = header["processes"]
    return str(processes[0]["gpu"]["name"] if "gpu" in processes[0] else header["cpu"])


def _gpu_lines(what: str, zoo: str, process: Mapping[str, Any]) -> list[str]:
    gpu = process["gpu"]
    clocks = gpu["clocks_mhz"] or {}
    known = [
        f"{what} {clocks[key]} MHz"
        for what, key in (("multiprocessors at", "multiprocessors"), ("memory at", "memory"))
        if clocks.get(key)
    ]
    return [
        f"{what}, cold L2 cache; {gpu['name']} (capability {gpu['capability']}), "
        + (" and ".join(known) or "clocks unknown"),
        f"zoo {zoo}, torch {process['torch']}, CUDA {gpu['cuda']}, cuDNN {gpu['cudnn']}, driver "
        f"{gpu['driver'] or 'unknown'}; TF32 {'on' if gpu['tf32'] else 'off'}, cudnn.benchmark "
        f"{'on' if gpu['cudnn_benchmark'] else 'off'}; an empty call takes "
        f"{gpu['empty_us']:.1f} us, which all times include",
    ]


def _held_to(capability: str | None) -> str:
    if capability is None:
        return ""
    if capability == "scalar":
        return ", zoo held to scalar, PyTorch to the least it has (ATen default, oneDNN SSE4.1)"
    return f", all held to {capability}"


def failures(not_timed: Sequence[Row]) -> list[Row]:
    """Return the rows of candidates of ours, or of the user's, that did not do their work."""
    others = {**RIVALS, **ENGINES}
    return [
        row for row in not_timed if row["status"] != "skipped" and row["candidate"] not in others
    ]
