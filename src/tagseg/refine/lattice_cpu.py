"""The permutohedral lattice as numba kernels (Adams, Baek, Davis 2010).

Shapes: N pixels, D feature dimensions, V vertices, S columns of a vertex (labels, padded to a multiple of 4).
Values are float32 (V + 1, S): the last row stays zero and stands for every missing neighbour.
"""

from __future__ import annotations

import math
import os
import sys
from typing import NamedTuple

import numpy as np

if "numba" not in sys.modules:  # numba leaves LLVM's superword vectoriser off; it doubles the speed of these kernels
    os.environ.setdefault("NUMBA_SLP_VECTORIZE", "1")
from numba import njit

from tagseg.errors import UserError


class Structure(NamedTuple):
    """Where the pixels of one photo lie in the lattice."""

    vertex_NE: np.ndarray  # int32, E = D + 1 vertices of a pixel's simplex
    weight_NE: np.ndarray  # float32 barycentric weights, they sum to one
    neighbour_EV2: np.ndarray  # int32: the two neighbours along each axis, V where there is none
    vertices: int


@njit(nogil=True, cache=True, error_model="numpy")
def _locate(feature_ND: np.ndarray, base_ND: np.ndarray, rank_NE: np.ndarray, weight_NE: np.ndarray) -> None:
    """Simplex of every pixel: its remainder-0 vertex (divided by D + 1), the ranks and the barycentric weights."""
    n, d = feature_ND.shape
    scale = np.empty(d, np.float32)
    for i in range(d):
        scale[i] = np.float32(math.sqrt(2.0 / 3.0) * (d + 1) / math.sqrt((i + 1.0) * (i + 2.0)))
    elevated = np.empty(d + 1, np.float32)
    base = np.empty(d + 1, np.float32)
    rank = np.empty(d + 1, np.int32)
    bary = np.empty(d + 2, np.float32)
    down = np.float32(1.0 / (d + 1))
    for p in range(n):
        total = np.float32(0)
        for j in range(d, 0, -1):
            c = feature_ND[p, j - 1] * scale[j - 1]
            elevated[j] = total - np.float32(j) * c
            total += c
        elevated[0] = total
        height = 0
        for j in range(d + 1):
            r = np.rint(elevated[j] * down)
            height += int(r)
            base[j] = r * np.float32(d + 1)
            rank[j] = 0
        for a in range(d + 1):
            for b in range(a + 1, d + 1):
                if elevated[a] - base[a] < elevated[b] - base[b]:
                    rank[a] += 1
                else:
                    rank[b] += 1
        for j in range(d + 2):
            bary[j] = 0
        for j in range(d + 1):
            rank[j] += height
            if rank[j] < 0:
                rank[j] += d + 1
                base[j] += d + 1
            elif rank[j] > d:
                rank[j] -= d + 1
                base[j] -= d + 1
            v = (elevated[j] - base[j]) * down
            bary[d - rank[j]] += v
            bary[d - rank[j] + 1] -= v
        bary[0] += np.float32(1) + bary[d + 1]
        for j in range(d + 1):
            weight_NE[p, j] = bary[j]
            rank_NE[p, j] = rank[j]
        for j in range(d):
            base_ND[p, j] = int(base[j])


@njit(nogil=True, cache=True, error_model="numpy")
def _slot(table: np.ndarray, keys: np.ndarray, key: np.int64) -> np.int64:
    """Place of a key in the hash table, or the empty place where it belongs."""
    mask = len(table) - 1
    h = np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)
    place = np.int64(h >> np.uint64(32)) & mask
    while table[place] >= 0 and keys[table[place]] != key:
        place = (place + 1) & mask
    return place


@njit(nogil=True, cache=True, error_model="numpy")
def _number(
    base_ND: np.ndarray, rank_NE: np.ndarray, low_D: np.ndarray, stride_D: np.ndarray, pixels: int
) -> tuple[np.ndarray, np.ndarray, int]:
    """Number the vertices by first touch; rows beyond `pixels` touch vertices but hold no pixel."""
    n, d = base_ND.shape
    vertex_NE = np.empty((pixels, d + 1), np.int32)
    table = np.full(1 << 12, -1, np.int32)
    keys = np.empty(1 << 11, np.int64)
    count = 0
    for p in range(n):
        for k in range(d + 1):
            key = np.int64(0)
            for j in range(d):
                step = k if rank_NE[p, j] <= d - k else k - (d + 1)
                key += (np.int64(base_ND[p, j]) + step - low_D[j]) * stride_D[j]
            place = _slot(table, keys, key)
            index = table[place]
            if index < 0:
                if count == len(keys):
                    bigger = np.empty(2 * count, np.int64)
                    bigger[:count] = keys
                    keys = bigger
                    table = np.full(4 * count, -1, np.int32)
                    for i in range(count):
                        table[_slot(table, keys, keys[i])] = i
                    place = _slot(table, keys, key)
                index = count
                keys[index] = key
                table[place] = index
                count += 1
            if p < pixels:
                vertex_NE[p, k] = index
    offset = np.empty(d + 1, np.int64)
    ones = np.int64(0)
    for j in range(d):
        ones += stride_D[j]
    for j in range(d):
        offset[j] = (d + 1) * stride_D[j] - ones
    offset[d] = -ones
    neighbour_EV2 = np.full((d + 1, count, 2), count, np.int32)
    for j in range(d + 1):
        for v in range(count):
            other = table[_slot(table, keys, keys[v] + offset[j])]
            if other >= 0:
                neighbour_EV2[j, v, 0] = other
                neighbour_EV2[j, other, 1] = v
    return vertex_NE, neighbour_EV2, count


