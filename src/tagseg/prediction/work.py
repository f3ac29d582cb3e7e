"""Many photos at once: one on each core of a CPU, batches of one size on a GPU; results come in the photos' order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import torch

from tagseg.cores import cores
from tagseg.devices import is_out_of_memory, memory_sentence
from tagseg.errors import UserError
from tagseg.threads import in_order

BATCH = 8  # photos that a GPU takes together
BATCH_PIXELS = 8 * 1024**2  # of a batch: photos beyond it come one by one
ADVICE = "--tile 512, or fewer or smaller --scales"
WINDOW = 64  # photos that are looked at together for batches of one size
WINDOW_BYTES = 1 << 29  # of photos and maps that such a window may hold

T = TypeVar("T")
R = TypeVar("R")


def workers_of(device: torch.device) -> int:
    """How many photos to work at at once: on a CPU as many as torch has threads, each photo with one of them.

    A photo a thread takes about two thirds of the time of all threads at one photo, which wait for each other after
    every layer. A GPU takes batches instead: 1.
    """
    return torch.get_num_threads() if device.type == "cpu" else 1


def ahead(function: Callable[[T], R], items: Iterable[T], device: torch.device) -> Iterator[R]:
    """Results in the order of the items, by threads that read files while a device computes; on a CPU one by one.

    On a CPU the cores have their photos already.
    """
    threads = file_threads(device)
    if threads == 0:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(threads) as pool:
        yield from in_order(pool, function, items, 2 * BATCH)


class Behind:
    """Threads that write files while a device computes; on a CPU each is written at once. Close it to wait for all.

    together: whether several files may be written at the same time; else they come one after another, in order.
    """

    def __init__(self, device: torch.device, *, together: bool) -> None:
        threads = file_threads(device)
        self._pool = ThreadPoolExecutor(threads if together else 1) if threads else None
        self._waiting: deque[Future[None]] = deque()

    def __call__(self, write: Callable[[], None]) -> None:
        """Write, or have it written soon. Raises what an earlier writing has raised."""
        if self._pool is None:
            write()
            return
        self._waiting.append(self._pool.submit(write))
        while len(self._waiting) > 2 * BATCH or (self._waiting and self._waiting[0].done()):
            self._waiting.popleft().result()

    def __enter__(self) -> Behind:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown()  # what is half done gets done
        while self._waiting and kind is None:
            self._waiting.popleft().result()


def file_threads(device: torch.device) -> int:
    """Threads that read, and as many that write, beside a device; 0: the caller does both itself."""
    return 0 if device.type == "cpu" else max(2, min(8, cores()))


class Batches:
    """Batches as large as a device can take: half as large after it has run out of memory, down to one."""

    def __init__(self, device: torch.device, most: int = BATCH) -> None:
        self.device, self.most = device, most

    def run(self, work: Callable[[Sequence[T]], list[R]], items: Sequence[T], pixels: int, what: str) -> list[R]:
        """What `work` gives for items of so many pixels each, in their order.

        Raises UserError, one sentence that begins with `what`, where even one item is too much.
        """
        results: list[R] = []
        while len(results) < len(items):
            most = min(self.most, max(BATCH_PIXELS // max(pixels, 1), 1))
            part = items[len(results) : len(results) + most]
            try:
                results += work(part)
                continue
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            # Outside the clause: the error holds the frames, and they hold the tensors.
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            if len(part) == 1:
                raise UserError(memory_sentence(what, self.device, ADVICE))
            self.most = len(part) // 2
        return results


def batched_map(
    work: Callable[[Sequence[T]], list[R]],
    items: Iterable[T],
    batches: Batches,
    *,
    kind: Callable[[T], Hashable],
    pixels: Callable[[T], int],
    held: Callable[[T], int],
    what: Callable[[T], str],
) -> Iterator[R]:
    """Results in the order of the items, items of one `kind` worked at together.

    Photos of unlike sizes are never padded to one: that would change what a network says near their borders. Instead a
    window of photos is looked at, and those of one size go together.
    pixels, held, what: of an item its pixels, the bytes that it and its result take, and its name in messages.
    An item's error is raised when its result is due.
    """
    for window in _windows(items, held):
        groups: dict[Hashable, list[int]] = {}
        for place, item in enumerate(window):
            groups.setdefault(kind(item), []).append(place)
        results: dict[int, R | Exception] = {}
        for places in groups.values():
            group = [window[place] for place in places]
            run = partial(batches.run, work, pixels=pixels(group[0]), what=what(group[0]))
            results |= dict(zip(places, _each(run, group), strict=True))
        for place in range(len(window)):
            result = results.pop(place)
            if isinstance(result, Exception):
                raise result
            yield result


def _each(run: Callable[[Sequence[T]], Sequence[R]], group: Sequence[T]) -> list[R | Exception]:
    """The results of a group; where it fails, those of its items one by one, or each item's own error."""
    try:
        return list(run(group))
    except Exception as error:
        if len(group) == 1:
            return [error]
    return [result for item in group for result in _each(run, [item])]


def _windows(items: Iterable[T], held: Callable[[T], int]) -> Iterator[list[T]]:
    window: list[T] = []
    used = 0
    for item in items:
        window.append(item)
        used += held(item)
        if len(window) >= WINDOW or used >= WINDOW_BYTES:
            yield window
            window, used = [], 0
    if window:
        yield window
