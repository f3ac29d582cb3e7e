# mypy: allow-untyped-decorators, allow-untyped-defs
"""The permutohedral lattice as Triton kernels: vertices found by hashing, no sort, no array longer than pixels x corners.

A vertex is one 64-bit key: the photo in the top bits, below it a field for each of the first D coordinates. Keys go into
a table by compare-and-swap, one key a slot, so that no half-written entry exists. A vertex is numbered when its key
enters; the numbers follow the pixels' order, roughly. The host learns how many there are when it first asks; by then the
device is usually long past that point.

Shapes: N pixels of all photos, D feature dimensions, E = D + 1 corners, V vertices, S columns (labels).
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from tagseg.errors import UserError
from tagseg.refine.lattice_torch import BatchLattice, scales

PIXELS = 128  # of one program
ELEMENTS = 1024  # pixels or vertices times columns, of one program
BITS = 62  # of a key


class TritonLattice(BatchLattice):
    """Lattice of the features (N, D) of several photos; the photos don't touch each other.

    bounds_2D: the least and the largest feature of each dimension. photo_N: int32 photo of every pixel, `photos` of them.
    The first `pixels` rows are pixels, the rest only touch vertices.
    """

    def __init__(
        self,
        feature_ND: Tensor,
        bounds_2D: list[tuple[float, ...]],
        photo_N: Tensor | None = None,
        photos: int = 1,
        *,
        pixels: int | None = None,
    ) -> None:
        count, d = feature_ND.shape
        e, device = d + 1, feature_ND.device
        lows, shifts = key_fields(bounds_2D, photos)
        self.corners, self._shifts = e, shifts
        slots = triton.next_power_of_2(max(count * e + count * e // 8, 64))
        self._table = torch.full((slots,), -1, dtype=torch.int64, device=device)
        number = torch.empty(slots, dtype=torch.int32, device=device)
        spare = torch.full((min(count * e, 1 << 16) + PIXELS,), -1, dtype=torch.int64, device=device)
        counted = torch.zeros(1, dtype=torch.int32, device=device)
        self.weight_NE = torch.empty(count, e, device=device)
        self.vertex_NE = torch.empty(count, e, dtype=torch.int32, device=device)
        constants = torch.tensor([*lows, *shifts], dtype=torch.int64).to(device, non_blocking=True)
        scale_D = torch.tensor(scales(d), dtype=torch.float32).to(device, non_blocking=True)
        grid = (triton.cdiv(count, PIXELS),)
        exact = {"enable_fp_fusion": False} if device.type == "cuda" else {}
        _locate[grid](
            feature_ND.contiguous(), feature_ND if photo_N is None else photo_N, scale_D, constants, self.weight_NE,
            self.vertex_NE, self._table, number, spare, counted, count, slots - 1, len(spare) - PIXELS,
            photo_N is not None, d, triton.next_power_of_2(e), PIXELS, **exact,
        )  # fmt: skip
        self._number = number
        _renumber[(triton.cdiv(count * e, ELEMENTS),)](self.vertex_NE, number, count * e, ELEMENTS)
        if pixels is not None:
            self.weight_NE, self.vertex_NE = self.weight_NE[:pixels], self.vertex_NE[:pixels]
        self._counted, self._ready = _to_host(counted)
        self._vertices: int | None = None
        self._neighbor_EV2: Tensor | None = None

    @property
    def vertices(self) -> int:
        """V; waits until the device has found them."""
        if self._vertices is None:
            if self._ready is not None:
                self._ready.synchronize()
            self._vertices = int(self._counted[0])
        return self._vertices

    @property
    def neighbor_EV2(self) -> Tensor:
        """The two neighbours of each vertex along each axis, int32, V where there is none."""
        if self._neighbor_EV2 is None:
            e, device = self.corners, self.vertex_NE.device
            neighbor = torch.empty(e, self.vertices, 2, dtype=torch.int32, device=device)
            every = -sum(1 << shift for shift in self._shifts[: e - 1])
            offsets = [every + (e << shift) for shift in self._shifts[: e - 1]] + [every]
            offset_E = torch.tensor(offsets, dtype=torch.int64).to(device, non_blocking=True)
            slots = len(self._table)
            _neighbors[(triton.cdiv(slots, ELEMENTS),)](
                self._table, self._number, offset_E, neighbor, self.vertices, slots - 1, e, ELEMENTS
            )
            self._neighbor_EV2 = neighbor
            del self._table, self._number
        return self._neighbor_EV2

    def blur(self, grid_VS: Tensor, after_VS: Tensor, reverse: bool = False) -> tuple[Tensor, Tensor]:
        """The second of both is the first one's rows (V + 1, S) blurred along every axis; the last row stays 0.

        It works in both arrays; the first one returned holds nothing of use.
        """
        neighbor_EV2, columns = self.neighbor_EV2, grid_VS.shape[1]
        block = triton.next_power_of_2(columns)
        rows = max(ELEMENTS // block, 1)
        for axis in range(self.corners)[:: -1 if reverse else 1]:
            _blur[(triton.cdiv(self.vertices + 1, rows),)](
                grid_VS, neighbor_EV2[axis], after_VS, self.vertices, columns, rows, block
            )
            grid_VS, after_VS = after_VS, grid_VS
        return after_VS, grid_VS

    def filter(self, value_NS: Tensor, *, reverse: bool = False) -> Tensor:
        """Unnormalised filter of columns (N, S) float32."""
        value_NS = value_NS.float().contiguous()
        count, columns = value_NS.shape
        grid_VS = value_NS.new_zeros(self.vertices + 1, columns)
        block = triton.next_power_of_2(columns)
        pixels = max(ELEMENTS // block, 1)
        grid = (triton.cdiv(count, pixels),)
        _splat[grid](value_NS, self.vertex_NE, self.weight_NE, grid_VS, count, columns, self.corners, pixels, block)
        _, grid_VS = self.blur(grid_VS, torch.empty_like(grid_VS), reverse)
        out_NS = torch.empty_like(value_NS)
        _slice[grid](
            grid_VS, self.vertex_NE, self.weight_NE, out_NS, self.amplitude, count, columns, self.corners, pixels, block
        )
        return out_NS

    @property
    def amplitude(self) -> float:
        """Factor of the slice that makes up for what splat and blur add."""
        return 1 / (1 + 2.0 ** -(self.corners - 1))


def key_fields(bounds_2D: list[tuple[float, ...]], photos: int) -> tuple[list[int], list[int]]:
    """Lowest coordinate of each field, and the first bit of each field and of the photo's number."""
    low_D, high_D = bounds_2D
    d = len(low_D)
    scale = scales(d)
    least, most = (
        [a * s for a, s in zip(low_D, scale, strict=True)],
        [a * s for a, s in zip(high_D, scale, strict=True)],
    )
    lows, shifts, used = [], [], 0
    for j in range(d):
        behind = (-j * most[j - 1], -j * least[j - 1]) if j else (0.0, 0.0)
        # a margin for rounding, for the simplex around a point and for the neighbours of its vertices
        low = (math.floor((sum(least[j:]) + behind[0]) / (d + 1)) - 4) * (d + 1)
        high = (math.ceil((sum(most[j:]) + behind[1]) / (d + 1)) + 4) * (d + 1)
        lows.append(low)
        shifts.append(used)
        used += (high - low).bit_length()
    shifts.append(used)
    used += (photos - 1).bit_length()
    if used > BITS or max(map(abs, lows)) > 2**22:
        raise UserError(
            f"the sigmas of the dense CRF are too small for the lattice's keys ({used} bits of {BITS}); choose larger ones."
        )
    return lows, shifts


