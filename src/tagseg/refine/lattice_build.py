"""Building a permutohedral lattice: which simplex a pixel lies in, and which vertices the simplices have.

A simplex is one 64-bit key: a bit field for each of the first D coordinates, holding a multiple of E = D + 1 plus the
coordinate's rank, less the lowest that can occur. A vertex's key has the same fields. The pixels are sorted by simplex,
so that hashing is done once for each distinct simplex and a filter reads a simplex's vertices once for all its pixels.

Shapes: H W pixels (N = H * W), C channels, D = C + 2 feature dimensions, T distinct simplices, V vertices.
"""

from __future__ import annotations

import math
import os
import sys

import numpy as np

if "numba" not in sys.modules:  # numba leaves LLVM's superword vectoriser off
    os.environ.setdefault("NUMBA_SLP_VECTORIZE", "1")
from numba import njit

from tagseg.errors import UserError
from tagseg.refine.rows import load, store

BLOCK = 64  # pixels located together: a vectorised loop for each step


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
        # a margin for rounding, for the simplex around a point and for the neighbours of its vertices
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
    scale_D = np.empty(d, np.float32)
    for i in range(d):
        scale_D[i] = np.float32(math.sqrt(2.0 / 3.0) * e / math.sqrt((i + 1.0) * (i + 2.0)))
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
            # in the order of their ranks, the differences of neighbouring rests are the weights
            row = y * width + x
            for i in range(n):
                for j in range(e):
                    weight_NE[row + i, d - rank_EB[j, i]] = rest_EB[j, i]
                last = weight_NE[row + i, d]
                for k in range(d, 0, -1):
                    weight_NE[row + i, k] -= weight_NE[row + i, k - 1]
                weight_NE[row + i, 0] += np.float32(1) - last
                key_N[row + i] = key_B[i]


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _home(key: np.int64, mask: np.int64) -> np.int64:
    """Where a key's search in the table begins."""
    h = np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)
    h = (h ^ (h >> np.uint64(32))) * np.uint64(0x9E3779B97F4A7C15)
    return np.int64(h >> np.uint64(32)) & mask


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _find(table_key: np.ndarray, key: np.int64) -> np.int64:
    """Place of a key, or the empty place (-1) where it belongs."""
    mask = len(table_key) - 1
    place = _home(key, mask)
    while table_key[place] != key and table_key[place] >= 0:
        place = (place + 1) & mask
    return place


@njit(nogil=True, cache=True, error_model="numpy")
def _grown(
    table_key: np.ndarray, table_id: np.ndarray, keys: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same table and list of keys with twice the room."""
    more_key = np.full(2 * len(table_key), np.int64(-1))
    more_id = np.empty(2 * len(table_id), np.int32)
    for i in range(len(table_key)):
        if table_key[i] >= 0:
            place = _find(more_key, table_key[i])
            more_key[place] = table_key[i]
            more_id[place] = table_id[i]
    more = np.empty(2 * len(keys), np.int64)
    more[: len(keys)] = keys
    return more_key, more_id, more


@njit(nogil=True, cache=True, error_model="numpy")
def group(key_N: np.ndarray, simplex_N: np.ndarray) -> np.ndarray:
    """Number the distinct keys by first occurrence: fills the number of every pixel, returns the keys."""
    table_key, table_id = np.full(1 << 14, np.int64(-1)), np.empty(1 << 14, np.int32)
    keys = np.empty(1 << 13, np.int64)
    count = 0
    last, number = np.int64(-1), np.int32(0)
    for p in range(len(key_N)):
        key = key_N[p]
        if key != last:
            place = _find(table_key, key)
            if table_key[place] < 0:
                if count == len(keys):
                    table_key, table_id, keys = _grown(table_key, table_id, keys)
                    place = _find(table_key, key)
                table_key[place] = key
                table_id[place] = count
                keys[count] = key
                count += 1
            last, number = key, table_id[place]
        simplex_N[p] = number
    return keys[:count]


@njit(nogil=True, cache=True, error_model="numpy")
def arrange(
    shape,  # type: ignore[no-untyped-def]
    simplex_N: np.ndarray,
    unsorted_NE: np.ndarray,
    start_T: np.ndarray,
    order_N: np.ndarray,
    weight_NE: np.ndarray,
) -> None:
    """Sort the pixels by simplex: start_T (T + 1 entries), the pixel at each place, its weights."""
    start_T[:] = 0
    for p in range(len(simplex_N)):
        start_T[simplex_N[p] + 1] += 1
    for t in range(len(start_T) - 1):
        start_T[t + 1] += start_T[t]
    next_T = start_T.copy()
    for p in range(len(simplex_N)):
        place = next_T[simplex_N[p]]
        next_T[simplex_N[p]] = place + 1
        order_N[place] = p
        store(weight_NE, place, load(shape, unsorted_NE, p))


@njit(nogil=True, cache=True, error_model="numpy")
def number_vertices(
    keys_T: np.ndarray, shift_D: np.ndarray, vertex_TE: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Number the vertices of the simplices by first occurrence; returns their keys and the table to look them up."""
    d = len(shift_D)
    e = d + 1
    table_key, table_id = np.full(1 << 14, np.int64(-1)), np.empty(1 << 14, np.int32)
    keys = np.empty(1 << 13, np.int64)
    count = 0
    ones = np.int64(0)
    for j in range(d):
        ones += np.int64(1) << shift_D[j]
    step_E = np.empty(e, np.int64)
    for t in range(len(keys_T)):
        key = keys_T[t]
        step_E[:] = 0
        for j in range(d):
            field = key >> shift_D[j]
            if j < d - 1:
                field &= (np.int64(1) << (shift_D[j + 1] - shift_D[j])) - 1
            rank = np.int64(np.uint32(field) % np.uint32(e))
            step_E[rank] += np.int64(e) << shift_D[j]
            key -= rank << shift_D[j]
        # vertex k: k more everywhere, E less where the rank is above D - k
        for k in range(e):
            if k > 0:
                key += ones - step_E[e - k]
            place = _find(table_key, key)
            if table_key[place] < 0:
                if count == len(keys):
                    table_key, table_id, keys = _grown(table_key, table_id, keys)
                    place = _find(table_key, key)
                table_key[place] = key
                table_id[place] = count
                keys[count] = key
                count += 1
            vertex_TE[t, k] = table_id[place]
    return keys[:count], table_key, table_id


@njit(nogil=True, cache=True, error_model="numpy")
def find_neighbours(
    keys_V: np.ndarray,
    table_key: np.ndarray,
    table_id: np.ndarray,
    shift_D: np.ndarray,
    neighbour_EV2: np.ndarray,
) -> None:
    """The two neighbours of every vertex along each axis, V where there is none."""
    d = len(shift_D)
    count = len(keys_V)
    ones = np.int64(0)
    for j in range(d):
        ones += np.int64(1) << shift_D[j]
    for axis in range(d + 1):
        offset = (np.int64(d + 1) << shift_D[axis] if axis < d else np.int64(0)) - ones
        for v in range(count):
            neighbour_EV2[axis, v, 1] = count
        for v in range(count):
            place = _find(table_key, keys_V[v] + offset)
            if table_key[place] >= 0:
                neighbour_EV2[axis, v, 0] = table_id[place]
                neighbour_EV2[axis, table_id[place], 1] = v
            else:
                neighbour_EV2[axis, v, 0] = count
