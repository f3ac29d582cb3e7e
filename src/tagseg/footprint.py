"""What a network costs on this machine: the largest memory that was held, and multiply-adds."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode


def peak_memory_gib() -> float:
    """The largest memory of the host that this process has held, in GiB."""
    if sys.platform == "win32":
        import psutil

        return psutil.Process().memory_info().peak_wset / 2**30
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)


def device_memory_gib(device: torch.device) -> float | None:
    """The largest memory of a CUDA device that this process's tensors have held, in GiB; None for another device."""
    return torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None


def multiply_adds(run: Callable[[], Any]) -> float:
    """Multiply-adds of the convolutions and matrix products that a call carries out, its backward passes included.

    Kernels of tagseg's own (depthwise convolutions on a CPU, CRF, lattices) are not seen.
    """
    counter = FlopCounterMode(display=False)
    with counter:
        run()
    return counter.get_total_flops() / 2  # it counts a multiply-add as two
