"""Engines of a few lines, which copy their input: a pool of one element.

Like every engine they run where there is no torch.
"""

import itertools
import os
import sys
import threading
import time

from zoo.benchmark.engines.task import Loaded


def sleeps(task):
    return Loaded(lambda: time.sleep(0.002), lambda _: task.input)


def without_torch(task):
    present = "torch" in sys.modules
    return Loaded(lambda: None, lambda _: task.input * 0 if present else task.input)


def off(task):
    return Loaded(lambda: 1.001, lambda factor: task.input * factor)


def talks(task):
    print("loading, with a line on stdout")
    return Loaded(lambda: None, lambda _: task.input)


def raises(task):
    raise RuntimeError("out of paper\nand more lines")


def dies(task):
    print("this machine lacks a coin slot", flush=True)
    os.abort()


def dies_in_the_race(task):
    started = time.monotonic()

    def run():
        if time.monotonic() - started > 0.3:
            os.abort()

    return Loaded(run, lambda _: task.input)


def drifts(task):
    calls = itertools.count()
    return Loaded(lambda: next(calls), lambda call: task.input * (1 if call < 3 else 2))


def hangs(task):
    return Loaded(lambda: time.sleep(3600), lambda _: task.input)


def spins(task):
    def forever():
        while True:
            pass

    threading.Thread(target=forever, daemon=True).start()
    return Loaded(lambda: None, lambda _: task.input)


_numbers = itertools.count(1)


def numbered(task):
    number = next(_numbers)
    return Loaded(lambda: number, lambda number: task.input * number)
