"""A plugin file with backends: slow, picky, wrong, absent, unwilling and broken ones."""

from __future__ import annotations

import time
from typing import Any

import zoo

prepared: list[tuple[int, ...]] = []
"""The sizes that "picky" was asked to prepare for."""


@zoo.hookimpl
def zoo_backends() -> list[zoo.Backend]:
    return [
        zoo.Backend("slow", prepare="engines:slow", dynamic=True, license="MIT", summary="Sleeps."),
        zoo.Backend("picky", prepare="engines:picky"),
        zoo.Backend("wrong", prepare="engines:wrong"),
        zoo.Backend("absent", prepare="engines:slow", requires=("zoo", "no_such_engine")),
        zoo.Backend("unwilling", prepare="engines:unwilling"),
        zoo.Backend("fails", prepare="engines:fails"),
        zoo.Backend("broken", prepare="engines:broken"),
    ]


def slow(module: Any, args: Any, kwargs: Any) -> Any:
    def run(*args: Any, **kwargs: Any) -> Any:
        time.sleep(0.01)
        return module(*args, **kwargs)

    return run


def picky(module: Any, args: Any, kwargs: Any) -> Any:
    size = tuple(args[0].shape)
    if size[0] > 2:
        raise zoo.ZooError("picky takes two images at most")
    prepared.append(size)

    def run(x: Any) -> Any:
        assert tuple(x.shape) == size
        return module(x)

    return run


def wrong(module: Any, args: Any, kwargs: Any) -> Any:
    return lambda *args, **kwargs: module(*args, **kwargs) * 1.001


def unwilling(module: Any, args: Any, kwargs: Any) -> Any:
    raise zoo.ZooError("it does not want to")


def fails(module: Any, args: Any, kwargs: Any) -> Any:
    def run(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("out of order")

    return run


def broken(module: Any, args: Any, kwargs: Any) -> Any:
    raise RuntimeError("it fell apart\nin many pieces")
