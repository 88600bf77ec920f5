"""Runs ``zoo ARGUMENTS`` in a forked process for each job in a line of stdin.

All that is slow to import is imported once, so that a test can start and kill many processes. A
line is a JSON list of jobs, which run beside each other: pairs of arguments and variables of the
environment. For each line the process ids are printed, and when all have ended, their exit
statuses, negative for a signal. Output goes to the file that is named on the command line.
"""

import json
import os
import sys

import matplotlib.figure  # noqa: F401
import sklearn.datasets
import sklearn.model_selection  # noqa: F401
import tensorboard.summary.writer.event_file_writer  # noqa: F401
import torch.utils.tensorboard  # noqa: F401
import torchvision.transforms.v2  # noqa: F401

import zoo.training.session  # noqa: F401
from zoo.cli import main


def child(arguments: list[str], environment: dict[str, str]) -> None:
    os.setsid()  # a process group of its own, as a terminal makes it
    os.environ.update(environment)
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
    pids = []
    for job in json.loads(line):
        pid = os.fork()
        if pid == 0:
            child(*job)
        pids.append(pid)
    print(*pids, flush=True)
    print(*(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids), flush=True)
