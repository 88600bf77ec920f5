"""The page on training runs, with fewer epochs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from zoo.cli import main
from zoo.training.config import SETTINGS, check_names
from zoo.training.settings import parse_yaml

PAGE = (Path(__file__).parents[2] / "docs" / "training.md").read_text()


def test_examples_run(monkeypatch):
    pytest.importorskip("zoo_efficientnet_lite")
    monkeypatch.setenv("ZOO_PLUGINS", "zoo,cifar,efficientnet-lite")
    commands = 0
    for kind, block in re.findall(r"```(python|console)\n(.*?)```", PAGE, flags=re.DOTALL):
        if kind == "python":
            exec(block, {})
            continue
        for line in re.findall(r"^\$ zoo (.*)$", block, flags=re.MULTILINE):
            line = re.sub(r"--epochs \d+", "--epochs 2", line)
            result = CliRunner().invoke(main, shlex.split(line), prog_name="zoo")
            assert result.exit_code == 0, (line, result.stderr)
            commands += 1
    assert commands == 4


def test_launch_lines_name_flags_that_exist():
    known = {f"--{name.replace('_', '-')}" for name in SETTINGS} | {"--output", "-b"}
    for block in re.findall(r"```sh\n(.*?)```", PAGE, flags=re.DOTALL):
        words = shlex.split(block.replace("\\\n", " "))
        flags = [word for word in words[words.index("train") :] if word.startswith("-")]
        assert flags
        assert set(flags) <= known


def test_the_yaml_is_a_configuration():
    (block,) = re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)
    assert check_names(parse_yaml(block, "docs"), "docs")["dataset"] == "zoo/cifar10"
