"""Functions that threads of one process compute side by side, a core each; results come in the order of the items."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")


def ordered_map(function: Callable[[T], R], items: Iterable[T], workers: int) -> Iterator[R]:
    """Results in the order of the items, computed by threads; only a few items ahead are taken and held.

    Each of several workers computes with one thread of torch's; the caller's own number of threads is left as it is.
    """
    if workers == 1:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(workers) as pool:
        _one_thread_each(pool, workers)
        yield from in_order(pool, function, items, workers)


def in_order(pool: ThreadPoolExecutor, function: Callable[[T], R], items: Iterable[T], most: int) -> Iterator[R]:
    """Results of a pool in the order of the items, which are taken no more than `most` ahead."""
    waiting: deque[Future[R]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > most:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def _one_thread_each(pool: ThreadPoolExecutor, workers: int) -> None:
    """Give every thread of the pool one thread of torch's.

    torch counts threads for each thread by itself; setting the number also sets what threads born later start with. So
    the caller sets its own number again once all workers have theirs.
    """
    threads, ready = torch.get_num_threads(), threading.Barrier(workers)

    def settle() -> None:
        torch.get_num_threads()  # the first look fixes the thread's number: a later one would overwrite what is set
        torch.set_num_threads(1)
        ready.wait()

    for future in [pool.submit(settle) for _ in range(workers)]:
        future.result()
    torch.set_num_threads(threads)
