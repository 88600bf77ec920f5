"""Runs ``zoo ARGUMENTS`` for each line of stdin, a JSON list, in a forked process.

All that is slow to import is imported once, so that a test can start and kill many processes. For
each line the process id is printed, and when the process ends, its exit status, negative for a
signal. Output goes to the file that is named on the command line.
"""

import json
import os
import sys

import matplotlib.figure  # noqa: F401
import sklearn.datasets  # noqa: F401
import sklearn.model_selection  # noqa: F401
import tensorboard.summary.writer.event_file_writer  # noqa: F401
import torch.utils.tensorboard  # noqa: F401
import torchvision.transforms.v2  # noqa: F401

import zoo.training.session  # noqa: F401
from zoo.cli import main


def child(arguments: list[str]) -> None:
    log = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number in (1, 2):
        os.dup2(log, number)
    code = 1
    try:
        main(arguments)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


print("ready", flush=True)
for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        child(json.loads(line))
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
