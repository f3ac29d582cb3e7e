# mypy: allow-untyped-decorators, allow-untyped-defs
"""The permutohedral lattice on the CPU: splat, blur, slice as numba kernels (Adams, Baek, Davis 2010).

Values are float32 (V + 1, S): the last row stays zero and stands for every missing neighbor.

Shapes: N pixels sorted by simplex, L maps, T simplices, E corners of one, V vertices, S columns filtered together.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from tagseg.refine import lattice_build as steps
from tagseg.refine.features import Sigma, sigmas
from tagseg.refine.lanes import Shape
from tagseg.refine.lattice_locate import key_fields, locate, njit, uncounted
from tagseg.refine.rows import add, add_corners, add_scaled, blend, gather, load, spread, store, zero_corners, zero_row
from tagseg.refine.scratch import Allocate, fresh

TILE = 64  # pixels whose rows are turned into planes together


class Sides(NamedTuple):
    """The symmetric normalization D K D of a lattice, with D = 1 / sqrt(K 1)."""

    weight: np.ndarray  # barycentric weights (N, E) times D
    largest: float  # of D K D 1: no message can be larger


class CpuLattice:
    """Where the pixels of one photo lie in the lattice, and who the vertices' neighbors are."""

    def __init__(
        self,
        image_HWC: np.ndarray,
        sxy: Sigma,
        srgb: Sigma,
        *,
        touch_origin: bool = False,
        allocate: Allocate = fresh,
    ) -> None:
        """image_HWC: any number type; no channels for a filter of positions alone.

        allocate: where its arrays lie; in a `Scratch`, it lasts until the next lattice there.
        """
        height, width, channels = image_HWC.shape
        sigma_D = np.array([*sigmas(sxy, 2, "sxy"), *(sigmas(srgb, channels, "srgb") if channels else ())], np.float32)
        image_HWC = np.ascontiguousarray(image_HWC, None if image_HWC.dtype == np.uint8 else np.float32)
        low_D, shift_D = _fields(image_HWC, sigma_D, touch_origin)
        pixels, corners = height * width, channels + 3
        self.corners, self.allocate = corners, allocate
        self._near: tuple[CpuLattice, np.ndarray] | None = None
        key_N = allocate("keys", (pixels,), np.int64)
        unsorted_NE = allocate("unsorted weights", (pixels, corners), np.float32)
        locate(image_HWC, sigma_D, low_D, shift_D, key_N, unsorted_NE)
        simplex_N = allocate("simplices", (pixels,), np.int32)
        keys_T = steps.group(key_N, simplex_N)
        self.start_T = allocate("starts", (len(keys_T) + 1,), np.int32)
        self.order_N = allocate("order", (pixels,), np.int32)
        self.weight_NE = allocate("weights", (pixels, corners), np.float32)
        keys_T = steps.arrange(
            Shape(corners, 1), simplex_N, keys_T, unsorted_NE, self.start_T, self.order_N, self.weight_NE
        )
        if touch_origin:
            origin = sum(
                (j - int(low)) << int(shift) for j, (low, shift) in enumerate(zip(low_D, shift_D, strict=True))
            )
            keys_T = np.append(keys_T, origin)
        self.vertex_TE = allocate("vertices", (len(keys_T), corners), np.int32)
        keys_V, table_M2 = steps.number_vertices(keys_T, shift_D, self.vertex_TE)
        self.vertices = len(keys_V)
        self.neighbor_EV2 = allocate("neighbors", (corners, len(keys_V), 2), np.int32)
        steps.find_neighbors(keys_V, table_M2, shift_D, self.neighbor_EV2)

    @property
    def amplitude(self) -> float:
        """Factor of the slice that makes up for what splat and blur add."""
        return 1 / (1 + 2.0 ** (1 - self.corners))

    @cached_property
    def sides(self) -> Sides:
        """The symmetric normalization."""
        shape, factor = Shape(1, self.corners), np.float32(self.amplitude)
        grid_V1, spare_V1 = np.zeros((2, self.vertices + 1, 1), np.float32)
        value_N1 = self.allocate("ones", (len(self.order_N), 1), np.float32)
        value_N1[:] = 1
        places = (self.start_T, self.order_N, self.vertex_TE)
        splat(shape, *places, self.weight_NE, value_N1, grid_V1)
        blurred_V1, spare_V1 = blur(shape, self.neighbor_EV2, grid_V1, spare_V1, factor)
        slice_(shape, *places, self.weight_NE, blurred_V1, value_N1)
        weight_NE = self.allocate("normalized weights", self.weight_NE.shape, np.float32)
        scale_weights(Shape(self.corners, 1), self.order_N, self.weight_NE, value_N1, weight_NE)
        spare_V1[:] = 0
        value_N1[:] = 1
        splat(shape, *places, weight_NE, value_N1, spare_V1)
        blurred_V1, _ = blur(shape, self.neighbor_EV2, spare_V1, blurred_V1, factor)
        slice_(shape, *places, weight_NE, blurred_V1, value_N1)
        return Sides(weight_NE, float(value_N1.max()))

    @cached_property
    def packed(self) -> np.ndarray:
        """Of a lattice of positions, in the photo's order: (N, 8) with 3 vertices (int32) and 3 weights times D."""
        packed_N8 = np.empty((len(self.order_N), 8), np.float32)
        pack(self.start_T, self.vertex_TE, self.sides.weight, self.order_N, packed_N8, packed_N8.view(np.int32))
        return packed_N8

    def places_of(self, other: CpuLattice) -> np.ndarray:
        """`packed` of a lattice of positions in the order of this lattice's pixels; the last one is kept."""
        if self._near is None or self._near[0] is not other:
            places_N8 = self.allocate("near", other.packed.shape, np.float32)
            pick(Shape(8, 1), other.packed, self.order_N, places_N8)
            self._near = (other, places_N8)
        return self._near[1]

    def filter(self, maps_LN: np.ndarray) -> np.ndarray:
        """Unnormalized filter of maps (L, N) float32, pixels in the photo's order."""
        out_LN = np.empty_like(maps_LN)
        for first in range(0, len(maps_LN), 16):
            count = min(16, len(maps_LN) - first)
            shape = Shape(padded(count), self.corners)
            value_NS = np.empty((len(self.order_N), shape.columns), np.float32)
            to_rows(maps_LN[first : first + count], value_NS)
            grid_VS, spare_VS = np.zeros((2, self.vertices + 1, shape.columns), np.float32)
            places = (self.start_T, self.order_N, self.vertex_TE)
            splat(shape, *places, self.weight_NE, value_NS, grid_VS)
            blurred_VS, _ = blur(shape, self.neighbor_EV2, grid_VS, spare_VS, np.float32(self.amplitude))
            slice_(shape, *places, self.weight_NE, blurred_VS, value_NS)
            to_planes(value_NS, out_LN[first : first + count])
        return out_LN


