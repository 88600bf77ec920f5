"""What a run says of itself, on a terminal and elsewhere."""

from __future__ import annotations

import io
import os
import pty

from zoo.training.progress import Progress, _duration

ROW = {
    "epoch": 0.0, "train_loss": 1.25, "eval_loss": 1.5, "eval_top1": 81.234, "eval_top5": 99.0,
    "lr": 0.01,
}  # fmt: skip


def test_plain_lines():
    stream = io.StringIO()
    progress = Progress(3, 10, stream=stream)
    for step in range(10):
        progress.step(0, step + 1, 1.5, 60.0, 32)
    progress.end_epoch(ROW)
    progress.close()
    (line,) = stream.getvalue().splitlines()
    assert line.startswith("epoch 1/3  train loss 1.2500  eval loss 1.5000  top-1 81.23 %  lr 0.01")
    assert "images/s" in line
    assert line.endswith(" left")


def test_bar_on_a_terminal():
    leader, follower = pty.openpty()
    with os.fdopen(follower, "w") as terminal:
        progress = Progress(3, 10, stream=terminal)
        progress._told -= 1  # as after a second
        progress.step(0, 5, 1.5, 60.0, 32)
        progress.end_epoch(ROW)
        progress.close()
    shown = os.read(leader, 10_000).decode()
    os.close(leader)
    assert "[######......] 5/10  " in shown
    assert "loss 1.5000  accuracy 60.00 %" in shown
    assert shown.count("\n") == 1
    assert "top-1 81.23 %" in shown


def test_silent_in_other_processes():
    stream = io.StringIO()
    progress = Progress(3, 10, stream=stream, shown=False)
    progress.step(0, 1, 1.5, 60.0, 32)
    progress.end_epoch(ROW)
    progress.note("hello")
    assert stream.getvalue() == ""


def test_durations():
    assert [_duration(s) for s in (0, 59.6, 61, 3599, 3661)] == [
        "0:00", "1:00", "1:01", "59:59", "1:01:01",
    ]  # fmt: skip
