"""Outlines of a binary mask as polygons along the pixels' edges, and back: exact in both directions.

Shapes: H W pixels. E directed sides of pixels, the region on their right. V corners of a polygon as (x, y), x from 0 to
W, y from 0 to H.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_RIGHT, _DOWN, _LEFT, _UP = range(4)  # a right turn adds one
_FARTHEST = 1e9  # of a corner from the picture's: beyond, floats no longer tell pixels apart
_FEWEST_CROSSINGS = 10_000_000  # that even the smallest picture may have
_BLOCK = 1 << 20  # crossings that are worked out at a time


def trace(mask: NDArray[np.bool_]) -> list[NDArray[np.int64]]:
    """One polygon (V, 2) for each 4-connected region of (H, W), its holes joined to its outline by cuts of no width.

    Filling them at pixel centers, by either rule, gives the mask back.
    """
    mask = np.asarray(mask, dtype=bool)
    cut = np.zeros((mask.shape[0] + 1, mask.shape[1]), dtype=bool)  # by horizontal grid line
    rings = _rings(mask, cut)
    for ring in rings:
        left, top = ring[np.argmin(ring[:, 1] * (mask.shape[1] + 1) + ring[:, 0])].tolist()  # its first corner
        if not mask[top, left]:  # a hole
            # From there to the left, as far as the region lies on both sides. What is reached is an outline, or a hole
            # that starts higher up or further left: no cuts run in a circle.
            ends = np.flatnonzero(~(mask[top - 1, :left] & mask[top, :left]))
            cut[top, ends[-1] + 1 if ends.size else 0 : left] = True
    return _rings(mask, cut) if cut.any() else rings


def fill(polygons: Sequence[NDArray[np.floating]], height: int, width: int) -> NDArray[np.bool_]:
    """Pixels (H, W) with an odd number of polygon sides to the left of their centers, over all polygons.

    polygons: floats (V, 2) of any form; what lies outside the picture is cut off. Raises ValueError for corners that are
    no numbers or a billion pixels away, and for sides that cross more rows than outlines of every pixel would.
    """
    toggles = np.zeros((height, width + 1), dtype=np.int32)
    lengths = np.array([len(polygon) for polygon in polygons if len(polygon)], dtype=np.int64)
    if not lengths.size:
        return np.zeros((height, width), dtype=bool)
    begin = np.concatenate([polygon for polygon in polygons if len(polygon)]).astype(np.float64)
    if not (np.abs(begin) <= _FARTHEST).all():
        raise ValueError("a corner is no number, or too far away")
    following = np.arange(1, len(begin) + 1)
    following[np.cumsum(lengths) - 1] -= lengths  # a polygon's last corner leads to its first
    end = begin[following]
    # The rows whose centers lie between a side's ends, the upper end included.
    first = np.ceil(np.minimum(begin[:, 1], end[:, 1]) - 0.5).clip(0, height).astype(np.int64)
    last = np.ceil(np.maximum(begin[:, 1], end[:, 1]) - 0.5).clip(0, height).astype(np.int64)
    ends = np.cumsum(last - first)
    crossings = int(ends[-1])
    if crossings > max(4 * height * (width + 1), _FEWEST_CROSSINGS):
        raise ValueError(
            f"its {len(begin):,} sides cross {crossings:,} rows, more than a picture of this size can need"
        )
    for start in range(0, crossings, _BLOCK):  # in blocks: a small file may ask for very many
        place = np.arange(start, min(start + _BLOCK, crossings))
        side = np.searchsorted(ends, place, side="right")
        row = place - ends[side] + last[side]
        share = (row + 0.5 - begin[side, 1]) / (end[side, 1] - begin[side, 1])
        x = begin[side, 0] + share * (end[side, 0] - begin[side, 0])
        np.add.at(toggles, (row, np.ceil(x - 0.5).clip(0, width).astype(np.int64)), 1)
    return (np.cumsum(toggles, axis=1)[:, :-1] & 1).astype(bool)


def _rings(mask: NDArray[np.bool_], cut: NDArray[np.bool_]) -> list[NDArray[np.int64]]:
    """The closed lines around the regions of a mask, cuts being borders: clockwise outside, the other way in holes."""
    columns = mask.shape[1] + 1
    padded = np.pad(mask, 1)
    below, above = padded[1:, 1:-1], padded[:-1, 1:-1]  # of each horizontal grid line: (H + 1, W)
    right, left = padded[1:-1, 1:], padded[1:-1, :-1]  # of each vertical one: (H, W + 1)
    sides = {  # where a pixel has such a side, and where that side starts from there
        _RIGHT: (below & (~above | cut), 0),
        _DOWN: (left & ~right, 0),
        _LEFT: (above & (~below | cut), 1),
        _UP: (right & ~left, columns),
    }
    starts, directions = [], []
    for direction, (there, offset) in sides.items():
        y, x = np.nonzero(there)
        starts.append(y * columns + x + offset)
        directions.append(np.full(len(y), direction))
    start_E, direction_E = np.concatenate(starts), np.concatenate(directions)
    if not start_E.size:
        return []
    end_E = start_E + np.array([1, columns, -1, -columns])[direction_E]

    # The next side: of the same pixel, else of its neighbors in turn; the last one found in this order stays.
    order = np.argsort(start_E * 4 + direction_E)
    sorted_keys = (start_E * 4 + direction_E)[order]
    next_E = np.full(start_E.size, -1)
    for turn in (2, 3, 0, 1):
        wanted = end_E * 4 + (direction_E + turn) % 4
        place = np.searchsorted(sorted_keys, wanted).clip(max=start_E.size - 1)
        found = sorted_keys[place] == wanted
        next_E[found] = order[place[found]]

    is_corner_E = np.empty(start_E.size, dtype=bool)
    is_corner_E[next_E] = direction_E[next_E] != direction_E
    following, seen = next_E.tolist(), [False] * start_E.size
    sides_in_order: list[int] = []
    ring_starts = []
    for first in range(start_E.size):
        if not seen[first]:
            ring_starts.append(len(sides_in_order))
            side = first
            while not seen[side]:
                seen[side] = True
                sides_in_order.append(side)
                side = following[side]
    kept = is_corner_E[sides_in_order]
    corner = start_E[sides_in_order][kept]
    points = np.stack([corner % columns, corner // columns], axis=1)
    return np.split(points, np.concatenate([[0], np.cumsum(kept)])[ring_starts[1:]])
