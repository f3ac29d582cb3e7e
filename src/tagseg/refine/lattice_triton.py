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
from torch import Tensor

from tagseg.errors import UserError
from tagseg.refine import lattice_triton_kernels as kernels
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
        kernels.locate[grid](
            feature_ND.contiguous(), feature_ND if photo_N is None else photo_N, scale_D, constants, self.weight_NE,
            self.vertex_NE, self._table, number, spare, counted, count, slots - 1, len(spare) - PIXELS,
            photo_N is not None, d, triton.next_power_of_2(e), PIXELS, **exact,
        )  # fmt: skip
        self._number = number
        kernels.renumber[(triton.cdiv(count * e, ELEMENTS),)](self.vertex_NE, number, count * e, ELEMENTS)
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
        """The two neighbors of each vertex along each axis, int32, V where there is none."""
        if self._neighbor_EV2 is None:
            e, device = self.corners, self.vertex_NE.device
            neighbor = torch.empty(e, self.vertices, 2, dtype=torch.int32, device=device)
            every = -sum(1 << shift for shift in self._shifts[: e - 1])
            offsets = [every + (e << shift) for shift in self._shifts[: e - 1]] + [every]
            offset_E = torch.tensor(offsets, dtype=torch.int64).to(device, non_blocking=True)
            slots = len(self._table)
            kernels.neighbors[(triton.cdiv(slots, ELEMENTS),)](
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
            kernels.blur[(triton.cdiv(self.vertices + 1, rows),)](
                grid_VS, neighbor_EV2[axis], after_VS, self.vertices, columns, rows, block
            )
            grid_VS, after_VS = after_VS, grid_VS
        return after_VS, grid_VS

    def filter(self, value_NS: Tensor, *, reverse: bool = False) -> Tensor:
        """Unnormalized filter of columns (N, S) float32."""
        value_NS = value_NS.float().contiguous()
        count, columns = value_NS.shape
        grid_VS = value_NS.new_zeros(self.vertices + 1, columns)
        block = triton.next_power_of_2(columns)
        pixels = max(ELEMENTS // block, 1)
        grid = (triton.cdiv(count, pixels),)
        kernels.splat[grid](
            value_NS, self.vertex_NE, self.weight_NE, grid_VS, count, columns, self.corners, pixels, block
        )
        _, grid_VS = self.blur(grid_VS, torch.empty_like(grid_VS), reverse)
        out_NS = torch.empty_like(value_NS)
        kernels.slice_[grid](
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
        # a margin for rounding, for the simplex around a point and for the neighbors of its vertices
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
