# mypy: allow-untyped-decorators, allow-untyped-defs
"""What a device runs for `lattice_triton`: pixels to vertices, vertices to neighbors, and the three steps of a filter.

Pointers are named after the tensors of `TritonLattice`; `last` is the table's last slot, its size a power of two.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _home(key, last):
    return ((key * -7046029254386353131) >> 32) & last


@triton.jit(do_not_specialize=["count"])
def locate(
    feature, photo, scale, constants, weight, vertex, table, number, spare, counted, count, last, spares,
    PHOTOS: tl.constexpr, D: tl.constexpr, EB: tl.constexpr, PIXELS: tl.constexpr,
):  # fmt: skip
    """Barycentric weights and the slots of the corners' keys of every pixel (Adams, Baek, Davis 2010, section 3)."""
    E: tl.constexpr = D + 1
    n = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    live = n < count
    j = tl.arange(0, EB)
    wide = n.to(tl.int64)
    # coordinates in the hyperplane: row 0 is the sum, row j the sum of those behind less j times the one before
    elevated = tl.zeros([PIXELS, EB], tl.float32)
    total = tl.zeros([PIXELS], tl.float32)
    for i in tl.static_range(D):
        at = D - i
        c = tl.load(feature + wide * D + at - 1, mask=live, other=0.0) * tl.load(scale + at - 1)
        elevated = tl.where((j == at)[None, :], (total - at * c)[:, None], elevated)
        total += c
    elevated = tl.where((j == 0)[None, :], total[:, None], elevated)
    used = (j < E)[None, :]
    down = 1.0 / E
    # rounding to even by way of a number whose last bit is 1
    nearest = (elevated * down + 12582912.0) - 12582912.0
    nearest = tl.where(used, nearest, 0.0)
    height = tl.sum(nearest, 1).to(tl.int32)
    base = nearest.to(tl.int32) * E
    rest = tl.where(used, elevated - nearest * E, -1.0e30)
    # rank: how many coordinates have a larger rest; of two equal ones the earlier counts as larger
    larger = (rest[:, None, :] > rest[:, :, None]) | (
        (rest[:, None, :] == rest[:, :, None]) & (j[None, None, :] < j[None, :, None])
    )
    rank = tl.sum((larger & (j < E)[None, None, :]).to(tl.int32), 2) + height[:, None]
    wrap = tl.where(rank < 0, 1, 0) - tl.where(rank > D, 1, 0)
    rank += wrap * E
    base += wrap * E
    share = tl.where(used, (elevated - base.to(tl.float32)) * down, 0.0)
    low = tl.load(constants + j, mask=j < D, other=0)
    shift = tl.load(constants + D + j, mask=j < D, other=0)
    place = base.to(tl.int64) - low[None, :]
    top = tl.zeros([PIXELS], tl.int64)
    if PHOTOS:
        top = tl.load(photo + n, mask=live, other=0).to(tl.int64) << tl.load(constants + 2 * D)
    field = (j < D)[None, :]
    for k in tl.static_range(E):
        # corner k weighs the share of the coordinate of rank D - k less that of rank D + 1 - k
        here = tl.sum(tl.where(used & (rank == D - k), share, 0.0), 1)
        before = tl.sum(tl.where(used & (rank == D + 1 - k), share, 0.0), 1)
        w = here - before
        if k == 0:
            w = here + (1.0 - tl.sum(tl.where(used & (rank == 0), share, 0.0), 1))
        tl.store(weight + wide * E + k, w, mask=live)
        move = tl.where(rank > D - k, k - E, k).to(tl.int64)
        key = top + tl.sum(tl.where(field, (place + move) << shift[None, :], 0), 1)
        slot = _home(key, last)
        todo = live
        while tl.max(todo.to(tl.int32), 0) > 0:
            held = tl.load(table + slot, mask=todo, other=0)
            free = todo & (held == -1)
            # a lane that has nothing to swap does so on a spare slot of its own
            where = tl.where(free, table + slot, spare + (n * E + k) % spares)
            mine = tl.where(free, key, -1)
            old = tl.atomic_cas(where, tl.full([PIXELS], -1, tl.int64), mine)
            won = free & (old == -1)
            new = tl.atomic_add(counted + tl.zeros([PIXELS], tl.int32), 1, mask=won)
            tl.store(number + slot, new, mask=won)
            found = todo & ((held == key) | (free & ((old == -1) | (old == key))))
            tl.store(vertex + wide * E + k, slot.to(tl.int32), mask=found)
            todo = todo & (found == 0)
            slot = tl.where(todo, (slot + 1) & last, slot)


