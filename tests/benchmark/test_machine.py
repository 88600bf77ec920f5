import json
import os
import subprocess
import sys

import pytest

from zoo.benchmark.machine import (
    Snapshot,
    cache_capacities,
    describe_machine,
    describe_process,
    disturbance,
    parse_pressure,
    parse_steal,
    worker_environment,
)

STAT = """\
cpu  7315 0 2659 145776 548 0 77 17 0 0
cpu0 3657 0 1329 72888 274 0 38 9 0 0
intr 1 2 3
"""
PRESSURE = """\
some avg10=8.32 avg60=37.49 avg300=25.46 total=120672687
full avg10=0.00 avg60=0.00 avg300=0.00 total=0
"""


def test_counters_are_read_from_the_kernels_text():
    assert parse_steal(STAT) == 17
    assert parse_pressure(PRESSURE) == 120672687


@pytest.mark.parametrize("text", ["", "cpu  1 2 3 4\n", "cpus 1 2 3 4 5 6 7 8 9\n", "nonsense"])
def test_counters_that_are_not_there_are_none(text):
    assert parse_steal(text) is None
    assert parse_pressure(text) is None


def test_steal_and_pressure_are_held_against_their_limits():
    def between(steal, pressure):
        before, after = Snapshot(10.0, 100, 5000), Snapshot(12.0, 100 + steal, 5000 + pressure)
        return disturbance(before, after, processors=2, ticks_per_second=100)

    assert between(0, 0) == 0
    # 4 ticks are 40 ms of 2 s on 2 processors: just the 1 per cent that is tolerated.
    assert between(4, 0) == pytest.approx(1)
    assert between(8, 0) == pytest.approx(2)
    # 100 ms of 2 s are the 5 per cent in which tasks may wait.
    assert between(0, 100_000) == pytest.approx(1)
    assert between(8, 50_000) == pytest.approx(2)


def test_a_system_without_counters_is_never_disturbed():
    assert disturbance(Snapshot(0.0, None, None), Snapshot(1.0, None, None)) == 0


def test_counters_of_this_machine_grow():
    first, second = Snapshot.take(), Snapshot.take()
    assert second.seconds > first.seconds
    if first.steal_ticks is not None:
        assert second.steal_ticks >= first.steal_ticks


def test_the_description_goes_into_json_and_names_the_machine():
    described = json.loads(json.dumps({**describe_machine(), **describe_process()}))
    assert described["cpu"]
    assert described["affinity"] == sorted(os.sched_getaffinity(0))
    assert described["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))


def test_a_worker_says_which_malloc_it_has(monkeypatch):
    script = "from zoo.benchmark.machine import describe_process as d; print(d()['allocator'])"

    def allocator():
        environment = worker_environment()
        done = subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True
        )
        return done.stdout.strip()

    assert allocator() == "system malloc, keeping freed memory"
    for key in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_"):
        monkeypatch.setenv(key, "65536")
    assert allocator() == "system malloc, as set by the user"


def test_caches_of_some_processors_are_added_up_once_each(tmp_path):
    def cache(cpu, index, level, kind, size, shared):
        folder = tmp_path / f"cpu{cpu}" / "cache" / f"index{index}"
        folder.mkdir(parents=True)
        facts = {"level": level, "type": kind, "size": size, "shared_cpu_list": shared}
        for name, value in facts.items():
            (folder / name).write_text(f"{value}\n")

    for cpu in range(4):
        pair = "0-1" if cpu < 2 else "2-3"
        cache(cpu, 0, 1, "Data", "32K", str(cpu))
        cache(cpu, 1, 1, "Instruction", "64K", str(cpu))
        cache(cpu, 2, 2, "Unified", "1M", pair)
        cache(cpu, 3, 3, "Unified", "8192K", "0-3")
    mib = 1 << 20
    assert cache_capacities([0], tmp_path) == {"L1": 32 << 10, "L2": mib, "L3": 8 * mib}
    assert cache_capacities([0, 1], tmp_path) == {"L1": 64 << 10, "L2": mib, "L3": 8 * mib}
    assert cache_capacities([1, 2], tmp_path) == {"L1": 64 << 10, "L2": 2 * mib, "L3": 8 * mib}
    assert cache_capacities([9], tmp_path) == {}
