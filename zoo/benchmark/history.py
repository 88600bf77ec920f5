"""A run beside an earlier one: what became slower, by itself and relative to PyTorch's builtins.

Two runs differ by the machine, its neighbours and the versions of everything, so a time alone
says little. The builtins have been through the same: each candidate's ratio to the best builtin
that took part both times is compared as well.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.benchmark.names import ENGINES, RIVALS
from zoo.benchmark.stats import geometric_mean
from zoo.errors import UsageError

Row = dict[str, Any]
Place = tuple[Any, ...]
"""What rows must share to be compared: all but the candidate."""


def place_of(row: Mapping[str, Any], header: Mapping[str, Any]) -> Place:
    """Return (op, case, threads, dtype, activation, weights, CPU capability, device) of a result.

    What older files lack had one value then.
    """
    return (
        row["op"],
        row["case"],
        row["threads"],
        row.get("dtype", "float32"),
        row.get("activation") or "none",
        row.get("weights", "hot"),
        header.get("cpu_capability"),
        header.get("device", "cpu"),
    )


@dataclass(frozen=True)
class History:
    """An earlier result: the file, its header, and its rows by place and candidate."""

    path: Path
    header: Mapping[str, Any]
    rows: dict[Place, dict[str, Row]]

    @classmethod
    def read(cls, path: Path) -> History:
        """Read what ``zoo bench --op ... --output`` wrote. Raises UsageError if it is not that."""
        try:
            document = json.loads(path.read_text())
        except OSError as error:
            raise UsageError(f"--history {path}: {error.strerror}") from None
        except (ValueError, RecursionError):
            raise UsageError(
                f"--history {path} is not JSON: zoo bench --op ... --output FILE.json writes it"
            ) from None
        if not _is_result(document):
            raise UsageError(
                f"--history {path} holds no results of zoo bench --op ... --output FILE.json"
            )
        header = document["header"]
        return cls(path, header, _by_place(document["results"], header))

    def check(self, places: Iterable[Place]) -> None:
        """Raise UsageError if the file has none of the places that are to be measured."""
        if self.rows.keys().isdisjoint(places):
            command = self.header.get("command") or f"zoo bench --op {self.header['op']}"
            raise UsageError(
                f"--history {self.path} has none of these cases, threads and options: it holds "
                f"{command}"
            )

    def compare(self, results: Sequence[Row], header: Mapping[str, Any]) -> None:
        """Add to each row that was measured then too what became of it.

        Keys: ``old_median_ms``; ``speedup``, the old time over the new one; and where a builtin
        took part both times ``ratio_then`` and ``ratio_now``, the time of the best such builtin
        over the candidate's, and ``ratio_change``, the one now over the one then.
        """
        for place, now in _by_place(results, header).items():
            then = self.rows.get(place, {})
            both = now.keys() & then.keys()
            builtins = [name for name in both if _is_builtin(now[name])]
            for name in both:
                row, old = now[name], then[name]
                row["old_median_ms"] = old["median_ms"]
                row["speedup"] = old["median_ms"] / row["median_ms"]
                if builtins:
                    row["ratio_then"] = _best(then, builtins) / old["median_ms"]
                    row["ratio_now"] = _best(now, builtins) / row["median_ms"]
                    row["ratio_change"] = row["ratio_now"] / row["ratio_then"]

    def describe(self, header: Mapping[str, Any]) -> Row:
        """Return file, date and commit, and a line for each difference of the two machines."""
        facts = [_facts(self.header), _facts(header)]
        return {
            "file": str(self.path),
            "date": self.header.get("date"),
            "commit": self.header.get("commit"),
            "differences": [
                f"{what} was {facts[0][what]}, is {facts[1][what]}"
                for what in facts[0]
                if None not in (facts[0][what], facts[1][what]) and facts[0][what] != facts[1][what]
            ],
        }


def compared_rows(results: Sequence[Row]) -> list[Row]:
    """Rows of all but the rivals that were measured then too, those that lost most first."""
    ours = [row for row in results if not (_is_builtin(row) or _is_engine(row))]
    compared = [row for row in ours if "speedup" in row]
    return sorted(compared, key=_change)


def history_lines(history: Mapping[str, Any], results: Sequence[Row]) -> list[str]:
    """Say what the run was compared with, what differs, and how PyTorch itself fared."""
    lines = [
        f"Compared with {history['file']} of {history['date'] or 'an unknown date'}, commit "
        f"{(history['commit'] or 'unknown')[:12]}; above 1 is faster now. The ratio is the time of "
        "the best builtin in both runs over the candidate's."
    ]
    if history["differences"]:
        lines.append("Then and now differ: " + "; ".join(history["differences"]))
    builtins = [row["speedup"] for row in results if "speedup" in row and _is_builtin(row)]
    if builtins:
        lines.append(
            f"PyTorch's builtins: {geometric_mean(builtins):.2f} times their speed of then "
            f"(geometric mean of {len(builtins)} rows)"
        )
    return lines


def _by_place(rows: Sequence[Row], header: Mapping[str, Any]) -> dict[Place, dict[str, Row]]:
    places: dict[Place, dict[str, Row]] = {}
    for row in rows:
        places.setdefault(place_of(row, header), {})[row["candidate"]] = row
    return places


def _is_result(document: Any) -> bool:
    if not isinstance(document, dict) or not isinstance(document.get("header"), dict):
        return False
    header, rows = document["header"], document.get("results")
    processes = header.get("processes", [])
    types = {"op": str, "case": str, "candidate": str, "threads": int, "median_ms": float | int}
    return (
        isinstance(header.get("op"), str)
        and _texts(header, "cpu_capability", "date", "commit", "command", "device")
        and isinstance(processes, list)
        and all(isinstance(process, dict) for process in processes)
        and all(isinstance(process.get("gpu", {}), dict) for process in processes)
        and isinstance(rows, list)
        and bool(rows)
        and all(
            isinstance(row, dict)
            and all(isinstance(row.get(key), kind) for key, kind in types.items())
            and _texts(row, "dtype", "activation", "weights")
            and row["median_ms"] > 0
            for row in rows
        )
    )


def _change(row: Row) -> float:
    return float(row.get("ratio_change") or row["speedup"])


def _texts(mapping: Mapping[str, Any], *keys: str) -> bool:
    return all(isinstance(mapping.get(key), str | None) for key in keys)


def _is_builtin(row: Mapping[str, Any]) -> bool:
    return bool(row.get("builtin", row["candidate"] in RIVALS))


def _is_engine(row: Mapping[str, Any]) -> bool:
    return bool(row.get("engine", row["candidate"] in ENGINES))


def _best(rows: Mapping[str, Row], names: Iterable[str]) -> float:
    return float(min(rows[name]["median_ms"] for name in names))


def _facts(header: Mapping[str, Any]) -> dict[str, Any]:
    process = (header.get("processes") or [{}])[0]
    gpu = process.get("gpu") or {}
    return {
        "the processor": header.get("cpu"),
        "the number of processors": header.get("cpus"),
        "the caches": header.get("caches"),
        "torch": process.get("torch"),
        "oneDNN": process.get("onednn"),
        "zoo's CPU capability": process.get("zoo_capability"),
        "PyTorch's CPU capability": process.get("torch_capability"),
        "the GPU": gpu.get("name"),
        "the driver": gpu.get("driver"),
        "CUDA": gpu.get("cuda"),
        "cuDNN": gpu.get("cudnn"),
    }
