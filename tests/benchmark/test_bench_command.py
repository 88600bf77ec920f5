"""``zoo bench`` as people run it: whole processes, real candidates, tiny cases."""

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from zoo import ops
from zoo.benchmark import engines
from zoo.benchmark.names import ENGINES, OURS, RIVALS
from zoo.benchmark.report import ceiling_lines, failures, summary_lines
from zoo.cli import main
from zoo.cli.bench import choose_rivals, op_groups

HERE = Path(__file__).parent
TINY = ("--op", "conv2d", "--shape", "1,8,8,8,8,3,1,1")
QUICK = ("--threads", "1", "--rounds", "5", "--min-time", "0.2")


def bench(*arguments, **variables):
    path = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))
    return subprocess.run(
        [sys.executable, "-m", "zoo", "bench", *arguments],
        env={**os.environ, "PYTHONPATH": path, **variables},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_json_of_all_but_the_compiler_and_the_files_beside_it(tmp_path):
    rivals = ("--rivals", "eager,eager-nhwc,onednn,nnpack")
    files = ("--output", str(tmp_path / "rows.csv"), "--plot", str(tmp_path / "chart.png"))
    done = bench(*TINY, *QUICK, *rivals, *files, "--format", "json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)

    header = document["header"]
    assert header["op"] == "conv2d"
    assert header["cpu"]
    assert header["command"].startswith("zoo bench --op conv2d --shape 1,8,8,8,8,3,1,1")
    (process,) = header["processes"]
    assert process["threads"] == 1
    assert len(process["affinity"]) == 1
    assert process["zoo_capability"] in ("scalar", "avx2", "avx512")

    (row,) = document["not_timed"]
    assert (row["candidate"], row["status"]) == ("zoo-exact", "skipped")
    assert "exact itself" in row["reason"]
    samples = re.findall(r'"samples_ms": \[[-\d., e]+\]', done.stdout)  # each on one line
    assert len(samples) == len(document["results"])
    names = [row["candidate"] for row in document["results"]]
    ours = ["zoo", "zoo-nhwc", "zoo-packed"]
    assert names == [*ours, "eager", "eager-nhwc", "onednn", "nnpack"]
    for row in document["results"]:
        assert row["op"] == "conv2d"
        assert row["case"] == "1,8,8,8,8,3,1,1"
        assert 0 < row["min_ms"] <= row["median_ms"]
        assert row["iqr_ms"] >= 0
        assert row["gflops"] > 0
        assert 0 < row["error"] < 1e-4
        assert 0 < row["backward_error"] < 1e-5
        assert row["threads"] == 1
        assert row["implementation"] == ("direct" if row["candidate"] in ours else None)
    builtin = [row["ratio_to_best_builtin"] for row in document["results"] if row["builtin"]]
    assert max(builtin) == 1
    (control,) = document["controls"]
    assert control["resolution"] >= 1

    with (tmp_path / "rows.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["candidate"] for row in rows] == names
    assert float(rows[0]["median_ms"]) == document["results"][0]["median_ms"]

    image = (tmp_path / "chart.png").read_bytes()
    from PIL import Image

    with Image.open(tmp_path / "chart.png") as picture:
        picture.load()
        assert picture.format == "PNG"
        assert len(picture.getcolors(1 << 20)) > 20  # not an empty sheet
    assert image.startswith(b"\x89PNG")


@pytest.mark.parametrize(("op", "counts"), [("max_pool2d", "1,2"), ("avg_pool2d", "1")])
def test_table_of_a_pool_with_a_process_per_thread_count(op, counts, tmp_path):
    if len(os.sched_getaffinity(0)) == 1:
        counts = "1"
    files = ("--output", str(tmp_path / "all.json"), "--plot", str(tmp_path / "chart.svg"))
    shape = ("--op", op, "--shape", "1,8,8,8,2,2,0", *QUICK, "--threads", counts)
    done = bench(*shape, "--rivals", "eager", *files)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    rows = [line for line in lines if line and line[0] == "1,8,8,8,2,2,0"]
    assert sorted(row[1] for row in rows) == counts.split(",")
    assert "times the best builtin's speed" in done.stdout
    document = json.loads((tmp_path / "all.json").read_text())
    assert [p["threads"] for p in document["header"]["processes"]] == [
        int(count) for count in counts.split(",")
    ]
    assert (tmp_path / "chart.svg").read_text().rstrip().endswith("</svg>")


def test_a_wrong_candidate_is_reported_and_fails_the_command():
    own = ("--rivals", "eager", "--candidate", "contestants:WRONG")
    done = bench(*TINY, *QUICK, *own, "--format", "json")
    assert done.returncode == 1
    assert "wrong" in done.stderr.splitlines()[-1]
    document = json.loads(done.stdout)
    assert "wrong" not in {row["candidate"] for row in document["results"]}
    (row,) = [row for row in document["not_timed"] if row["status"] != "skipped"]
    assert (row["candidate"], row["status"]) == ("wrong", "wrong")
    assert row["error"] > 5e-4


def test_a_candidate_that_kills_its_process_does_not_take_the_others_along():
    shapes = (*TINY, "--shape", "1,4,6,6,4,3,1,1")
    own = ("--rivals", "eager", "--candidate", "contestants:DYING")
    done = bench(*shapes, *QUICK, *own, "--format", "json")
    assert done.returncode == 1
    document = json.loads(done.stdout)
    assert {row["case"] for row in document["results"] if row["candidate"] == "eager"} == {
        "1,8,8,8,8,3,1,1",
        "1,4,6,6,4,3,1,1",
    }
    crashes = [row for row in document["not_timed"] if row["status"] == "crashed"]
    assert [row["candidate"] for row in crashes] == ["dying", "dying"]
    assert "SIGABRT" in crashes[0]["reason"]


COPY = ("--op", "max_pool2d", "--shape", "1,4,6,6,1,1,0")


def test_an_engine_runs_beside_the_others_and_its_crash_is_its_own():
    own = ("--candidate", "contestants:TINY_ENGINE", "--candidate", "contestants:DYING_ENGINE")
    done = bench(*COPY, *QUICK, "--rivals", "eager", *own, "--format", "json")
    assert done.returncode == 1  # both are the user's
    document = json.loads(done.stdout)
    names = [row["candidate"] for row in document["results"]]
    assert names == ["zoo", "zoo-nhwc", "eager", "tiny"]
    assert {row["best_rival"] for row in document["results"]} == {"tiny"}
    (crash,) = document["not_timed"]
    assert (crash["candidate"], crash["status"]) == ("dying-engine", "crashed")
    assert "SIGABRT" in crash["reason"]
    assert len(document["header"]["processes"]) == 1


def test_what_is_said_about_engines():
    done = bench(*COPY, *QUICK, "--rivals", "eager", "--candidate", "contestants:TINY_ENGINE")
    assert done.returncode == 0, done.stderr
    assert "zoo: " in done.stdout
    assert "times the best engine's speed" in done.stdout
    done = bench(*COPY, *QUICK, "--rivals", "eager")
    assert "engine" not in done.stdout + done.stderr


def test_the_worst_of_several_wrong_results_stands_for_all():
    def row(case, status, reason, error=None):
        facts = {"case": case, "status": status, "reason": reason, "error": error}
        return {"candidate": "mnn", **facts}

    rows = [
        row("1,1", "skipped", "no such kernel"),
        row("1,2", "wrong", "its error is 3.0e-04", 3e-4),
        row("1,3", "wrong", "its error is 8.0e-04", 8e-4),
    ]
    assert summary_lines({"results": [], "controls": [], "not_timed": rows}) == [
        "Wrong: mnn in 2 cases (1,3, ...): its error is 8.0e-04",
        "Skipped: mnn in 1 case (1,1): no such kernel",
    ]


def test_the_largest_errors_of_each_candidate_are_told():
    def row(candidate, error, backward_error):
        facts = {"error": error, "backward_error": backward_error, "builtin": candidate == "eager"}
        return {"candidate": candidate, "verdict": None, "best_rival": None, **facts}

    rows = [row("zoo", 3e-7, 1e-7), row("eager", 1e-7, 1e-7), row("zoo", 2e-7, 5e-7)]
    told = "Largest error, of the output's maximum / of an output's sum |weight| |input|: "
    document = {"results": rows, "controls": [], "not_timed": []}
    assert summary_lines(document) == [told + "zoo 3.0e-07 / 5.0e-07, eager 1.0e-07 / 1.0e-07"]
    exact = {"results": [row("zoo", 0.0, 0.0)], "controls": [], "not_timed": []}
    assert summary_lines(exact) == []


def test_only_failures_of_engines_and_builtins_are_forgiven():
    names = ["zoo", "eager", "mnn", "mine", "control"]
    rows = [{"candidate": name, "status": "crashed"} for name in names]
    assert [row["candidate"] for row in failures(rows)] == ["zoo", "mine", "control"]


def test_an_engine_that_is_not_installed_is_a_note_with_the_remedy(monkeypatch):
    for name in ENGINES:
        monkeypatch.setitem(engines.PACKAGES, name, (f"no_{name}",))
    done = CliRunner().invoke(main, ["bench", *COPY, *QUICK, "--rivals", "eager,ncnn,mnn"])
    assert done.exit_code == 0, done.stderr
    (note,) = [line for line in done.stderr.splitlines() if "not installed" in line]
    assert "ncnn needs no_ncnn" in note
    assert "mnn needs no_mnn" in note
    assert "make bench-env" in note
    assert "ncnn" not in done.stdout


def test_an_engine_declines_to_be_held_to_less_than_it_can():
    if ops.cpu_capabilities() == ["scalar"]:
        pytest.skip("this machine has no more")
    own = ("--candidate", "contestants:TINY_ENGINE", "--cpu-capability", "scalar")
    done = bench(*COPY, *QUICK, "--rivals", "none", *own, "--format", "json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    (row,) = document["not_timed"]
    assert (row["candidate"], row["status"]) == ("tiny", "skipped")
    assert "instruction set" in row["reason"]
    # Nor is there a builtin, against itself: no resolution is stated.
    assert not [line for line in summary_lines(document) if "Resolution" in line]


@pytest.mark.parametrize("name", sorted({"avx2", "avx512"} - set(ops.cpu_capabilities())))
def test_an_instruction_set_that_the_machine_lacks(name):
    done = CliRunner().invoke(main, ["bench", *TINY, *QUICK, "--cpu-capability", name])
    assert done.exit_code == 2
    assert f"--cpu-capability {name}: this machine lacks it; choose of scalar" in done.stderr
    assert "ZOO_CPU_CAPABILITY" not in done.stderr


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ("none", []),
        ("builtin", [*RIVALS]),
        ("all", [*RIVALS, *ENGINES]),
        ("mnn,eager", ["eager", "mnn"]),
        ("ncnn,builtin", [*RIVALS, "ncnn"]),
    ],
)
def test_rivals_are_chosen_by_name_and_by_group(value, names):
    assert choose_rivals(value, op_groups()) == names


def test_csv_on_stdout_holds_no_raw_samples():
    done = bench("--op", "conv2d_pool", *TINY[2:], *QUICK, "--rivals", "none", "--format", "csv")
    assert done.returncode == 0, done.stderr
    header, *rows = done.stdout.splitlines()
    assert "samples_ms" not in header
    assert len(rows) == 3
    assert rows[0].startswith('conv2d_pool,"1,8,8,8,8,3,1,1+max2",zoo,')


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--op", "conv2d", "--shape", "1,2,3"), "--shape 1,2,3: 3 numbers"),
        (("--op", "conv2d", "--shape", "1,8,8,8,8,3,1,1,3"), "must divide"),
        (("--op", "conv3d"), "'conv3d' is not one of"),
        (("--op", "conv2d_pool", "--set", "mobilenet"), "has no conv2d_pool cases"),
        ((*TINY, "--set", "vgg"), "leave out --set"),
        ((*TINY, "--batch", "2"), "leave out --set and --batch"),
        ((*TINY, "--threads", "0"), "positive whole numbers"),
        ((*TINY, "--threads", "one"), "positive whole numbers"),
        ((*TINY, "--threads", "4096"), "this process may use"),
        ((*TINY, "--rivals", "eager,cudnn"), "unknown rival 'cudnn'"),
        ((*TINY, "--candidate", "contestants:NOT_ONE"), "is no zoo.benchmark"),
        ((*TINY, "--candidate", "contestants:TAKEN"), "'eager' is taken"),
        ((*TINY, "--candidate", "no_such_module:X"), "no_such_module"),
        ((*TINY, "--plot", "chart.gif"), "must end in .png or .svg"),
        ((*TINY, "--output", "no/such/folder/x.json"), "does not exist"),
        (("--op", "max_pool2d", "--activation", "relu"), "belongs to convolutions"),
        (("--op", "max_pool2d", "--weights", "cold"), "belongs to convolutions"),
        ((), "say which op to time with --op, or --peak alone"),
        (("--peak", *TINY[2:]), "say which with --op"),
        (("--peak", "--weights", "cold"), "say which with --op"),
        (("--peak", "--history", "old.json"), "say which with --op"),
        ((*TINY, "--peak", "--dtype", "float64"), "--peak measures float32"),
        ((*TINY, "--history", "no_such.json"), "--history no_such.json: No such file"),
        ((*TINY, "--history", __file__), "is not JSON"),
    ],
)
def test_bad_use_is_a_line_and_exit_code_2(arguments, message, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(HERE))  # for the worker
    done = CliRunner().invoke(main, ["bench", *arguments])
    assert done.exit_code == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("op", "case"),
    [
        ("conv2d", "1,100000,8000,8000,16,3,1,1"),
        ("linear", "1,2000000000,2000000000"),
        ("avg_pool2d", "1,1000000,100000,100000,3,2,1"),
    ],
)
def test_a_case_that_does_not_fit_into_memory_is_a_line(op, case):
    done = bench("--op", op, "--shape", case, *QUICK)
    assert done.returncode == 1
    assert done.stderr.startswith(f"Error: {op} {case} takes ")
    assert done.stderr.endswith("GiB are free: choose a smaller case\n")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_ceilings_alone(tmp_path):
    counts = [1, 2] if len(os.sched_getaffinity(0)) > 1 else [1]
    threads = ("--threads", ",".join(map(str, counts)))
    done = bench("--peak", *threads, "--output", str(tmp_path / "peak.json"))
    assert done.returncode == 0, done.stderr
    head, _, _, titles, _, *rows = done.stdout.splitlines()
    notes = [line for line in rows if line.startswith(("The machine was busy", "The ceiling of"))]
    rows = rows[: len(rows) - len(notes)]
    assert head.startswith("Ceilings, float32; ")
    assert "FMA GFLOP/s  GEMM GFLOP/s" in titles
    assert titles.endswith("DRAM GB/s")
    assert [row.split()[0] for row in rows] == [str(count) for count in counts]
    document = json.loads((tmp_path / "peak.json").read_text())
    assert document["header"]["op"] is None
    assert document["results"] == []
    for process, count in zip(document["header"]["processes"], counts, strict=True):
        assert process["threads"] == count
        peak = process["peak"]
        assert peak["fma_gflops"] > 0
        assert peak["disturbance"] >= 0
        assert list(peak["read_gbps"]) == [*peak["capacity_bytes"], "DRAM"]

    assert notes == ceiling_lines(document["header"])

    done = bench("--peak", "--threads", "1", "--cpu-capability", "scalar", "--format", "csv")
    assert done.returncode == 0, done.stderr
    (row,) = csv.DictReader(done.stdout.splitlines())
    assert float(row["DRAM_gbps"]) > 0


