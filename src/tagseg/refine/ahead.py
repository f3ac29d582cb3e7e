"""Compile the kernels of the dense CRF and of PAR while something else computes: numba takes half a minute the first time.

    python -m tagseg.refine.ahead 7

does it for masks of up to 7 labels, in the time that other processes leave; what it compiles stays in numba's cache.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import numpy as np

SIDE = 16  # of the photo that the kernels are tried on
FEW = 4  # photos with tags carry few labels: background and the tagged classes


@contextmanager
def compiled_ahead(labels: int) -> Iterator[None]:
    """Compile beside what follows, in a process that ends with it at the latest. labels: with background."""
    command = [sys.executable, "-m", "tagseg.refine.ahead", str(labels)]
    nothing = subprocess.DEVNULL
    with subprocess.Popen(command, stdin=nothing, stdout=nothing, stderr=nothing) as process:
        try:
            yield
        finally:
            process.terminate()


def compile_kernels(labels: int) -> None:
    """Run each kernel once for every number of labels that may come."""
    import torch

    from tagseg.refine import PixelAdaptive
    from tagseg.refine.crf import dense_crf

    photo_HW3 = np.zeros((SIDE, SIDE, 3), np.uint8)
    for count in sorted({labels, *range(2, min(FEW, labels) + 1)}, reverse=True):
        even_LHW = np.full((count, SIDE, SIDE), 1 / count, np.float32)
        dense_crf(photo_HW3, even_LHW)
        PixelAdaptive("par")(torch.zeros(1, 3, SIDE, SIDE), torch.from_numpy(even_LHW)[None])


if __name__ == "__main__":
    with suppress(AttributeError, OSError):
        os.nice(19)
    compile_kernels(int(sys.argv[1]))
