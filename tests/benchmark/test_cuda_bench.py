"""``zoo bench --device cuda``: what of it needs no GPU. tests/gpu has the rest."""

import statistics
import time

import pytest
import torch
from click.testing import CliRunner
from torch._subclasses.fake_tensor import FakeTensorMode

from zoo.benchmark.candidates import OURS, RIVALS, Candidate, choose
from zoo.benchmark.cuda import WARM_UP, EventClock, format_cudnn, prepare
from zoo.benchmark.history import place_of
from zoo.benchmark.machine import parse_driver, parse_smi
from zoo.benchmark.names import CUDA_OURS, CUDA_RIVALS
from zoo.benchmark.problem import Problem
from zoo.benchmark.report import header_lines, measured_on
from zoo.benchmark.shapes import parse_case
from zoo.benchmark.timing import Plan, WallClock, calibrate, measure_case
from zoo.cli import bench_output, main

EAGER = RIVALS[0]
QUICK = Plan(rounds=5, block_s=0.0005, patience=1)
TINY = ("--op", "conv2d", "--shape", "1,8,8,8,8,3,1,1")


class HostEvent:
    """A moment on the processor's clock, which has done what was begun."""

    def record(self):
        self.time = time.perf_counter()

    def elapsed_time(self, end):
        return (end.time - self.time) * 1e3


def test_each_call_has_events_of_its_own_after_a_pause_that_does_not_count():
    log, made = [], []
    durations = [0.001, 0.009, 0.002]

    def event():
        made.append(HostEvent())
        return made[-1]

    def run():
        timed = log.count("pause")
        log.append("run")
        time.sleep(durations[timed - 1] if timed else 0)

    def pause():
        log.append("pause")
        time.sleep(0.01)

    clock = EventClock(event, pause, lambda: log.append("wait"))
    seconds = clock.block(run, 3)
    assert log == [*["run"] * WARM_UP, *["pause", "run"] * 3, "wait"]
    assert 0.002 <= seconds < 0.009  # the median
    log.clear()
    clock.block(run, 2)
    assert len(made) == 6  # of the first block


def test_a_case_is_measured_by_events():
    paused = []
    clock = EventClock(HostEvent, lambda: paused.append(None), lambda: None)
    with torch.inference_mode():
        problem = Problem.make(parse_case("conv2d", "1,8,8,8,8,3,1,1"), torch.float32, "relu")
        outcome = measure_case(problem, RIVALS[:2], QUICK, clock=clock)
    assert [row["candidate"] for row in outcome.results] == ["eager", "eager-nhwc"]
    timed = sum(row["calls_per_block"] * QUICK.rounds for row in outcome.results)
    assert len(paused) > timed  # and those of calibration and control
    for row in outcome.results:
        assert row["median_ms"] == pytest.approx(statistics.median(row["samples_ms"]))
    assert outcome.control["resolution"] >= 1


def test_blocks_are_filled_by_what_counts():
    clock = EventClock(HostEvent, lambda: time.sleep(0.005), lambda: None)
    calls, seconds = calibrate(lambda: time.sleep(0.0002), 0.001, clock)
    assert 0.0002 <= seconds < 0.005
    assert calls * seconds >= 0.001


def test_float32_is_not_rounded_to_tf32():
    with torch.backends.cudnn.flags(enabled=True):  # puts back what it finds
        assert prepare() == {"cudnn_benchmark": True, "tf32": False}
        assert torch.backends.cudnn.conv.fp32_precision != "tf32"
        assert torch.get_float32_matmul_precision() == "highest"


class FailingDevice(WallClock):
    """A device on which a kernel fails, of which one hears when one waits for it."""

    failed = False

    def wait(self):
        if self.failed:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")


def test_a_device_that_failed_ends_the_process_and_not_only_the_candidate():
    device = FailingDevice()

    def spoils(problem):
        device.failed = True
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    problem = Problem.make(parse_case("max_pool2d", "1,4,6,6,2,2,0"), torch.float32, "none")
    with pytest.raises(RuntimeError, match="illegal memory access"):
        measure_case(problem, [Candidate("spoils", spoils), EAGER], QUICK, clock=device)


