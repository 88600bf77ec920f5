"""Work done ahead by threads, each of which computes on one processor."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")

_AHEAD = 2
"""Items per thread that are done or being done before they are asked for."""


def ahead(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int
) -> Iterator[Result]:
    """Yield ``function(item)`` in the order of the items, computed by threads.

    An exception of the function is raised in its place. When the iterator is closed early, what
    has begun is finished and what has not is left.
    """
    workers = min(workers, len(items))
    if workers == 0:
        return
    threads = torch.get_num_threads()
    started = threading.Barrier(workers + 1)

    def start() -> None:
        # Otherwise each thread would divide its operations among as many threads again.
        torch.get_num_threads()  # settles what this thread has, before it is changed
        torch.set_num_threads(1)
        started.wait()

    pool = ThreadPoolExecutor(workers, "zoo-loader", start)
    source = iter(items)
    try:
        first = itertools.islice(source, _AHEAD * workers)
        waiting = deque(pool.submit(function, item) for item in first)
        started.wait()
        # What was set is also what further threads of the process start with.
        torch.set_num_threads(threads)
        while waiting:
            result = waiting.popleft().result()
            waiting.extend(pool.submit(function, item) for item in itertools.islice(source, 1))
            yield result
    finally:
        pool.shutdown(cancel_futures=True)
