# mypy: allow-untyped-decorators, allow-untyped-defs
"""The mean-field iteration as numba kernels: slice, softmax and splat in one sweep over the sorted pixels.

A sweep works on blocks of pixels small enough for the first-level cache, in three steps: read every pixel's messages
from the lattices, turn them into marginals, add these to the lattices again. Messages are in powers of two.

Shapes: N pixels sorted by the simplex of the main lattice, T simplices, E corners, V vertices, S columns, L labels.
`main` is (start_T, vertex_TE, weight_NE) of the lattice whose order the pixels have. `near` is (N, 8), `packed` of a
second, two-dimensional lattice, or None. A lattice's grids are (V + 1, S): the one to slice, and the one to splat onto.
"""

from __future__ import annotations

import numpy as np

from tagseg.refine.lattice_cpu import TILE, blur
from tagseg.refine.lattice_locate import njit, uncounted
from tagseg.refine.rows import (
    add,
    add_corners,
    blend,
    blend_packed,
    gather,
    group,
    load,
    softmax,
    spread,
    spread_packed,
    store,
    zero_corners,
    zero_row,
)

SPARE = 16  # rows behind the last pixel that a vector may read


@njit(nogil=True, cache=True, error_model="numpy")
def block_buffer(columns):
    """Room for the values of one block: 64 to 512 pixels, about 8 KB."""
    return np.zeros((min(max(2048 // columns, 64), 512) + SPARE, columns), np.float32)


@uncounted
def _simplex_of(start_T, pixel):
    """The simplex that a sorted pixel lies in."""
    low, high = 0, len(start_T) - 1
    while high - low > 1:
        middle = (low + high) // 2
        if start_T[middle] <= pixel:
            low = middle
        else:
            high = middle
    return low


@uncounted
def _marginals(shape, first, stop, t, main, near, grid_VS, near_VS, prior_NS, value_BS):
    """Fill value_BS with the marginals of the pixels first..stop, the first of which lies in simplex t or behind."""
    start_T, vertex_TE, weight_NE = main
    p = first
    while p < stop:
        while start_T[t + 1] <= p:
            t += 1
        end = min(start_T[t + 1], stop)
        corners = gather(shape, grid_VS, vertex_TE, t)
        for i in range(p, end):
            message = blend(zero_row(shape), corners, weight_NE, i)
            if near is not None:
                message = blend_packed(message, near_VS, near, i)
            store(value_BS, i - first, message)
        p = end
    for i in range(0, stop - first, group(shape)):
        softmax(shape, value_BS, i, prior_NS, first + i)


@uncounted
def sweep(shape, first, last, main, near, grids, near_grids, prior_NS, value_BS):
    """One iteration for the pixels first..last: marginals from grids[0], added to grids[1]."""
    start_T, vertex_TE, weight_NE = main
    block = len(value_BS) - SPARE
    t = _simplex_of(start_T, first)
    for begin in range(first, last, block):
        stop = min(begin + block, last)
        _marginals(shape, begin, stop, t, main, near, grids[0], near_grids[0], prior_NS, value_BS)
        p = begin
        while p < stop:
            while start_T[t + 1] <= p:
                t += 1
            end = min(start_T[t + 1], stop)
            sums = zero_corners(shape)
            for i in range(p, end):
                sums = spread(sums, weight_NE, i, load(shape, value_BS, i - begin))
            add_corners(grids[1], vertex_TE, t, sums)
            p = end
        if near is not None:
            for i in range(begin, stop):
                spread_packed(near_grids[1], near, i, load(shape, value_BS, i - begin))


@njit(nogil=True, cache=True, error_model="numpy")
def iterate(shape, iterations, main, near, grids, near_grids, neighbors, near_neighbors, factors, prior_NS):
    """All iterations on one thread, from grids of zeros; returns the two grids to slice the result from."""
    last = main[0][len(main[0]) - 1]
    value_BS = block_buffer(prior_NS.shape[1])
    for _ in range(iterations):
        sweep(shape, 0, last, main, near, grids, near_grids, prior_NS, value_BS)
        grids = blur(shape, neighbors, grids[1], grids[0], factors[0])
        grids[1][:] = 0
        if near is not None:
            near_grids = blur(shape, near_neighbors, near_grids[1], near_grids[0], factors[1])
            near_grids[1][:] = 0
    return grids[0], near_grids[0]


@uncounted
def _move(shape, from_VS, to_VS, first, last):
    """Add some rows of one grid to another, and leave zeros."""
    for v in range(first, last):
        store(to_VS, v, add(load(shape, to_VS, v), load(shape, from_VS, v)))
        store(from_VS, v, zero_row(shape))


@njit(nogil=True, cache=True, error_model="numpy")
def merge(shape, parts_PVS, first, last):
    """Add up some rows of the grids that threads splatted onto, in the first one; the others' are zeroed."""
    for part in range(1, parts_PVS.shape[0]):
        _move(shape, parts_PVS[part], parts_PVS[0], first, last)


@njit(nogil=True, cache=True, error_model="numpy")
def blur_merged(shape, neighbors, first_VS, sliced_VS, factor):
    """Blur the grid of all threads: the result lies in sliced_VS, the grid is zeroed."""
    result_VS, _ = blur(shape, neighbors, first_VS, sliced_VS, factor)
    if neighbors.shape[0] % 2 == 0:  # the last pass wrote onto the first part
        sliced_VS[:] = result_VS
    first_VS[:] = 0


@njit(nogil=True, cache=True, error_model="numpy")
def finish(shape, first, last, main, near, grid_VS, near_VS, prior_NS, order_N, out_NS):
    """Marginals of the pixels first..last, in the photo's order."""
    value_BS = block_buffer(prior_NS.shape[1])
    block = len(value_BS) - SPARE
    t = _simplex_of(main[0], first)
    for begin in range(first, last, block):
        stop = min(begin + block, last)
        while main[0][t + 1] <= begin:
            t += 1
        _marginals(shape, begin, stop, t, main, near, grid_VS, near_VS, prior_NS, value_BS)
        for i in range(stop - begin):
            store(out_NS, order_N[begin + i], load(shape, value_BS, i))


@njit(nogil=True, cache=True, error_model="numpy")
def prepare(shape, maps_LN, low, order_N, unsorted_NS, prior_NS):
    """Priors of the sorted pixels, between `low` and 1; unsorted_NS is scratch."""
    pixels = len(order_N)
    for begin in range(0, pixels, TILE):
        for label in range(maps_LN.shape[0]):
            for p in range(begin, min(begin + TILE, pixels)):
                unsorted_NS[p, label] = min(max(maps_LN[label, p], low), np.float32(1))
        for label in range(maps_LN.shape[0], unsorted_NS.shape[1]):
            for p in range(begin, min(begin + TILE, pixels)):
                unsorted_NS[p, label] = 0
    for i in range(pixels):
        store(prior_NS, i, load(shape, unsorted_NS, order_N[i]))
    prior_NS[pixels:] = 0
