# mypy: allow-untyped-decorators, allow-untyped-defs
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
from typing import Any

import numpy as np

if "numba" not in sys.modules:  # numba leaves LLVM's superword vectoriser off
    os.environ.setdefault("NUMBA_SLP_VECTORIZE", "1")
import numba

from tagseg.errors import UserError
from tagseg.refine.rows import load, prefetch, store

njit: Any = numba.njit  # a kernel's arguments have numba's types, not Python's
# numba counts references to arrays even inside loops, which costs more than a look-up; these kernels allocate nothing
uncounted: Any = njit(nogil=True, cache=True, error_model="numpy", _nrt=False)
BLOCK = 128  # pixels located together: a vectorised loop for each step
AHEAD = 8  # look-ups that are on their way into the cache
LENGTHS = 32  # simplices with as many pixels or more are one kind


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


@uncounted
def _home(table_M2: np.ndarray, key: np.int64) -> np.int64:
    """Where a key's search in the table begins."""
    h = np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)
    h = (h ^ (h >> np.uint64(32))) * np.uint64(0x9E3779B97F4A7C15)
    return np.int64(h >> np.uint64(32)) & (table_M2.shape[0] - 1)


@uncounted
def _find(table_M2: np.ndarray, key: np.int64) -> np.int64:
    """Place of a key, or the empty place (-1) where it belongs."""
    place = _home(table_M2, key)
    while table_M2[place, 0] != key and table_M2[place, 0] >= 0:
        place = (place + 1) & (table_M2.shape[0] - 1)
    return place


@njit(nogil=True, cache=True, error_model="numpy")
def _new_table(size: int) -> np.ndarray:
    """A hash table of (key, number), at most half of it ever in use."""
    table_M2 = np.empty((size, 2), np.int64)
    for i in range(size):
        table_M2[i, 0] = -1
    return table_M2


