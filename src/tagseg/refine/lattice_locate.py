# mypy: allow-untyped-decorators, allow-untyped-defs
"""Which simplex of the permutohedral lattice each pixel lies in, as one 64-bit key, and where in it.

A key has a bit field for each of the first D coordinates, holding a multiple of E = D + 1 plus the coordinate's rank, less
the lowest that can occur.

Shapes: H W pixels (N = H * W), C channels, D = C + 2 feature dimensions, E = D + 1.
"""

from __future__ import annotations

import math
import os
import sys
from typing import Any

import numpy as np

if "numba" not in sys.modules:  # numba leaves LLVM's superword vectorizer off
    os.environ.setdefault("NUMBA_SLP_VECTORIZE", "1")
import numba

from tagseg.errors import UserError

njit: Any = numba.njit  # a kernel's arguments have numba's types, not Python's
# numba counts references to arrays even inside loops, which costs more than a look-up; these kernels allocate nothing
uncounted: Any = njit(nogil=True, cache=True, error_model="numpy", _nrt=False)
BLOCK = 128  # pixels located together: a vectorized loop for each step


def key_fields(low_D: np.ndarray, high_D: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lowest coordinate and first bit of each field, for features between two bounds."""
    d = len(low_D)
    scale = [math.sqrt(2 / 3) * (d + 1) / math.sqrt((i + 1) * (i + 2)) for i in range(d)]
    least, most = low_D * scale, high_D * scale
    lows, shifts, used, largest = [], [], 0, 0.0
    for j in range(d):
        behind = j * np.array([-most[j - 1], -least[j - 1]]) if j else 0.0
        interval = np.array([least[j:].sum(), most[j:].sum()]) + behind
        largest = max(largest, *np.abs(interval))
        # a margin for rounding, for the simplex around a point and for the neighbors of its vertices
        low = (math.floor(interval[0] / (d + 1)) - 4) * (d + 1)
        high = (math.ceil(interval[1] / (d + 1)) + 4) * (d + 1)
        lows.append(low)
        shifts.append(used)
        used += (high - low).bit_length()
    if used > 62 or largest > 2**22:
        raise UserError(
            f"the sigmas are too small for an image of this size and range: a lattice key would take {used} bits of 62 "
            f"and reach {largest:.3g} of 4.2e6; choose larger sigmas."
        )
    return np.array(lows, np.int32), np.array(shifts, np.int64)


@njit(nogil=True, cache=True, error_model="numpy")
def locate(
    image_HWC: np.ndarray,
    sigma_D: np.ndarray,
    low_D: np.ndarray,
    shift_D: np.ndarray,
    key_N: np.ndarray,
    weight_NE: np.ndarray,
) -> None:
    """Simplex key and barycentric weights of every pixel (Adams, Baek, Davis 2010, section 3)."""
    height, width, channels = image_HWC.shape
    d = channels + 2
    e = d + 1
    # rounded twice, as pydensecrf does: a scale that differs in its last bit puts some pixels into another simplex
    whole = np.float32(math.sqrt(2.0 / 3.0) * e)
    scale_D = np.empty(d, np.float32)
    for i in range(d):
        scale_D[i] = np.float32(whole / math.sqrt((i + 1.0) * (i + 2.0)))
    inverse, size = np.float32(1.0 / e), np.float32(e)
    feature_DB = np.empty((d, BLOCK), np.float32)
    rest_EB = np.empty((e, BLOCK), np.float32)
    rank_EB = np.empty((e, BLOCK), np.int32)
    wrap_B = np.empty(BLOCK, np.int32)
    total_B = np.empty(BLOCK, np.float32)
    height_B = np.empty(BLOCK, np.int32)
    key_B = np.empty(BLOCK, np.int64)
    for y in range(height):
        for x in range(0, width, BLOCK):
            n = min(BLOCK, width - x)
            for i in range(BLOCK):
                feature_DB[0, i] = np.float32(x + i) / sigma_D[0] * scale_D[0]
            position = np.float32(y) / sigma_D[1] * scale_D[1]
            for i in range(BLOCK):
                feature_DB[1, i] = position
                total_B[i] = 0
                height_B[i] = 0
                key_B[i] = 0
            for c in range(2, d):
                sigma, scale = sigma_D[c], scale_D[c]
                for i in range(n):
                    feature_DB[c, i] = np.float32(image_HWC[y, x + i, c - 2]) / sigma * scale
            for j in range(d, 0, -1):
                times = np.float32(j)
                for i in range(BLOCK):
                    c = feature_DB[j - 1, i]
                    rest_EB[j, i] = total_B[i] - times * c
                    total_B[i] += c
            for i in range(BLOCK):
                rest_EB[0, i] = total_B[i]
            # the nearest multiple of E, and what is left
            for j in range(e):
                low = low_D[j] if j < d else np.int32(0)
                shift = shift_D[j] if j < d else np.int64(0)
                used = np.int64(j < d)
                for i in range(BLOCK):
                    nearest = np.rint(rest_EB[j, i] * inverse)
                    cell = np.int32(nearest)
                    height_B[i] += cell
                    rest_EB[j, i] -= nearest * size
                    key_B[i] += used * (np.int64(cell * np.int32(e) - low) << shift)
                    rank_EB[j, i] = 0
            # rank: how many coordinates have a larger rest; of two equal ones the earlier counts as larger
            for a in range(e):
                for b in range(a + 1, e):
                    for i in range(BLOCK):
                        less = np.int32(rest_EB[a, i] < rest_EB[b, i])
                        rank_EB[a, i] += less
                        rank_EB[b, i] += np.int32(1) - less
            for j in range(e):
                shift = shift_D[j] if j < d else np.int64(0)
                used = np.int64(j < d)
                for i in range(BLOCK):
                    rank = rank_EB[j, i] + height_B[i]
                    wrap = np.int32(e) * (np.int32(rank < 0) - np.int32(rank > d))
                    rank_EB[j, i] = rank + wrap
                    wrap_B[i] = rank + wrap + wrap
                    rest_EB[j, i] = (rest_EB[j, i] - np.float32(wrap)) * inverse
                for i in range(BLOCK):
                    key_B[i] += used * (np.int64(wrap_B[i]) << shift)
            # in the order of their ranks, the differences of neighboring rests are the weights
            row = y * width + x
            for i in range(n):
                for j in range(e):
                    weight_NE[row + i, d - rank_EB[j, i]] = rest_EB[j, i]
                last = weight_NE[row + i, d]
                for k in range(d, 0, -1):
                    weight_NE[row + i, k] -= weight_NE[row + i, k - 1]
                weight_NE[row + i, 0] += np.float32(1) - last
                key_N[row + i] = key_B[i]
