"""The ceilings are measured by work that is done, and the roofline follows from them."""

import math
import time
from dataclasses import replace

import pytest
import torch

from zoo import ops
from zoo.benchmark.peak import MEMORY, Ceilings, best_rate, buffer_sizes, measure
from zoo.benchmark.report import ceiling_lines
from zoo.benchmark.shapes import parse_case
from zoo.ops import _introspection

CEILINGS = Ceilings(
    fma_gflops=100.0,
    read_gbps={"L1": 400.0, "L2": 200.0, "DRAM": 20.0},
    capacity_bytes={"L1": 32 << 10, "L2": 512 << 10},
)
MEMORY_BOUND = replace(CEILINGS, fma_gflops=math.inf)


@pytest.mark.parametrize("capability", ops.cpu_capabilities())
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_what_is_timed_is_done(capability, threads):
    before = ops.cpu_capability(), torch.get_num_threads()
    ops.set_cpu_capability(capability)
    torch.set_num_threads(threads)
    try:
        for count in (0, 1, 97, 4096):
            data = torch.randint(-8, 8, (count,)).float()
            assert _introspection.peak_read(data, 3, threads) == 3 * data.double().sum().item()
        flops = _introspection.peak_fma(1, threads)
        assert flops % (2 * 4 * threads) == 0
        assert _introspection.peak_fma(1000, threads) == 1000 * flops
        # There are no more threads than PyTorch has.
        assert _introspection.peak_fma(1, threads + 1) == flops
        assert _introspection.peak_fma(threads, 1) == flops
    finally:
        ops.set_cpu_capability(before[0])
        torch.set_num_threads(before[1])


@pytest.mark.parametrize("data", [torch.ones(8, dtype=torch.float64), torch.ones(8, 8)[:, 0]])
def test_other_tensors_are_refused_and_not_copied(data):
    with pytest.raises(TypeError):
        _introspection.peak_read(data, 1, 1)


def test_ceilings_of_this_machine():
    ceilings = measure(1)
    assert ceilings.fma_gflops > 0
    assert list(ceilings.read_gbps) == [*ceilings.capacity_bytes, MEMORY]
    assert min(ceilings.read_gbps.values()) > 0
    capacities = list(ceilings.capacity_bytes.values())
    assert capacities == sorted(capacities)


def test_buffers_lie_between_their_cache_and_the_one_before():
    kib = 1 << 10
    sizes = buffer_sizes({"L1": 64 * kib, "L2": 1024 * kib, "L3": 32768 * kib})
    assert sizes["L1"] == 32 * kib
    assert sizes["L2"] == 512 * kib
    assert sizes["L3"] == 4096 * kib
    assert sizes[MEMORY] >= 4 * 32768 * kib
    assert buffer_sizes({"L1": 64 * kib, "L2": 128 * kib})["L2"] == 64 * kib
    assert list(buffer_sizes({})) == [MEMORY]


def test_the_best_block_counts_and_a_late_one_does_not_end_the_calibration():
    # Late, too short; long enough five times; then the blocks that count.
    seconds = iter([0.04, 0.0] + [0.04] * 5 + [0.06, 0.02])
    calls = []

    def run(repeats, threads):
        calls.append((repeats, threads))
        time.sleep(next(seconds, 0.06))
        return repeats * threads

    rate = best_rate(run, 3, block_s=0.015, blocks=3, patience_s=0.3)
    assert calls[:7] == [(1, 1)] * 2 + [(2, 1)] * 5
    assert set(calls[7:]) == {(2, 3)}
    assert 6 / 0.06 < rate <= 6 / 0.02
    assert len(calls) >= 7 + 3


def test_arithmetic_bounds_deep_convolutions():
    case = parse_case("conv2d", "1,64,16,16,64,3,1,1")
    assert CEILINGS.attainable_gflops(case) == 100


def test_reading_bounds_shallow_ones_by_the_level_that_holds_them():
    small = parse_case("conv2d", "1,4,8,8,4,1,1,0")  # 2 maps of 1 KiB, 64 bytes of weight
    assert MEMORY_BOUND.attainable_gflops(small) == pytest.approx(2 * 1024 / (2112 / 400))
    wide = parse_case("conv2d", "1,4,64,64,4,1,1,0")  # 2 maps of 64 KiB: L2
    assert MEMORY_BOUND.attainable_gflops(wide) == pytest.approx(32 * 4096 / ((131072 + 64) / 200))
    large = parse_case("conv2d", "8,4,64,64,4,1,1,0")
    assert MEMORY_BOUND.attainable_gflops(large) == pytest.approx(
        8 * 32 * 4096 / ((8 * 131072 + 64) / 20)
    )


def test_copies_of_the_weight_come_from_further_away_than_the_maps():
    case = parse_case("conv2d", "1,64,2,2,64,1,1,0")  # 2 KiB of maps, 16 KiB of weight
    flops = case.flops
    assert flops == 2 * 4 * 64 * 64
    assert CEILINGS.attainable_gflops(case) == 100
    cold = flops / (2048 / 400 + 16384 / 20)
    assert CEILINGS.attainable_gflops(case, copies=64) == pytest.approx(cold)


def test_a_layer_waits_for_arithmetic_or_for_the_levels_of_values_and_weights():
    megabyte = 1 << 20
    deep = CEILINGS.least_seconds(10**9, 1024, 1024, megabyte)
    assert deep == pytest.approx(10**9 / 100e9)
    # Values of 1 KiB in L1, 1 KiB of the megabyte of weights that each run reads from memory.
    shallow = MEMORY_BOUND.least_seconds(2048, 1024, 1024, megabyte)
    assert shallow == pytest.approx(1024 / 400e9 + 1024 / 20e9)


def test_a_fused_pool_writes_less_and_pools_are_bound_by_bytes_alone():
    plain = parse_case("conv2d", "1,4,64,64,4,1,1,0")
    pooled = parse_case("conv2d_pool", "1,4,64,64,4,1,1,0+max2")
    saved = MEMORY_BOUND.attainable_gflops(pooled) / MEMORY_BOUND.attainable_gflops(plain)
    assert saved == pytest.approx(131136 / (65536 + 16384 + 64))
    pool = parse_case("max_pool2d", "1,4,8,8,8,1,0")
    attainable = CEILINGS.attainable_gflops(pool)
    assert attainable == pytest.approx(pool.flops / ((1024 + 16) / 400))
    assert replace(CEILINGS, fma_gflops=1e-3).attainable_gflops(pool) == attainable


def test_without_known_caches_all_comes_from_memory():
    bare = Ceilings(1e9, {"DRAM": 20.0}, {})
    case = parse_case("conv2d", "1,4,8,8,4,1,1,0")
    assert bare.attainable_gflops(case) == pytest.approx(2 * 1024 / (2112 / 20))


@pytest.mark.parametrize(
    ("disturbance", "fma", "said"),
    [
        (0.5, 100.0, []),
        (2.0, 100.0, ["The machine was busy while the ceilings of 2 threads were measured"]),
        (0.5, 80.0, ["a matrix product reached 90 GFLOP/s, multiply-adds in registers 80"]),
    ],
)
def test_ceilings_that_are_too_low_are_told(disturbance, fma, said):
    peak = {"fma_gflops": fma, "disturbance": disturbance}
    lines = ceiling_lines({"processes": [{"threads": 2, "gemm_gflops": 90.0, "peak": peak}]})
    assert len(lines) == len(said)
    assert all(part in line for part, line in zip(said, lines, strict=True))
