"""Memory that long work frees stays with the process until the work ends.

The C library hands each large block back to the system, which fills the next one with zeros, page by page: a fifth to a
quarter of a step of many large maps on a CPU, a tenth of a photo's prediction.
"""

from __future__ import annotations

import ctypes
import os
import platform
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# glibc's malloc.h: the option, its value in the work, and afterwards. One arena, as those of threads give back too.
# Who sets an option ends the library's own raising of both thresholds: afterwards they stand where it raises them to at most.
_MMAP_THRESHOLD, _MMAP_MAX, _TRIM_THRESHOLD, _TOP_PAD, _ARENA_MAX = -3, -4, -1, -2, -8
_OPTIONS = (
    (_MMAP_THRESHOLD, 32 << 20, 32 << 20),
    (_MMAP_MAX, 0, 65536),
    (_TRIM_THRESHOLD, 2**31 - 1, 64 << 20),
    (_TOP_PAD, 64 << 20, 0),
    (_ARENA_MAX, 1, 0),
)
_LOCK = threading.Lock()
_works: list[ctypes.CDLL] = []  # that have begun and not ended
_WISHES = ("MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_",
           "MALLOC_ARENA_MAX", "GLIBC_TUNABLES")  # fmt: skip


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Keep freed blocks for the next ones, with glibc and unless the user has said how; the system gets them at the end.

    Work within work ends with the outermost.
    """
    library = _glibc()
    if library is None:
        yield
        return
    with _LOCK:
        _works.append(library)
        if len(_works) == 1:
            for option, value, _ in _OPTIONS:
                library.mallopt(option, value)
    try:
        yield
    finally:
        with _LOCK:
            _works.pop()
            if not _works:
                for option, _, value in _OPTIONS:
                    library.mallopt(option, value)
                library.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    if platform.libc_ver()[0] != "glibc" or any(os.environ.get(name) for name in _WISHES):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None