def build(feature_ND: np.ndarray, *, pixels: int | None = None) -> Structure:
    """Lattice of features (N, D) float32; the first `pixels` rows are pixels, the rest only touch vertices."""
    n, d = feature_ND.shape
    base_ND = np.empty((n, d), np.int32)
    rank_NE = np.empty((n, d + 1), np.int8)
    weight_NE = np.empty((n, d + 1), np.float32)
    _locate(feature_ND, base_ND, rank_NE, weight_NE)
    # every vertex and every neighbour of one lies within two cells of a base
    low_D = base_ND.min(0).astype(np.int64) - 2 * (d + 1)
    extent = base_ND.max(0).astype(object) + 2 * (d + 1) - low_D.astype(object) + 1
    strides = [1]
    for size in extent[:0:-1]:
        strides.append(strides[-1] * int(size))
    if strides[-1] * int(extent[0]) >= 2**63:
        raise UserError(
            "the sigmas of the dense CRF are too small for the lattice's 64-bit keys "
            f"({' x '.join(str(size) for size in extent)} cells); choose larger ones."
        )
    stride_D = np.array(strides[::-1], np.int64)
    vertex_NE, neighbour_EV2, count = _number(base_ND, rank_NE, low_D, stride_D, n if pixels is None else pixels)
    return Structure(vertex_NE, weight_NE[:pixels], neighbour_EV2, count)


@njit(nogil=True, cache=True, error_model="numpy")
def splat(vertex_NE: np.ndarray, weight_NE: np.ndarray, value_NS: np.ndarray, out_VS: np.ndarray) -> None:
    """Add every pixel's columns to the vertices of its simplex."""
    out_VS[:] = 0
    for p in range(vertex_NE.shape[0]):
        for k in range(vertex_NE.shape[1]):
            v = vertex_NE[p, k]
            w = weight_NE[p, k]
            for s in range(value_NS.shape[1]):
                out_VS[v, s] += w * value_NS[p, s]


@njit(nogil=True, cache=True, error_model="numpy")
def blur(neighbour_EV2: np.ndarray, value_VS: np.ndarray, spare_VS: np.ndarray, reverse: bool) -> np.ndarray:
    """Blur along every axis in turn; the result lies in one of the two arrays."""
    axes, vertices, _ = neighbour_EV2.shape
    old, new = value_VS, spare_VS
    half = np.float32(0.5)
    new[vertices] = 0
    for i in range(axes):
        axis = axes - 1 - i if reverse else i
        for v in range(vertices):
            a = neighbour_EV2[axis, v, 0]
            b = neighbour_EV2[axis, v, 1]
            for s in range(old.shape[1]):
                new[v, s] = old[v, s] + half * (old[a, s] + old[b, s])
        old, new = new, old
    return old


@njit(nogil=True, cache=True, error_model="numpy")
def slice_(vertex_NE: np.ndarray, weight_NE: np.ndarray, value_VS: np.ndarray, out_NS: np.ndarray) -> None:
    """Read every pixel's columns from the vertices of its simplex, times the lattice's amplitude."""
    d = vertex_NE.shape[1] - 1
    alpha = np.float32(1.0 / (1.0 + 2.0**-d))
    for p in range(vertex_NE.shape[0]):
        for s in range(out_NS.shape[1]):
            out_NS[p, s] = 0
        for k in range(d + 1):
            v = vertex_NE[p, k]
            w = weight_NE[p, k] * alpha
            for s in range(out_NS.shape[1]):
                out_NS[p, s] += w * value_VS[v, s]


def filter_columns(structure: Structure, value_NS: np.ndarray) -> np.ndarray:
    """Unnormalised filter of columns (N, S) float32."""
    grid_VS = np.zeros((structure.vertices + 1, value_NS.shape[1]), np.float32)
    splat(structure.vertex_NE, structure.weight_NE, value_NS, grid_VS)
    blurred_VS = blur(structure.neighbour_EV2, grid_VS, np.zeros_like(grid_VS), False)
    out_NS = np.empty_like(value_NS)
    slice_(structure.vertex_NE, structure.weight_NE, blurred_VS, out_NS)
    return out_NS