def _to_host(value: Tensor) -> tuple[Tensor, torch.cuda.Event | None]:
    """A copy on its way to the host, and the event that says when it is there."""
    if value.device.type != "cuda":
        return value, None
    there = torch.empty(value.shape, dtype=value.dtype, pin_memory=True)
    there.copy_(value, non_blocking=True)
    ready = torch.cuda.Event()
    ready.record()
    return there, ready


@triton.jit
def _home(key, last):
    return ((key * -7046029254386353131) >> 32) & last


@triton.jit(do_not_specialize=["count"])
def _locate(
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
def _renumber(vertex, number, count, BLOCK: tl.constexpr):
    """Slots to numbers of vertices."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    slot = tl.load(vertex + i, mask=i < count, other=0)
    tl.store(vertex + i, tl.load(number + slot, mask=i < count, other=0), mask=i < count)


@triton.jit(do_not_specialize=["vertices"])
def _neighbors(table, number, offset, neighbor, vertices, last, E: tl.constexpr, BLOCK: tl.constexpr):
    """Look up both neighbours of every vertex along every axis."""
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
def _splat(value, vertex, weight, grid, count, columns, E: tl.constexpr, PIXELS: tl.constexpr, COLUMNS: tl.constexpr):
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
def _slice(
    grid, vertex, weight, out, amplitude, count, columns,
    E: tl.constexpr, PIXELS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
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
def _blur(grid, neighbor, after, vertices, columns, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    v = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    s = tl.arange(0, COLUMNS)
    both = (v <= vertices)[:, None] & (s < columns)[None, :]
    there = v < vertices  # the last row has no neighbours and stays 0
    up = tl.load(neighbor + 2 * v, mask=there, other=0).to(tl.int64)
    down = tl.load(neighbor + 2 * v + 1, mask=there, other=0).to(tl.int64)
    near = both & there[:, None]
    total = tl.load(grid + up[:, None] * columns + s[None, :], mask=near, other=0.0)
    total += tl.load(grid + down[:, None] * columns + s[None, :], mask=near, other=0.0)
    here = tl.load(grid + v[:, None] * columns + s[None, :], mask=both, other=0.0)
    tl.store(after + v[:, None] * columns + s[None, :], here + 0.5 * total, mask=both)