@pytest.mark.parametrize(
    ("dtype", "off"), [(torch.float16, 0.004), (torch.bfloat16, 0.03)], ids=str
)
@pytest.mark.parametrize("activation", ["relu", "silu"])
def test_the_gate_of_half_types_passes_their_rounding_and_no_more(dtype, off, activation):
    problem = Problem.make(parse_case("conv2d", "1,64,6,6,32,3,1,1"), dtype, activation)
    output = EAGER.build(problem)()
    assert problem.passes(problem.error_of(output))
    assert problem.passes(problem.error_of(problem.reference.to(dtype)))
    assert not problem.passes(problem.error_of((output.double() * (1 + off)).to(dtype)))
    assert not problem.passes(problem.error_of(output.float()))


def test_who_competes_on_a_gpu():
    for op in ("conv2d", "conv2d_pool"):
        names = [c.name for c in choose(op, list(CUDA_RIVALS), device="cuda")]
        assert names == [*CUDA_OURS, *CUDA_RIVALS]
    names = [c.name for c in choose("avg_pool2d", ["eager", "onednn"], device="cuda")]
    assert names == ["zoo", "zoo-nhwc", "eager"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    ("op", "shape"),
    [
        ("conv2d", "2,16,9,11,32,3,1,1"),
        ("conv2d", "1,8,9,9,8,5,2,2,8"),
        ("conv2d_pool", "1,16,14,14,16,3,1,1+max3s2"),
        ("max_pool2d", "2,16,9,11,3,2,1"),
        ("avg_pool2d", "2,16,9,11,3,2,1"),
        ("adaptive_avg_pool2d", "2,16,9,11,4"),
    ],
)
def test_candidates_compute_on_the_device_in_their_layout(op, shape, dtype):
    with FakeTensorMode():  # tensors that say where they are, and hold nothing
        problem = Problem.make(parse_case(op, shape), dtype, "none", device="cuda")
        for candidate in choose(op, ["eager", "eager-nhwc"], device="cuda"):
            output = candidate.build(problem)()
            assert output.device.type == "cuda"
            assert output.shape == problem.case.output_shape
            assert output.dtype == dtype
            if candidate in OURS:
                nhwc = candidate.name != "zoo"
                assert output.is_contiguous(memory_format=torch.channels_last) == nhwc


def test_what_runs_inside_ours_is_told_of_convolutions():
    def told(op, shape, activation="relu"):
        with FakeTensorMode():
            task = Problem.make(parse_case(op, shape), torch.float32, activation, device="cuda")
            return [candidate.explain(task) for candidate in choose(op, [], device="cuda")]

    # zoo, zoo-nhwc, zoo-exact
    assert told("conv2d", "32,3,64,64,32,3,1,1") == ["aten", "conv2d", "conv2d"]
    assert told("conv2d", "32,64,56,56,64,3,1,1") == ["aten", "aten", "conv2d"]
    assert told("conv2d", "8,96,56,56,96,3,1,1,96") == ["aten", "depthwise", "depthwise"]
    assert told("conv2d_pool", "8,3,56,56,32,3,1,1+max2") == [None, None, None]
    assert told("max_pool2d", "8,3,56,56,2,2,0", "none") == [None, None]


def test_ours_need_an_extension_that_was_built_with_cuda():
    from zoo import ops

    built = bool(ops.build_info().get("cuda"))
    with FakeTensorMode():
        problem = Problem.make(
            parse_case("conv2d", "1,8,8,8,8,3,1,1"), torch.float16, "none", device="cuda"
        )
        for candidate in OURS:
            if "cuda" in candidate.devices:
                reason = candidate.declines(problem)
                assert reason is None if built else "ZOO_CUDA=1" in reason


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((*TINY, "--threads", "1"), "leave out --threads"),
        ((*TINY, "--weights", "hot"), "leave out --weights"),
        ((*TINY, "--cpu-capability", "avx2"), "leave out --cpu-capability"),
        ((*TINY, "--peak"), "leave out --peak"),
        (("--peak",), "leave out --peak"),
        (("--model", "timm/resnet18", "--weights", "cold"), "leave out --model, --weights"),
        ((*TINY, "--throughput"), "belong to --model"),
        ((*TINY, "--dtype", "float64"), "float32, float16 or bfloat16"),
        ((*TINY, "--rivals", "onednn"), "unknown rival 'onednn'; there are eager, eager-nhwc"),
        (("--op", "linear"), "not linear"),
        (("--op", "max_pool2d", "--activation", "relu"), "belongs to convolutions"),
        ((), "say which op to time"),
    ],
)
def test_what_makes_no_sense_on_a_gpu_is_a_line_and_exit_code_2(arguments, message):
    done = CliRunner().invoke(main, ["bench", "--device", "cuda", *arguments])
    assert done.exit_code == 2
    assert message in done.stderr
    assert done.stdout == ""