def padded(columns: int) -> int:
    """Columns that a row is stored with: 1, 2 or a multiple of 4."""
    return columns if columns <= 2 else (columns + 3) // 4 * 4


def _fields(image_HWC: np.ndarray, sigma_D: np.ndarray, touch_origin: bool) -> tuple[np.ndarray, np.ndarray]:
    height, width, channels = image_HWC.shape
    low_C, high_C = np.zeros(channels), np.full(channels, 255.0)
    if image_HWC.dtype != np.uint8 and channels:
        low_C, high_C = image_HWC.min((0, 1)).astype(float), image_HWC.max((0, 1)).astype(float)
    if touch_origin:
        low_C, high_C = np.minimum(low_C, 0), np.maximum(high_C, 0)
    low_D, high_D = np.array([0, 0, *low_C]), np.array([width, height, *high_C])
    return key_fields(low_D / sigma_D, high_D / sigma_D)


@uncounted
def to_rows(maps_LN: np.ndarray, out_NS: np.ndarray) -> None:
    """Planes of labels to rows of pixels, a tile at a time; columns beyond L become 0."""
    pixels = len(out_NS)
    for begin in range(0, pixels, TILE):
        stop = min(begin + TILE, pixels)
        for label in range(maps_LN.shape[0]):
            for p in range(begin, stop):
                out_NS[p, label] = maps_LN[label, p]
        for label in range(maps_LN.shape[0], out_NS.shape[1]):
            for p in range(begin, stop):
                out_NS[p, label] = 0