@triton.jit(do_not_specialize=["count"])
def renumber(vertex, number, count, BLOCK: tl.constexpr):
    """Slots to numbers of vertices."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    slot = tl.load(vertex + i, mask=i < count, other=0)
    tl.store(vertex + i, tl.load(number + slot, mask=i < count, other=0), mask=i < count)


@triton.jit(do_not_specialize=["vertices"])
def neighbors(table, number, offset, neighbor, vertices, last, E: tl.constexpr, BLOCK: tl.constexpr):
    """Look up both neighbors of every vertex along every axis."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    key = tl.load(table + i, mask=i <= last, other=-1)
    here = key != -1
    if tl.max(here.to(tl.int32), 0) > 0:
        v = tl.load(number + i, mask=here, other=0).to(tl.int64)
        for axis in tl.static_range(E):
            step = tl.load(offset + axis)
            for side in tl.static_range(2):
                wanted = key + step if side == 0 else key - step
                slot = _home(wanted, last)
                todo = here
                other = tl.full([BLOCK], 0, tl.int32) + vertices
                while tl.max(todo.to(tl.int32), 0) > 0:
                    held = tl.load(table + slot, mask=todo, other=-1)
                    found = todo & (held == wanted)
                    other = tl.where(found, tl.load(number + slot, mask=found, other=0), other)
                    todo = todo & (held != wanted) & (held != -1)
                    slot = tl.where(todo, (slot + 1) & last, slot)
                tl.store(neighbor + (axis * tl.cast(vertices, tl.int64) + v) * 2 + side, other, mask=here)


@triton.jit(do_not_specialize=["count"])
def splat(value, vertex, weight, grid, count, columns, E: tl.constexpr, PIXELS: tl.constexpr, COLUMNS: tl.constexpr):
    """Add to the vertices what their pixels give."""
    n = tl.program_id(0).to(tl.int64) * PIXELS + tl.arange(0, PIXELS)
    s = tl.arange(0, COLUMNS)
    live = n < count
    both = live[:, None] & (s < columns)[None, :]
    v = tl.load(value + n[:, None] * columns + s[None, :], mask=both, other=0.0)
    for k in tl.static_range(E):
        row = tl.load(vertex + n * E + k, mask=live, other=0).to(tl.int64)
        w = tl.load(weight + n * E + k, mask=live, other=0.0)
        tl.atomic_add(grid + row[:, None] * columns + s[None, :], v * w[:, None], mask=both, sem="relaxed")


@triton.jit(do_not_specialize=["count"])
def slice_(
    grid, vertex, weight, out, amplitude, count, columns,
    E: tl.constexpr, PIXELS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """What pixels read of their vertices."""
    n = tl.program_id(0).to(tl.int64) * PIXELS + tl.arange(0, PIXELS)
    s = tl.arange(0, COLUMNS)
    live = n < count
    both = live[:, None] & (s < columns)[None, :]
    total = tl.zeros([PIXELS, COLUMNS], tl.float32)
    for k in tl.static_range(E):
        row = tl.load(vertex + n * E + k, mask=live, other=0).to(tl.int64)
        w = tl.load(weight + n * E + k, mask=live, other=0.0)
        total += w[:, None] * tl.load(grid + row[:, None] * columns + s[None, :], mask=both, other=0.0)
    tl.store(out + n[:, None] * columns + s[None, :], total * amplitude, mask=both)


@triton.jit(do_not_specialize=["vertices"])
def blur(grid, neighbor, after, vertices, columns, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Each vertex plus half of both its neighbors along one axis."""
    v = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    s = tl.arange(0, COLUMNS)
    both = (v <= vertices)[:, None] & (s < columns)[None, :]
    there = v < vertices  # the last row has no neighbors and stays 0
    up = tl.load(neighbor + 2 * v, mask=there, other=0).to(tl.int64)
    down = tl.load(neighbor + 2 * v + 1, mask=there, other=0).to(tl.int64)
    near = both & there[:, None]
    total = tl.load(grid + up[:, None] * columns + s[None, :], mask=near, other=0.0)
    total += tl.load(grid + down[:, None] * columns + s[None, :], mask=near, other=0.0)
    here = tl.load(grid + v[:, None] * columns + s[None, :], mask=both, other=0.0)
    tl.store(after + v[:, None] * columns + s[None, :], here + 0.5 * total, mask=both)