def test_the_roofline_of_each_row():
    rest = ("--rivals", "eager", "--peak", "--threads", "1", "--rounds", "5", "--min-time", "0.2")
    done = bench(*TINY, *rest, "--format", "json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    (process,) = document["header"]["processes"]
    peak = process["peak"]
    for row in document["results"]:
        # 12 KiB of maps and weights, 64 * 64 * 9 * 2 operations: arithmetic bounds it
        assert row["percent_of_roofline"] == pytest.approx(100 * row["gflops"] / peak["fma_gflops"])
    shape = ("--op", "max_pool2d", "--shape", "1,8,8,8,2,2,0")
    done = bench(*shape, *rest)
    assert done.returncode == 0, done.stderr
    assert "% roofline" in done.stdout


def test_a_run_beside_an_earlier_one(tmp_path):
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    rest = (*QUICK, "--rivals", "eager")
    done = bench(*TINY, *rest, "--output", str(old))
    assert done.returncode == 0, done.stderr
    document = json.loads(old.read_text())
    document["header"]["cpu"] = "Abacus"
    del document["header"]["cpu_capability"]
    for row in document["results"]:
        if row["candidate"] == "zoo":
            row["median_ms"] /= 1000
    old.write_text(json.dumps(document))

    done = bench(*TINY, *rest, "--history", str(old), "--output", str(new))
    assert done.returncode == 0, done.stderr
    tables = done.stdout.partition("now/then")[2].splitlines()
    assert tables[2].split()[2] == "zoo"  # below the heading and a rule: what lost most
    assert "Then and now differ: the processor was Abacus, is " in done.stdout
    assert "PyTorch's builtins: " in done.stdout
    document = json.loads(new.read_text())
    assert document["header"]["history"]["file"] == str(old)
    rows = {row["candidate"]: row for row in document["results"]}
    assert set(rows) == {"zoo", "zoo-nhwc", "zoo-packed", "eager"}
    assert rows["zoo"]["speedup"] < 0.1
    assert rows["zoo"]["ratio_change"] < 0.1
    assert rows["eager"]["ratio_change"] == 1

    done = bench("--op", "max_pool2d", "--shape", "1,8,8,8,2,2,0", "--history", str(old))
    assert done.returncode == 2
    assert "none of these cases, threads and options: it holds zoo bench --op conv2d" in done.stderr
    assert "Traceback" not in done.stderr


def test_files_are_not_replaced_unless_told_to(tmp_path):
    for option, name in (("--output", "a.json"), ("--plot", "a.png")):
        (tmp_path / name).write_text("precious")
        done = bench(*TINY, option, str(tmp_path / name))
        assert done.returncode == 2
        assert "--force" in done.stderr
        assert (tmp_path / name).read_text() == "precious"
    forced = ("--rivals", "none", "--output", str(tmp_path / "a.json"), "--force")
    done = bench(*TINY, *QUICK, *forced)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "a.json").read_text())["results"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "a.png"]


