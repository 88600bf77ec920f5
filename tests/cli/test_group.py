"""The command as a whole: lazy loading, plugin options, commands of plugins, errors."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import zoo as zoo_package
from zoo.cli import COMMANDS, _one_line_errors

HEAVY = {"torch", "torchvision", "timm", "numpy", "PIL", "sklearn"}


def test_help_lists_own_and_plugin_commands(zoo):
    result = zoo("--help")
    assert result.exit_code == 0
    for name, (_, text) in COMMANDS.items():
        assert name in result.stdout
        assert text[:30] in result.stdout
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert "greet Say a greeting." in lines
    assert "absent Cannot be imported." in lines
    assert "shelf/plugins" in result.stdout


def test_version(zoo):
    assert zoo("--version").stdout == f"zoo {zoo_package.__version__}\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_its_first_sentence_about_it(zoo, name):
    result = zoo(name, "--help")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"Usage: zoo {name}")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["list-models", "--sort", "params", "--where", "params<1G"],
        ["list-models", "--format", "names"],
        ["list-augmentations"],
        ["list-losses"],
        ["list-datasets", "--format", "csv"],
        ["plugins", "--format", "json"],
        ["info", "shelf/net2"],
        ["predict", "--help"],
        ["bench", "--help"],
        ["ops", "--help"],
        ["predict", "missing.jpg", "--model", "shelf/net2"],
    ],
    ids=" ".join,
)
def test_nothing_heavy_is_imported(environment, arguments):
    """All plugins that are installed are active here, with a warm index."""
    code = (
        "import sys\nfrom zoo.cli import main\n"
        "try:\n    main(sys.argv[1:])\n"
        f"finally:\n    print(sorted({HEAVY!r} & set(sys.modules)), file=sys.stderr)"
    )
    env = {name: value for name, value in os.environ.items() if name != "ZOO_PLUGINS"}
    warm = [sys.executable, "-m", "zoo", "list-models", "--limit", "0"]
    subprocess.run(warm, env=env, check=True, capture_output=True)
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments], env=env, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert result.stderr.splitlines()[-1] == "[]"


def test_plugins_are_chosen_before_or_after_the_command(zoo):
    assert "shelf/net2" in zoo("list-models").stdout
    for arguments in (["-p", "no:shelf", "plugins"], ["plugins", "-p", "no:shelf"]):
        assert "blocked" in zoo(*arguments).stdout


def test_plugin_files_are_added_by_absolute_path(zoo, tmp_path, monkeypatch):
    source = "import zoo\n@zoo.hookimpl\ndef zoo_losses():\n    return [zoo.Loss('l', 'a:b')]\n"
    (tmp_path / "my_plugin.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    assert "my_plugin/l" in zoo("-p", "./my_plugin.py", "list-losses").stdout
    paths = os.environ["ZOO_EXTRA_PLUGINS"].split(os.pathsep)
    assert paths[-1] == str(tmp_path / "my_plugin.py")


def test_options_for_plugins_become_the_environment_of_workers(zoo):
    zoo("-p", "no:a", "-p", "no:b", "--no-plugins", "plugins")
    assert os.environ["ZOO_BLOCK_PLUGINS"] == "a,b"
    assert os.environ["ZOO_NO_PLUGINS"] == "1"


@pytest.mark.parametrize("value", ["shelf", "no:", "missing.py"])
def test_wrong_plugin_options(zoo, value):
    result = zoo("-p", value, "plugins")
    assert result.exit_code == 2
    assert repr(value) in result.stderr


@pytest.mark.parametrize(("name", "hint"), [("list-model", "list-models"), ("gret", "greet")])
def test_unknown_command_names_close_ones(zoo, name, hint):
    result = zoo(name)
    assert result.exit_code == 2
    assert f"no command '{name}'" in result.stderr
    assert hint in result.stderr


def test_command_of_a_plugin_runs_with_its_own_options(zoo):
    assert zoo("greet", "-p", "Ada").stdout == "hello Ada\n"
    assert zoo("shelf/greet").stdout == "hello you\n"


def test_plugins_cannot_replace_the_cores_commands(zoo):
    assert "distribution" in zoo("plugins").stdout
    assert zoo("shelf/plugins").stdout == "hello you\n"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent", "command 'absent' (shelf_that_is_not_there:command) cannot be loaded: "),
        ("number", "command 'number' (shelf:number) is a int, not a click.Command"),
    ],
)
def test_broken_command_of_a_plugin_is_one_line_that_names_the_plugin(zoo, name, message):
    result = zoo(name)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: plugin 'shelf': {message}")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("kind", "code", "text"),
    [
        ("zoo", 1, "Error: it failed: turn it off and on\n"),
        ("usage", 2, "Error: ask for something else\n"),
        ("interrupt", 130, "Interrupted.\n"),
    ],
)
def test_errors_are_one_line_with_their_exit_code(zoo, kind, code, text):
    result = zoo("greet", "--raise", kind)
    assert (result.exit_code, result.stderr) == (code, text)
    assert result.stdout == ""


def test_bug_shows_its_traceback(zoo_process):
    result = zoo_process("greet", "--raise", "bug")
    assert result.returncode == 1
    assert "Traceback" in result.stderr
    assert "RuntimeError: a bug of the plugin" in result.stderr


def test_ctrl_c_ends_quietly_with_130(environment, tmp_path):
    ready = tmp_path / "ready"
    source = (
        "import click, pathlib, signal, time, zoo\n"
        # A shell lets its background jobs ignore the signal; they inherit that.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "@zoo.hookimpl\n"
        "def zoo_commands():\n"
        "    return [zoo.Command('nap', 'sleeper:nap')]\n"
        "@click.command()\n"
        "def nap():\n"
        f"    pathlib.Path({str(ready)!r}).touch()\n"
        "    time.sleep(60)\n"
    )
    (tmp_path / "sleeper.py").write_text(source)
    command = [sys.executable, "-m", "zoo", "-p", str(tmp_path / "sleeper.py"), "nap"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while not ready.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (130, "Interrupted.\n")


def test_closed_pipe_is_silent(environment):
    command = f"{sys.executable} -m zoo list-models --format names | head -n 1"
    # A pipe whose reader is gone before the first byte, and one that closes after a line.
    for shell in (command, command.replace("head -n 1", "true")):
        result = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=True)
        assert result.stderr == ""


def test_failed_plugin_is_one_line_and_the_rest_works(zoo_process, tmp_path):
    broken = tmp_path / "broken.py"
    broken.write_text("raise SystemExit('not today')\n")
    result = zoo_process("-p", str(broken), "list-models", "--format", "names")
    assert result.returncode == 0
    assert "shelf/net2" in result.stdout
    assert result.stderr.count("\n") == 1
    assert "broken" in result.stderr


def test_strict_plugins_make_it_an_error(zoo_process, tmp_path):
    broken = tmp_path / "broken.py"
    broken.write_text("raise SystemExit('not today')\n")
    for arguments in (["plugins"], ["--help"]):
        result = zoo_process("-p", str(broken), *arguments, ZOO_STRICT_PLUGINS="1")
        assert result.returncode == 1
        assert result.stderr.startswith("Error: ")
        assert "Traceback" not in result.stderr


def test_main_module_and_script_are_the_same(zoo_process):
    script = Path(sys.executable).with_name("zoo")
    if not script.exists():
        pytest.skip("the console script is not installed")
    direct = subprocess.run([script, "--help"], capture_output=True, text=True, check=True)
    assert direct.stdout == zoo_process("--help").stdout


@pytest.mark.parametrize(
    "arguments", [["list-losses"], ["--help"], ["plugins", "--format", "json"]]
)
def test_full_disk_is_one_line(environment, arguments):
    with open("/dev/full", "w") as full:
        result = subprocess.run(
            [sys.executable, "-m", "zoo", *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
            check=False,
        )
    assert result.returncode == 1
    last = result.stderr.splitlines()[-1]
    assert last == "Error: cannot write the output: No space left on device"
    assert "Traceback" not in result.stderr


def test_csv_of_nothing_has_the_header_of_something(zoo):
    for name in ("list-models", "list-losses", "list-datasets", "list-augmentations"):
        some, none = (
            zoo(name, *patterns, "--format", "csv").stdout.splitlines()
            for patterns in ([], ["nothing-is-called-so"])
        )
        assert len(none) == 1
        assert not some or some[0] == none[0]


def test_misspelt_plugin_to_block_is_said(zoo):
    result = zoo("-p", "no:shlef", "list-losses")
    assert result.exit_code == 0
    assert "names 'shlef', but no plugin of that name is installed; did you mean shelf?" in (
        result.stderr
    )


def test_other_system_errors_are_not_called_the_output_s():
    with pytest.raises(TimeoutError, match="no answer"), _one_line_errors():
        raise TimeoutError("no answer")
