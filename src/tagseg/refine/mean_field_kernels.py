"""The mean-field iteration as numba kernels: slice, softmax and splat in one sweep over the sorted pixels.

A sweep works on blocks of pixels small enough for the first-level cache, in three steps: read every pixel's messages
from the lattices, turn them into marginals, add these to the lattices again. Messages are in powers of two.

Shapes: N pixels sorted by the simplex of the main lattice, T simplices, E corners, V vertices, S columns, G vertices of
the second lattice, which is looked up for each pixel (3 corners); None where there is no second one.
"""

from __future__ import annotations

import numpy as np

from tagseg.refine.lattice_build import njit
from tagseg.refine.lattice_cpu import blur
from tagseg.refine.rows import (
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

BLOCK = 64  # pixels of a block
SPARE = 16  # rows behind the last pixel that a vector may read


@njit(nogil=True, cache=True, error_model="numpy")
def _marginals(shape, first, stop, t, main, near, prior_NS, rest_N, value_BS):  # type: ignore[no-untyped-def]
    """Fill value_BS with the marginals of a block that begins in simplex t; returns the simplex it ends in."""
    start_T, vertex_TE, weight_NE, grid_VS, _ = main
    p = first
    while p < stop:
        while start_T[t + 1] <= p:
            t += 1
        end = min(start_T[t + 1], stop)
        corners = gather(shape, grid_VS, vertex_TE, t)
        for i in range(p, end):
            message = blend(zero_row(shape), corners, weight_NE, i)
            if near is not None:
                message = blend_packed(message, near[1], near[0], i)
            store(value_BS, i - first, message)
        p = end
    for i in range(0, stop - first, group(shape)):
        softmax(shape, value_BS, i, prior_NS, rest_N, first + i)
    return t


@njit(nogil=True, cache=True, error_model="numpy")
def sweep(shape, first, last, main, near, prior_NS, rest_N, value_BS):  # type: ignore[no-untyped-def]
    """One iteration for the pixels first..last: marginals from the sliced grids, splatted onto the other grids.

    main: (start_T, vertex_TE, weight_NE, sliced grid (V + 1, S), splatted grid); near: (packed_N8 of the second
    lattice for the sorted pixels, sliced grid, splatted grid), or None.
    """
    start_T, vertex_TE, weight_NE, _, out_VS = main
    t = np.searchsorted(start_T, first, side="right") - 1
    for begin in range(first, last, BLOCK):
        stop = min(begin + BLOCK, last)
        _marginals(shape, begin, stop, t, main, near, prior_NS, rest_N, value_BS)
        p = begin
        while p < stop:
            while start_T[t + 1] <= p:
                t += 1
            end = min(start_T[t + 1], stop)
            sums = zero_corners(shape)
            for i in range(p, end):
                sums = spread(sums, weight_NE, i, load(shape, value_BS, i - begin))
            add_corners(out_VS, vertex_TE, t, sums)
            p = end
        if near is not None:
            for i in range(begin, stop):
                spread_packed(near[2], near[0], i, load(shape, value_BS, i - begin))


@njit(nogil=True, cache=True, error_model="numpy")
def iterate(  # type: ignore[no-untyped-def]
    shape, iterations, factor, near_factor, main, near, neighbour_EV2, near_neighbour, prior_NS, rest_N, boost_N
):
    """All iterations on one thread; the grids come in as zeros. Returns the grids to slice the result from."""
    start_T, vertex_TE, weight_NE, sliced_VS, splatted_VS = main
    value_BS = np.zeros((BLOCK + SPARE, sliced_VS.shape[1]), np.float32)
    last = start_T[len(start_T) - 1]
    for step in range(iterations):
        sweep(shape, 0, last, (start_T, vertex_TE, weight_NE, sliced_VS, splatted_VS), near, prior_NS, rest_N, value_BS)
        if step == 0:
            for i in range(len(boost_N)):
                rest_N[i] *= boost_N[i]
        sliced_VS, splatted_VS = blur(shape, neighbour_EV2, splatted_VS, sliced_VS, factor)
        splatted_VS[:] = 0
        if near is not None:
            near_sliced, near_splatted = blur(shape, near_neighbour, near[2], near[1], near_factor)
            near_splatted[:] = 0
            near = (near[0], near_sliced, near_splatted)
    return sliced_VS, near


@njit(nogil=True, cache=True, error_model="numpy")
def finish(shape, first, last, main, near, prior_NS, rest_N, order_N, out_LN):  # type: ignore[no-untyped-def]
    """Marginals of the pixels first..last, in the photo's order."""
    value_BS = np.zeros((BLOCK + SPARE, prior_NS.shape[1]), np.float32)
    columns = min(prior_NS.shape[1], out_LN.shape[0])
    t = np.searchsorted(main[0], first, side="right") - 1
    for begin in range(first, last, BLOCK):
        stop = min(begin + BLOCK, last)
        t = _marginals(shape, begin, stop, t, main, near, prior_NS, rest_N, value_BS)
        for i in range(stop - begin):
            p = order_N[begin + i]
            left = np.float32(1)
            for label in range(columns):
                out_LN[label, p] = value_BS[i, label]
                left -= value_BS[i, label]
            if columns < out_LN.shape[0]:
                out_LN[columns, p] = max(left, np.float32(0))


@njit(nogil=True, cache=True, error_model="numpy")
def prepare(maps_LN, low, order_N, prior_NS, rest_N):  # type: ignore[no-untyped-def]
    """Priors of the sorted pixels, at least `low`; the label without a column, if any, goes to rest_N."""
    labels, columns = maps_LN.shape[0], prior_NS.shape[1]
    one = np.float32(1)
    for i in range(len(order_N)):
        p = order_N[i]
        for label in range(min(labels, columns)):
            prior_NS[i, label] = min(max(maps_LN[label, p], low), one)
        if labels > columns:
            rest = min(max(maps_LN[columns, p], low), one)
            rest_N[i] = rest / prior_NS[i, 0] if columns == 1 else rest


@njit(nogil=True, cache=True, error_model="numpy")
def pick(shape, packed_N8, order_N, out_N8):  # type: ignore[no-untyped-def]
    """The second lattice's places of the main lattice's sorted pixels."""
    for i in range(len(order_N)):
        store(out_N8, i, load(shape, packed_N8, order_N[i]))
