"""Memory for the arrays of one photo, used again for the next one.

A new array of megabytes is a mapping that the system fills page by page and takes back at the end of the photo. Threads
of one process do that one after the other: it cost two threads a tenth of their speed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import DTypeLike

KEPT = 1 << 28  # bytes that a scratch may hold from one call to the next: photos of about two million pixels

Allocate = Callable[[str, tuple[int, ...], DTypeLike], np.ndarray]
"""An array of a name, a shape and a type, with whatever its memory held."""


def fresh(name: str, shape: tuple[int, ...], dtype: DTypeLike) -> np.ndarray:
    """An array of its own, for what outlives the call."""
    return np.empty(shape, dtype)


class Scratch:
    """One piece of memory a name: an array lasts until the next one of its name."""

    def __init__(self) -> None:
        self._held: dict[str, np.ndarray] = {}

    def __call__(self, name: str, shape: tuple[int, ...], dtype: DTypeLike) -> np.ndarray:
        """An array in the memory of that name."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        held = self._held.get(name)
        if held is None or held.nbytes < size:
            held = self._held[name] = np.empty(size + size // 8, np.uint8)
        return held[:size].view(dtype).reshape(shape)

    @property
    def nbytes(self) -> int:
        """Memory held."""
        return sum(held.nbytes for held in self._held.values())


_spare: list[Scratch] = []  # one a thread that has worked at the same time; append and pop are atomic


@contextmanager
def borrowed() -> Iterator[Scratch]:
    """A scratch that no other thread uses meanwhile."""
    try:
        scratch = _spare.pop()
    except IndexError:
        scratch = Scratch()
    yield scratch
    if scratch.nbytes <= KEPT:
        _spare.append(scratch)
