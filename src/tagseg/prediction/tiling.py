"""Photos of any size, tile by tile: neighboring tiles overlap and fade into each other.

Shapes: K classes, H W pixels of the photo, o pixels of overlap.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from tagseg.threads import ordered_map

SMALLEST_TILE = 128
TILE_BYTES = 1 << 27  # of one tile's probabilities: with very many classes tiles get smaller
STEP = 32  # tiles begin at multiples of it, so that all of them lie alike on a backbone's grid


class Window(NamedTuple):
    """A rectangle of a photo: rows top..bottom, columns left..right, the ends left out."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """The rectangle as an index of (H, W)."""
        return slice(self.top, self.bottom), slice(self.left, self.right)


def blend_tiles(
    height: int, width: int, num_classes: int, side: int, read: Callable[[Window], Tensor], workers: int = 1
) -> Iterator[tuple[Window, Tensor]]:
    """The probabilities of a whole photo in finished blocks, which follow row upon row and cover each pixel once.

    read: gives (K, h, w) of a window. side: of a tile; an eighth of it overlaps with the next one. workers: threads.
    The weights of overlapping tiles change linearly and sum to 1. Of unfinished pixels only the lower overlap of one
    row of tiles is held: (K, o, W).
    """
    side = max(min(side, math.isqrt(TILE_BYTES // (4 * num_classes))), SMALLEST_TILE)
    overlap = side // 8
    ys, xs = _starts(height, side, overlap), _starts(width, side, overlap)
    rows, columns = len(ys) - 1, len(xs) - 1
    windows = [
        Window(ys[i], ys[i + 1] + overlap, xs[j], xs[j + 1] + overlap) for i in range(rows) for j in range(columns)
    ]
    tiles = ordered_map(read, windows, workers)
    above_KoW = torch.zeros(num_classes, overlap, width if rows > 1 else 0)
    for i in range(rows):
        left_Kho = torch.zeros(0)
        for j in range(columns):
            window = windows[i * columns + j]
            weight_h1 = _ramp(window.bottom - window.top, overlap, i > 0, i < rows - 1)[:, None]
            weight_w = _ramp(window.right - window.left, overlap, j > 0, j < columns - 1)
            tile_Khw = next(tiles).to("cpu") * weight_h1 * weight_w
            if j > 0:
                tile_Khw[:, :, :overlap] += left_Kho
            if j < columns - 1:
                tile_Khw, left_Kho = tile_Khw[:, :, :-overlap], tile_Khw[:, :, -overlap:]
            span = slice(window.left, window.left + tile_Khw.shape[2])
            if i > 0:
                tile_Khw[:, :overlap] += above_KoW[:, :, span]
            if i < rows - 1:
                above_KoW[:, :, span] = tile_Khw[:, -overlap:]
                tile_Khw = tile_Khw[:, :-overlap]
            yield Window(window.top, window.top + tile_Khw.shape[1], span.start, span.stop), tile_Khw


def _starts(length: int, side: int, overlap: int) -> list[int]:
    """Where tiles begin, evenly spread; the last number is where one more would."""
    count = max(math.ceil((length - overlap) / (side - overlap)), 1)
    inner = [round(i * (length - overlap) / count / STEP) * STEP for i in range(1, count)]
    return [0, *inner, length - overlap]


def _ramp(length: int, overlap: int, rises: bool, falls: bool) -> Tensor:
    weight = torch.ones(length)
    up = (torch.arange(overlap) + 0.5) / overlap
    if rises:
        weight[:overlap] = up
    if falls:
        weight[-overlap:] = 1 - up
    return weight