@uncounted
def to_planes(value_NS: np.ndarray, out_LN: np.ndarray) -> None:
    """The way back."""
    pixels = len(value_NS)
    for begin in range(0, pixels, TILE):
        for label in range(out_LN.shape[0]):
            for p in range(begin, min(begin + TILE, pixels)):
                out_LN[label, p] = value_NS[p, label]


@uncounted
def splat(
    shape: Any,
    start_T: np.ndarray,
    order_N: np.ndarray,
    vertex_TE: np.ndarray,
    weight_NE: np.ndarray,
    value_NS: np.ndarray,
    grid_VS: np.ndarray,
) -> None:
    """Add every pixel's row to the vertices of its simplex; rows in the photo's order."""
    for t in range(len(start_T) - 1):
        sums = zero_corners(shape)
        for i in range(start_T[t], start_T[t + 1]):
            sums = spread(sums, weight_NE, i, load(shape, value_NS, order_N[i]))
        add_corners(grid_VS, vertex_TE, t, sums)


@uncounted
def slice_(
    shape: Any,
    start_T: np.ndarray,
    order_N: np.ndarray,
    vertex_TE: np.ndarray,
    weight_NE: np.ndarray,
    grid_VS: np.ndarray,
    out_NS: np.ndarray,
) -> None:
    """Read every pixel's row from the vertices of its simplex; rows in the photo's order."""
    for t in range(len(start_T) - 1):
        corners = gather(shape, grid_VS, vertex_TE, t)
        for i in range(start_T[t], start_T[t + 1]):
            store(out_NS, order_N[i], blend(zero_row(shape), corners, weight_NE, i))


@njit(nogil=True, cache=True, error_model="numpy")
def blur(
    shape: Any, neighbor_EV2: np.ndarray, old_VS: np.ndarray, new_VS: np.ndarray, factor: np.float32
) -> tuple[np.ndarray, np.ndarray]:
    """Blur along every axis in turn, and multiply by a factor; returns the array with the result and the other one."""
    axes, vertices, _ = neighbor_EV2.shape
    half = np.float32(0.5)
    for axis in range(axes - 1):
        for v in range(vertices):
            around = add(load(shape, old_VS, neighbor_EV2[axis, v, 0]), load(shape, old_VS, neighbor_EV2[axis, v, 1]))
            store(new_VS, v, add_scaled(half, around, load(shape, old_VS, v)))
        old_VS, new_VS = new_VS, old_VS
    for v in range(vertices):
        around = add(
            load(shape, old_VS, neighbor_EV2[axes - 1, v, 0]), load(shape, old_VS, neighbor_EV2[axes - 1, v, 1])
        )
        value = add_scaled(half, around, load(shape, old_VS, v))
        store(new_VS, v, add_scaled(factor, value, zero_row(shape)))
    return new_VS, old_VS


@uncounted
def scale_weights(
    shape: Any, order_N: np.ndarray, weight_NE: np.ndarray, total_N1: np.ndarray, out_NE: np.ndarray
) -> None:
    """Weights over the root of the filtered ones."""
    for i in range(len(weight_NE)):
        factor = np.float32(1) / np.sqrt(total_N1[order_N[i], 0] + np.float32(1e-20))
        store(out_NE, i, add_scaled(factor, load(shape, weight_NE, i), zero_row(shape)))


@uncounted
def pick(shape: Any, packed_N8: np.ndarray, order_N: np.ndarray, out_N8: np.ndarray) -> None:
    """Rows in another order."""
    for i in range(len(order_N)):
        store(out_N8, i, load(shape, packed_N8, order_N[i]))


@uncounted
def pack(
    start_T: np.ndarray,
    vertex_TE: np.ndarray,
    weight_NE: np.ndarray,
    order_N: np.ndarray,
    packed_N8: np.ndarray,
    words_N8: np.ndarray,
) -> None:
    """Fill `packed`; words_N8 is the same memory as int32."""
    for t in range(len(start_T) - 1):
        for i in range(start_T[t], start_T[t + 1]):
            p = order_N[i]
            for k in range(3):
                words_N8[p, k] = vertex_TE[t, k]
                packed_N8[p, 3 + k] = weight_NE[i, k]
            packed_N8[p, 6] = 0
            packed_N8[p, 7] = 0
