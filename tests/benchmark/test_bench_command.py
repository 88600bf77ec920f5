"""``zoo bench`` as people run it: whole processes, real candidates, tiny cases."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from zoo.cli import main

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

    assert document["not_timed"] == []
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
    (row,) = document["not_timed"]
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
    assert [row["status"] for row in document["not_timed"]] == ["crashed", "crashed"]
    assert "SIGABRT" in document["not_timed"][0]["reason"]


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
    ],
)
def test_bad_use_is_a_line_and_exit_code_2(arguments, message, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(HERE))  # for the worker
    done = CliRunner().invoke(main, ["bench", *arguments])
    assert done.exit_code == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


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
    (row,) = document["not_timed"]
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


def test_help_names_the_candidates_and_imports_no_torch():
    script = (
        "import sys; from zoo.cli import main\n"
        "main(['bench', '--help'], standalone_mode=False)\n"
        "assert not {'torch', 'numpy', 'matplotlib'} & set(sys.modules), 'heavy import'"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "NNPACK's Winograd" in done.stdout