def test_half_types_belong_to_the_gpu():
    done = CliRunner().invoke(main, ["bench", *TINY, "--dtype", "float16"])
    assert done.exit_code == 2
    assert "add --device cuda" in done.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_it_is_a_line_and_nothing_is_written(tmp_path):
    output = ("--output", str(tmp_path / "conv2d.json"))
    done = CliRunner().invoke(main, ["bench", "--device", "cuda", *TINY, *output])
    assert done.exit_code == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("Error: no CUDA device: ")
    assert line.endswith("leave out --device cuda")
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


GPU = {
    "name": "NVIDIA T4",
    "capability": "7.5",
    "clocks_mhz": {"multiprocessors": 1590, "memory": 5000},
    "cuda": "13.0",
    "cudnn": "9.24.0",
    "driver": "580.65.06",
    "tf32": False,
    "cudnn_benchmark": True,
    "empty_us": 2.25,
}


def document(gpu):
    row = {
        "op": "conv2d", "case": "1,8,8,8,8,3,1,1", "threads": 1, "dtype": "float16",
        "activation": "relu", "weights": "cold", "verdict": "faster",
        "ratio_interval": [1.9, 2.1], "gflops": 10.0, "percent_of_gemm": 1.0,
        "ratio_to_best_rival": None, "best_rival": None, "error": 0.0, "backward_error": 0.0,
    }  # fmt: skip
    eager = {**row, "candidate": "eager", "median_ms": 2.0, "ratio_to_best_builtin": 1.0,
             "builtin": True}  # fmt: skip
    ours = {**row, "candidate": "zoo-nhwc", "median_ms": 1.0, "ratio_to_best_builtin": 2.0,
            "builtin": False}  # fmt: skip
    header = {
        "op": "conv2d", "device": "cuda", "dtype": "float16", "activation": "relu",
        "weights": "cold", "cpu_capability": None, "cpu": "Abacus", "versions": {"zoo": "0.1"},
        "engines": {}, "processes": [{"threads": 4, "torch": "2.13", "gpu": gpu}],
    }  # fmt: skip
    return {"header": header, "results": [ours, eager], "not_timed": [], "controls": []}


def test_the_header_names_the_gpu_and_what_drives_it():
    header = document(GPU)["header"]
    first, second, _ = header_lines(header)
    assert first == (
        "conv2d, float16, activation relu, cold L2 cache; NVIDIA T4 (capability 7.5), "
        "multiprocessors at 1590 MHz and memory at 5000 MHz"
    )
    assert "CUDA 13.0, cuDNN 9.24.0, driver 580.65.06; TF32 off, cudnn.benchmark on" in second
    assert "an empty call takes 2.2 us" in second
    assert measured_on(header) == "NVIDIA T4"
    unknown = document({**GPU, "clocks_mhz": None, "driver": None})["header"]
    assert "clocks unknown" in header_lines(unknown)[0]
    assert "driver unknown" in header_lines(unknown)[1]


def test_the_table_has_no_threads(capsys):
    bench_output.show(document(GPU), "table")
    text = capsys.readouterr().out
    assert "threads" not in text
    assert "zoo-nhwc: 2.00 times the best builtin's speed" in text


def test_a_gpu_is_not_compared_with_a_processor():
    found = document(GPU)
    row, header = found["results"][0], found["header"]
    assert place_of(row, header) != place_of(row, {**header, "device": "cpu"})
    older = {key: value for key, value in header.items() if key != "device"}
    assert place_of(row, older) == place_of(row, {**header, "device": "cpu"})


def test_what_drives_a_gpu_is_read_from_the_system():
    open_module = (
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build\n"
        "GCC version:  gcc version 13.3.0 (Ubuntu 13.3.0-6ubuntu2~24.04)\n"
    )
    closed = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15\n"
    assert parse_driver(open_module) == {"driver": "580.65.06"}
    assert parse_driver(closed) == {"driver": "535.104.05"}
    assert parse_driver("") == {}
    assert parse_smi("580.65.06, 1980, 3201, 1980, [N/A]\n") == {
        "driver": "580.65.06",
        "clocks_mhz": {
            "multiprocessors": 1980,
            "memory": 3201,
            "most_multiprocessors": 1980,
            "most_memory": None,
        },
    }
    assert parse_smi("") == parse_smi("No devices were found\n") == {}
    assert [format_cudnn(number) for number in (8902, 90100, 92400)] == ["8.9.2", "9.1.0", "9.24.0"]
