"""COCO's run-length encoding of a binary mask, column by column, and its compressed string.

Shapes: H W pixels. R runs, which start with zeros and alternate.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_CHUNKS = 7  # of 5 bits: what a run of a mask can need
_BLOCK = 1 << 15  # runs compressed at a time, to stay in the cache


def encode_rle(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Lengths of the runs of a binary mask (H, W), read column by column: (R,), the first one of zeros, perhaps 0."""
    flat = np.asarray(mask, dtype=bool).ravel(order="F")
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    edges = np.concatenate([[0], changes, [flat.size]])
    runs = np.diff(edges)
    return np.concatenate([[0], runs]) if flat.size and flat[0] else runs


def decode_rle(runs: NDArray[np.int64], height: int, width: int) -> NDArray[np.bool_]:
    """The mask (H, W) of whole-numbered runs (R,); raises ValueError when they don't fill it exactly."""
    pixels = height * width
    if runs.ndim != 1 or (runs.size and runs.dtype.kind not in "iu"):
        raise ValueError("the runs are no list of whole numbers")
    # Each run before their sum: a sum of 64 bits can go around and come out right, and np.repeat believes it.
    if (runs < 0).any() or (runs > pixels).any():
        raise ValueError(f"the runs reach beyond {height} x {width} pixels")
    if (covered := int(runs.sum())) != pixels:
        raise ValueError(f"the runs cover {covered} pixels, not {height} x {width}")
    flat = np.repeat(np.arange(runs.size) % 2 == 1, runs)
    return flat.reshape(width, height).T


def compress(runs: NDArray[np.int64]) -> str:
    """Runs as COCO's string: differences to the run before the last, in groups of 5 bits, lowest first, in ASCII."""
    values = runs.astype(np.int64).copy()
    values[3:] -= runs[1:-2]
    blocks = [values[start : start + _BLOCK] for start in range(0, len(values), _BLOCK)]
    return b"".join(_characters(block) for block in blocks).decode("ascii")


def _characters(values: NDArray[np.int64]) -> bytes:
    rest = values[:, None] >> (5 * np.arange(_CHUNKS + 1))  # (R, 8): what is left before each group, and after the last
    chunk = rest[:, :-1] & 31
    # A group is the last one when the bits above it only repeat its own highest bit.
    more = np.where(chunk & 16, rest[:, 1:] != -1, rest[:, 1:] != 0)
    needed = np.ones(chunk.shape, dtype=bool)
    needed[:, 1:] = np.logical_and.accumulate(more[:, :-1], axis=1)
    return ((chunk | (more << 5)) + 48)[needed].astype(np.uint8).tobytes()


def decompress(text: str) -> NDArray[np.int64]:
    """The runs of COCO's string; raises ValueError when it is none."""
    codes = np.frombuffer(text.encode("ascii", errors="replace"), dtype=np.uint8).astype(np.int64) - 48
    if not text.isascii() or codes.size == 0 or codes.min() < 0 or codes.max() > 63 or codes[-1] & 32:
        raise ValueError("not a compressed RLE string")
    ends = np.flatnonzero(codes & 32 == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > _CHUNKS:
        raise ValueError("a run of the compressed RLE string is too long")
    place = np.arange(codes.size) - np.repeat(starts, lengths)
    values = np.add.reduceat((codes & 31) << (5 * place), starts)
    values -= np.where(codes[ends] & 16, np.int64(1) << (5 * lengths), 0)
    # Undo the differences: the odd runs and, from the third on, the even ones are sums of their own kind.
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values
