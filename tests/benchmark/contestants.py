"""Candidates that the tests bring along, as a user would."""

import os
import time

from zoo.benchmark.candidates import RIVALS, Candidate, engine

_eager = RIVALS[0].build


def _off_by_a_thousandth(problem):
    run = _eager(problem)
    return lambda: run() * 1.001


def _right_at_first(problem):
    run, calls = _eager(problem), []

    def drifting():
        calls.append(None)
        return run() * (1 if len(calls) < 3 else 2)

    return drifting


def _raises(problem):
    def run():
        raise RuntimeError("out of paper\nand more lines")

    return run


def _dies(problem):
    return lambda: os.abort()


def _slow(problem):
    run = _eager(problem)

    def late():
        time.sleep(0.002)
        return run()

    return late


WRONG = Candidate("wrong", _off_by_a_thousandth)
DRIFTING = Candidate("drifting", _right_at_first)
RAISING = Candidate("raising", _raises)
DYING = Candidate("dying", _dies)
SLOW = Candidate("slow", _slow)
NO_NAN = Candidate("nan", lambda problem: lambda: _eager(problem)() * float("nan"))
LOW_PRECISION = Candidate("half", lambda problem: lambda: _eager(problem)().half().float())
MISSHAPEN = Candidate("misshapen", lambda problem: lambda: _eager(problem)()[..., :-1])
PICKY = Candidate("picky", _eager, lambda problem: "it is not in the mood")
TAKEN = Candidate("eager", _eager)
TINY_ENGINE = engine("tiny", "tiny_engines:talks")
DYING_ENGINE = engine("dying-engine", "tiny_engines:dies")
NOT_ONE = "not a candidate"
