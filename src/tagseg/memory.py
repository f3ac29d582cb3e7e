"""The largest memory that this process has held."""

from __future__ import annotations

import sys


def peak_memory_gib() -> float:
    """The largest memory of the host that this process has held, in GiB."""
    if sys.platform == "win32":
        import psutil

        return psutil.Process().memory_info().peak_wset / 2**30
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)


def peak_device_gib() -> float | None:
    """The largest memory of a CUDA device that tensors of this process have held, in GiB; None without one."""
    import torch

    return torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else None
