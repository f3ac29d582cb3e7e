"""Label Studio's brush RLE: binary masks as runs of bits, written and read.

Shapes: H W pixels, R runs.
"""

from __future__ import annotations

from array import array

import numpy as np
from numpy.typing import NDArray

_SIZES = (3, 4, 8, 16)  # bits that a run's length may take, as Label Studio itself writes them


def encode_brush(mask: NDArray[np.bool_]) -> bytes:
    """A binary mask (H, W) as Label Studio's brush RLE: the rle-pack format over four equal bytes (RGBA) a pixel.

    Bits: 32 the number of bytes, 5 the word size less one, 4 times 4 the sizes of a length; then for each run 1, two
    bits for the size, the length less one, and the value (0 or 255).
    """
    flat = np.asarray(mask, dtype=bool).ravel()
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    lengths_R = 4 * np.diff(np.append(starts, flat.size))
    values_R = np.where(flat[starts], 255, 0)
    # A run longer than 2^16 is several runs: as many full ones as needed, then the rest.
    pieces_R = (lengths_R - 1) // 65536 + 1
    last = np.cumsum(pieces_R) - 1
    rest_R = lengths_R - 65536 * (pieces_R - 1)
    lengths = np.full(int(pieces_R.sum()), 65536)
    lengths[last] = rest_R
    values = np.repeat(values_R, pieces_R)

    size = np.searchsorted([8, 16, 256], lengths)
    bits = np.array(_SIZES)[size]
    codes = (((4 | size) << bits | (lengths - 1)) << 8) | values
    header = f"{4 * flat.size:032b}{8 - 1:05b}" + "".join(f"{s - 1:04b}" for s in _SIZES)
    return np.packbits(
        np.concatenate([np.array([int(b) for b in header], dtype=np.uint8), _bits(codes, bits + 11)])
    ).tobytes()


def decode_brush(data: bytes, height: int, width: int) -> NDArray[np.bool_]:
    """The mask (H, W) of a brush RLE, True where the last byte of a pixel (its opacity) is at least one half.

    Strokes painted by hand have soft edges; with every touched pixel they would grow. A mask of zeros and ones, as some
    programs write it, is taken as it is meant. Raises ValueError when it is broken or of another size.
    """
    window = data + bytes(8)

    def read(at: int, count: int) -> int:  # up to 32 bits
        byte = at >> 3
        return (int.from_bytes(window[byte : byte + 5], "big") >> (40 - (at & 7) - count)) & ((1 << count) - 1)

    total = read(0, 32)
    if total != 4 * height * width:
        raise ValueError(f"it holds {total} bytes, not 4 for each of {width} x {height} pixels")
    word = read(32, 5) + 1
    sizes = [read(37 + 4 * i, 4) + 1 for i in range(4)]
    at, done = 53, 0
    ends, values = array("q"), array("q")  # lists would take five times the memory
    while done < total:
        if at >= 8 * len(data):
            raise ValueError("it ends too early")
        size = sizes[read(at + 1, 2)]
        length = read(at + 3, size) + 1
        is_run = read(at, 1)
        at += 3 + size
        if done + length > total:
            raise ValueError("its runs are longer than the picture")
        for step in (length,) if is_run else (1,) * length:
            values.append(read(at, word))
            done += step
            ends.append(done)
            at += word
    # Pixel p's last byte is 4p + 3: the runs' ends in pixels are their ends in bytes divided by four.
    lengths = np.diff(np.array(ends, dtype=np.int64) // 4, prepend=0)
    opacity = np.array(values)
    least = 128 if opacity.max(initial=0) > 1 else 1
    return np.repeat(opacity >= least, lengths).reshape(height, width)


def _bits(codes: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.uint8]:
    """The lowest `counts` bits of each code, highest first, one after another."""
    ends = np.cumsum(counts)
    place = np.repeat(ends, counts) - 1 - np.arange(int(ends[-1]))
    return ((np.repeat(codes, counts) >> place) & 1).astype(np.uint8)
