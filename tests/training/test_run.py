"""The folder of a run: how it appears, and who may write to it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from zoo.errors import UsageError, ZooError
from zoo.training.run import Run, check_output, check_unchanged


def test_folder_appears_whole(config, tmp_path):
    place = tmp_path / "deep" / "a"
    run = Run.create(place, config(), {"seed": 7})
    assert yaml.safe_load((place / "args.yaml").read_text()) == config().plain()
    assert json.loads((place / "run.json").read_text()) == {"seed": 7}
    assert os.stat(place).st_mode & 0o055 == 0o055
    assert [path.name for path in place.parent.iterdir()] == ["a"]
    run.release()


def test_an_empty_folder_may_be_taken(config, tmp_path):
    (tmp_path / "a").mkdir()
    Run.create(tmp_path / "a", config(), {}).release()


def test_folders_of_their_own(config, tmp_path):
    names = []
    for _ in range(3):
        run = Run.create(None, config(), {})
        names.append(str(run.folder))
        run.release()
    assert names == ["runs/digits-small_cnn", "runs/digits-small_cnn-2", "runs/digits-small_cnn-3"]


def test_what_is_there_is_kept(config, tmp_path):
    place = tmp_path / "a"
    Run.create(place, config(), {}).release()
    with pytest.raises(UsageError, match=r"holds a run: go on with it by --resume .*/a"):
        Run.create(place, config(), {})
    (place / "last.safetensors").write_text("old")
    Run.create(place, config(seed=2), {}, overwrite=True).release()
    assert yaml.safe_load((place / "args.yaml").read_text())["seed"] == 2
    assert not (place / "last.safetensors").exists()

    other = tmp_path / "letters"
    other.mkdir()
    (other / "letter.txt").write_text("dear")
    for overwrite in (False, True):
        with pytest.raises(UsageError, match="holds something else than a run"):
            Run.create(other, config(), {}, overwrite=overwrite)
    assert (other / "letter.txt").read_text() == "dear"
    with pytest.raises(UsageError, match="is not a folder"):
        check_output(other / "letter.txt", True)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name[0] == ".") == []


def test_only_one_process_may_train(config, tmp_path):
    run = Run.create(tmp_path / "a", config(), {})
    program = (
        "import sys; from pathlib import Path; from zoo.training.run import Run;"
        "Run(Path(sys.argv[1])).take()"
    )

    def other() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", program, tmp_path / "a"], capture_output=True, text=True
        )

    assert "another process trains in" in other().stderr
    run.release()
    assert other().returncode == 0


def test_what_a_killed_process_left_is_removed(config, tmp_path):
    Run.create(tmp_path / "a", config(), {}).release()
    (tmp_path / "a" / ".state.safetensors.k3jx9").write_text("half")
    run = Run(tmp_path / "a")
    run.take()
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["args.yaml", "run.json"]
    run.release()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_folder(config, tmp_path):
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(ZooError, match=r"cannot make .*Permission denied"):
            Run.create(tmp_path / "a", config(), {})
    finally:
        tmp_path.chmod(0o755)


def test_folder_that_cannot_be_written(config):
    with pytest.raises(ZooError, match="cannot make /proc/zoo/a: "):
        Run.create(Path("/proc/zoo/a"), config(), {})


def test_changes_are_told(config, tmp_path):
    held = config(lr=0.1)
    assert check_unchanged(held, {}, tmp_path) == held
    assert check_unchanged(held, {"lr": "0.1", "workers": 3}, tmp_path).workers == 3
    with pytest.raises(
        UsageError, match=r"loss was 'zoo/cross_entropy', not 'zoo/mse'; lr was 0.1, not 0.2"
    ):
        check_unchanged(held, {"lr": 0.2, "loss": "zoo/mse"}, tmp_path)
