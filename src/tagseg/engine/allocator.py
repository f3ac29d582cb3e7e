"""Memory that training frees stays with the process until training ends.

The C library hands each large block back to the system, which fills the next one with zeros, page by page: a fifth to a
quarter of a step of many large maps on a CPU.
"""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager

# glibc's malloc.h: the option, its value in training, and the library's own.
_OPTIONS = ((-4, 0, 65536), (-1, 2**31 - 1, 128 << 10), (-2, 64 << 20, 0))  # M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD
_WISHES = ("MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "GLIBC_TUNABLES")


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Keep freed blocks for the next ones, with glibc and unless the user has said how; the system gets them at the end."""
    library = _glibc()
    if library is None:
        yield
        return
    for option, value, _ in _OPTIONS:
        library.mallopt(option, value)
    try:
        yield
    finally:
        for option, _, value in _OPTIONS:
            library.mallopt(option, value)
        library.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    if platform.libc_ver()[0] != "glibc" or any(os.environ.get(name) for name in _WISHES):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None