def test_without_matplotlib_the_plot_says_what_to_install(tmp_path):
    (tmp_path / "matplotlib.py").write_text("raise ImportError('not here')\n")
    done = bench(*TINY, "--plot", str(tmp_path / "a.png"), PYTHONPATH=str(tmp_path))
    assert done.returncode == 2
    assert "zoo-vision[plot]" in done.stderr


def test_without_a_compiler_the_others_race_on():
    rivals = ("--rivals", "eager,inductor")
    done = bench(*TINY, *QUICK, *rivals, "--format", "json", PATH="/nowhere")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    names = [row["candidate"] for row in document["results"]]
    assert names == ["zoo", "zoo-nhwc", "zoo-packed", "eager"]
    (row,) = [row for row in document["not_timed"] if row["candidate"] not in OURS]
    assert (row["candidate"], row["status"]) == ("inductor", "skipped")
    assert "compiler" in row["reason"]


def test_a_worker_that_cannot_start_is_a_line_and_not_a_traceback(tmp_path):
    (tmp_path / "torch.py").write_text("raise SystemExit(3)\n")
    done = bench(*TINY, *QUICK, PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert "exit code 3" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_cpu_capability_is_named():
    done = bench(*TINY, *QUICK, "--rivals", "none", ZOO_CPU_CAPABILITY="mmx")
    assert done.returncode == 2
    assert "mmx" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("capability", ops.cpu_capabilities())
def test_a_cpu_capability_holds_for_zoo_and_pytorch(capability):
    rivals = ("--rivals", "eager,onednn", "--cpu-capability", capability)
    done = bench(*TINY, *QUICK, *rivals, "--format", "json", ATEN_CPU_CAPABILITY="avx2")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["header"]["cpu_capability"] == capability
    (process,) = document["header"]["processes"]
    assert process["zoo_capability"] == capability
    aten, onednn = {
        "scalar": ("DEFAULT", "SSE41"),
        "avx2": ("AVX2", "AVX2"),
        "avx512": ("AVX512", "AVX512_CORE"),
    }[capability]
    assert process["torch_capability"] == aten
    assert process["environment"]["ONEDNN_MAX_CPU_ISA"] == onednn


def test_what_scalar_means_for_rivals_is_said():
    done = bench(*TINY, *QUICK, "--rivals", "eager,nnpack", "--cpu-capability", "scalar")
    assert done.returncode == 0, done.stderr
    assert "PyTorch to the least it has (ATen default, oneDNN SSE4.1)" in done.stdout
    assert "NNPACK has nothing below AVX2" in done.stdout


def test_help_names_the_candidates_and_imports_no_torch():
    script = (
        "import sys; from zoo.cli import main\n"
        "main(['bench', '--help'], standalone_mode=False)\n"
        "assert not {'torch', 'numpy', 'matplotlib'} & set(sys.modules), 'heavy import'"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "NNPACK's Winograd" in done.stdout
