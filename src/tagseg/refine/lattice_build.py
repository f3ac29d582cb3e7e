# mypy: allow-untyped-decorators, allow-untyped-defs
"""Building a permutohedral lattice from the pixels' simplices: which there are, their vertices, and these' neighbors.

A vertex's key has the fields of a simplex's (`lattice_locate`). The pixels are sorted by simplex, so that hashing is done
once for each distinct simplex and a filter reads a simplex's vertices once for all its pixels.

Shapes: N pixels, D feature dimensions, E = D + 1 corners of a simplex, T distinct simplices, V vertices.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tagseg.refine.lattice_locate import njit, uncounted
from tagseg.refine.rows import load, prefetch, store

AHEAD = 8  # look-ups that are on their way into the cache
LENGTHS = 32  # simplices with as many pixels or more are one kind
NEAR = 4096  # simplices that are sorted among themselves: more would spread a large photo's pixels over the whole of it


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
    """Sort the pixels by simplex, of NEAR simplices those with equally many pixels together; returns their sorted keys.

    Loops over the pixels of a simplex then keep their length for long, which the processor predicts.
    """
    simplices = len(keys_T)
    size_T = np.zeros(simplices, np.int32)
    for p in range(len(simplex_N)):
        size_T[simplex_N[p]] += 1
    begin = np.empty(LENGTHS + 1, np.int32)
    place_T = np.empty(simplices, np.int32)
    sorted_T = np.empty(simplices, np.int64)
    for first in range(0, simplices, NEAR):
        last = min(first + NEAR, simplices)
        begin[:] = 0
        for t in range(first, last):
            begin[min(size_T[t], LENGTHS)] += 1
        total = first
        for length in range(LENGTHS + 1):
            total, begin[length] = total + begin[length], total
        for t in range(first, last):
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
def find_neighbors(keys_V: np.ndarray, table_M2: np.ndarray, shift_D: np.ndarray, neighbor_EV2: np.ndarray) -> None:
    """The two neighbors of every vertex along each axis, V where there is none."""
    d = len(shift_D)
    count = len(keys_V)
    ones = np.int64(0)
    for j in range(d):
        ones += np.int64(1) << shift_D[j]
    for axis in range(d + 1):
        offset = (np.int64(d + 1) << shift_D[axis] if axis < d else np.int64(0)) - ones
        for v in range(count):
            neighbor_EV2[axis, v, 1] = count
        for v in range(count):
            if v + AHEAD < count:
                prefetch(table_M2, _home(table_M2, keys_V[v + AHEAD] + offset))
            place = _find(table_M2, keys_V[v] + offset)
            if table_M2[place, 0] >= 0:
                other = table_M2[place, 1]
                neighbor_EV2[axis, v, 0] = other
                neighbor_EV2[axis, other, 1] = v
            else:
                neighbor_EV2[axis, v, 0] = count
