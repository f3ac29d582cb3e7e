"""The weight gradient of a depthwise convolution on a CPU, as a numba kernel.

torch's own is the largest part of a training step of EfficientNet-Lite: for kernels of 5x5 and for dilated ones it runs
5 to 15 times longer than this one.
Shapes: B photos, H W pixels, C channels (the fastest axis), k taps on a side.
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np

if "numba" not in sys.modules:  # numba reads it once, at its import, and the lattice's kernels need it
    os.environ.setdefault("NUMBA_SLP_VECTORIZE", "1")
from numba import njit

LANES = 16


def weight_gradient(
    image_BHWC: np.ndarray, gradient_BHWC: np.ndarray, size: int, stride: int, padding: int, dilation: int, threads: int
) -> np.ndarray:
    """The gradient (k, k, C) of a depthwise convolution's weight from its input and its output's gradient, all float32.

    Each thread takes a range of channels, so the result does not depend on their number.
    """
    channels = image_BHWC.shape[3]
    weight_kkC = np.zeros((size, size, channels), np.float32)
    share = -(-channels // (threads * LANES)) * LANES
    starts = range(0, channels, share)

    def part(start: int) -> None:
        stop = min(start + share, channels)
        _accumulate(image_BHWC, gradient_BHWC, weight_kkC, stride, padding, dilation, start, stop)

    if len(starts) == 1:
        part(0)
    else:
        with ThreadPoolExecutor(len(starts)) as pool:
            list(pool.map(part, starts))
    return weight_kkC


@njit(nogil=True, cache=True, fastmath={"contract"})
def _accumulate(image, gradient, weight, stride, padding, dilation, start, stop):  # type: ignore[no-untyped-def]
    count, height, width, _ = image.shape
    rows, columns = gradient.shape[1:3]
    for b in range(count):
        for i in range(rows):
            for u in range(weight.shape[0]):
                y = i * stride - padding + u * dilation
                if y < 0 or y >= height:
                    continue
                for v in range(weight.shape[1]):
                    total = weight[u, v, start:stop]
                    for j in range(columns):
                        x = j * stride - padding + v * dilation
                        if x < 0 or x >= width:
                            continue
                        pixel = image[b, y, x, start:stop]
                        upstream = gradient[b, i, j, start:stop]
                        for c in range(total.size):
                            total[c] += pixel[c] * upstream[c]