@njit(nogil=True, cache=True, error_model="numpy")
def _grown(table_M2: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same table and list of keys with four times the room."""
    more_M2 = _new_table(4 * table_M2.shape[0])
    for i in range(len(keys)):
        place = _find(more_M2, keys[i])
        more_M2[place, 0] = keys[i]
        more_M2[place, 1] = i
    more = np.empty(4 * len(keys), np.int64)
    more[: len(keys)] = keys
    return more_M2, more


@uncounted
def _group_some(
    key_N: np.ndarray, simplex_N: np.ndarray, table_M2: np.ndarray, keys: np.ndarray, first: int, count: int
) -> tuple[int, int]:
    """Go on from a pixel until there is no room for a new key; returns the next pixel and the number of keys."""
    last, number = np.int64(-1), np.int32(0)
    for p in range(first, len(key_N)):
        if p + AHEAD < len(key_N):
            prefetch(table_M2, _home(table_M2, key_N[p + AHEAD]))
        key = key_N[p]
        if key != last:
            place = _find(table_M2, key)
            if table_M2[place, 0] < 0:
                if count == len(keys):
                    return p, count
                table_M2[place, 0] = key
                table_M2[place, 1] = count
                keys[count] = key
                count += 1
            last, number = key, np.int32(table_M2[place, 1])
        simplex_N[p] = number
    return len(key_N), count


@njit(nogil=True, cache=True, error_model="numpy")
def group(key_N: np.ndarray, simplex_N: np.ndarray) -> np.ndarray:
    """Number the distinct keys by first occurrence: fills the number of every pixel, returns the keys."""
    size = 1 << 10
    while size < len(key_N) // 2:
        size *= 2
    table_M2 = _new_table(size)
    keys = np.empty(size // 2, np.int64)
    p, count = _group_some(key_N, simplex_N, table_M2, keys, 0, 0)
    while p < len(key_N):
        table_M2, keys = _grown(table_M2, keys)
        p, count = _group_some(key_N, simplex_N, table_M2, keys, p, count)
    return keys[:count]


@njit(nogil=True, cache=True, error_model="numpy")
def arrange(
    shape: Any,
    simplex_N: np.ndarray,
    keys_T: np.ndarray,
    unsorted_NE: np.ndarray,
    start_T: np.ndarray,
    order_N: np.ndarray,
    weight_NE: np.ndarray,
) -> np.ndarray:
    """Sort the pixels by simplex, simplices with equally many pixels together; returns the simplices' sorted keys.

    Loops over the pixels of a simplex then keep their length for long, which the processor predicts.
    """
    simplices = len(keys_T)
    size_T = np.zeros(simplices, np.int32)
    for p in range(len(simplex_N)):
        size_T[simplex_N[p]] += 1
    begin = np.zeros(LENGTHS + 1, np.int32)
    for t in range(simplices):
        begin[min(size_T[t], LENGTHS)] += 1
    total = 0
    for length in range(LENGTHS + 1):
        total, begin[length] = total + begin[length], total
    place_T = np.empty(simplices, np.int32)
    sorted_T = np.empty(simplices, np.int64)
    for t in range(simplices):
        length = min(size_T[t], LENGTHS)
        place = begin[length]
        begin[length] = place + 1
        place_T[t] = place
        sorted_T[place] = keys_T[t]
        start_T[place + 1] = size_T[t]
    start_T[0] = 0
    for t in range(simplices):
        start_T[t + 1] += start_T[t]
    next_T = start_T.copy()
    for p in range(len(simplex_N)):
        t = place_T[simplex_N[p]]
        place = next_T[t]
        next_T[t] = place + 1
        order_N[place] = p
        store(weight_NE, place, load(shape, unsorted_NE, p))
    return sorted_T


@uncounted
def _vertex_keys(key: np.int64, shift_D: np.ndarray, step_E: np.ndarray, out_AE: np.ndarray, slot: int) -> None:
    """Keys of the vertices of a simplex; step_E is scratch."""
    d = len(shift_D)
    e = d + 1
    ones = np.int64(0)
    for k in range(e):
        step_E[k] = 0
    for j in range(d):
        field = key >> shift_D[j]
        if j < d - 1:
            field &= (np.int64(1) << (shift_D[j + 1] - shift_D[j])) - 1
        rank = np.int64(np.uint32(field) % np.uint32(e))
        step_E[rank] += np.int64(e) << shift_D[j]
        key -= rank << shift_D[j]
        ones += np.int64(1) << shift_D[j]
    # vertex k: k more everywhere, E less where the rank is above D - k
    out_AE[slot, 0] = key
    for k in range(1, e):
        key += ones - step_E[e - k]
        out_AE[slot, k] = key


@uncounted
def _number_some(
    keys_T: np.ndarray,
    shift_D: np.ndarray,
    vertex_TE: np.ndarray,
    table_M2: np.ndarray,
    keys: np.ndarray,
    step_E: np.ndarray,
    ring_AE: np.ndarray,
    first: int,
    count: int,
) -> tuple[int, int]:
    """Go on from a simplex while there is room for its vertices; returns the next one and the number of vertices."""
    e = len(step_E)
    for ahead in range(first, len(keys_T) + AHEAD):  # ring_AE: the next simplices, on their way into the cache
        t = ahead - AHEAD
        slot = ahead % AHEAD
        if t >= first:
            if count + e > len(keys):
                return t, count
            for k in range(e):
                key = ring_AE[slot, k]
                place = _find(table_M2, key)
                if table_M2[place, 0] < 0:
                    table_M2[place, 0] = key
                    table_M2[place, 1] = count
                    keys[count] = key
                    count += 1
                vertex_TE[t, k] = table_M2[place, 1]
        if ahead < len(keys_T):
            _vertex_keys(keys_T[ahead], shift_D, step_E, ring_AE, slot)
            for k in range(e):
                prefetch(table_M2, _home(table_M2, ring_AE[slot, k]))
    return len(keys_T), count


@njit(nogil=True, cache=True, error_model="numpy")
def number_vertices(keys_T: np.ndarray, shift_D: np.ndarray, vertex_TE: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number the vertices of the simplices by first occurrence; returns their keys and the table to look them up."""
    size = 1 << 10
    while size < len(keys_T) // 2:
        size *= 2
    table_M2 = _new_table(size)
    keys = np.empty(size // 2, np.int64)
    step_E = np.empty(len(shift_D) + 1, np.int64)
    ring_AE = np.empty((AHEAD, len(shift_D) + 1), np.int64)
    t, count = _number_some(keys_T, shift_D, vertex_TE, table_M2, keys, step_E, ring_AE, 0, 0)
    while t < len(keys_T):
        more_M2, more = _grown(table_M2, keys[:count])
        table_M2, keys = more_M2, more
        t, count = _number_some(keys_T, shift_D, vertex_TE, table_M2, keys, step_E, ring_AE, t, count)
    return keys[:count], table_M2


@uncounted
def find_neighbours(keys_V: np.ndarray, table_M2: np.ndarray, shift_D: np.ndarray, neighbour_EV2: np.ndarray) -> None:
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
            if v + AHEAD < count:
                prefetch(table_M2, _home(table_M2, keys_V[v + AHEAD] + offset))
            place = _find(table_M2, keys_V[v] + offset)
            if table_M2[place, 0] >= 0:
                other = table_M2[place, 1]
                neighbour_EV2[axis, v, 0] = other
                neighbour_EV2[axis, other, 1] = v
            else:
                neighbour_EV2[axis, v, 0] = count
