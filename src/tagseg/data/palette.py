"""Palette masks: one byte a pixel, colored as PASCAL VOC's are; and masks laid over photos in brighter colors.

Shapes: H W pixels. 0 = background, 255 = ignore.
"""

from __future__ import annotations

import colorsys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tagseg.files import replacing
from tagseg.mask_values import IGNORE


def voc_palette() -> NDArray[np.uint8]:
    """The colors of the 256 indices as PASCAL VOC's devkit makes them: uint8 (256, 3), 0 black, 255 cream.

    The bits of the index are dealt out to red, green and blue in turn, lowest bit to the highest place, so neighboring
    indices differ much.
    """
    index = np.arange(256)
    palette = np.zeros((256, 3), dtype=np.uint8)
    for place in range(8):
        for channel in range(3):
            palette[:, channel] |= (((index >> (3 * place + channel)) & 1) << (7 - place)).astype(np.uint8)
    return palette


def display_palette() -> NDArray[np.uint8]:
    """Brighter colors for looking at masks over photos: uint8 (256, 3), 0 black, 255 white.

    The first classes keep VOC's order of hues (red, green, yellow, blue, purple, cyan); from the 21st on the hue goes
    round by the golden angle.
    """
    first = (
        "e6404c 3cb44b f2c12e 3f74e0 a046c8 2fc4d1 9aa0a8 f58231 f06ecb 8fd43a 1f9e89 b9794a "
        "6a5acd c2b280 8b1e3f 5fb0ff 7a9a01 ff9e9e 00708a c9a0ff"
    )
    palette = np.zeros((256, 3), dtype=np.uint8)
    for index in range(1, 255):
        hue, lightness = (index * 0.381966) % 1, (0.45, 0.58, 0.70)[index % 3]
        palette[index] = np.rint(255 * np.array(colorsys.hls_to_rgb(hue, lightness, 0.65)))
    palette[1:21] = [list(bytes.fromhex(code)) for code in first.split()]
    palette[255] = 255
    return palette


PALETTE = voc_palette()
DISPLAY = display_palette()


def color(index: int) -> str:
    """The color of a class index in overlays and legends, as `#rrggbb`."""
    return "#" + bytes(DISPLAY[index]).hex()


def write_mask(
    path: Path, mask: NDArray[np.uint8], *, palette: NDArray[np.uint8] = PALETTE, durable: bool = False
) -> None:
    """Write a uint8 mask (H, W) as a palette PNG that stores the indices themselves; whole or not at all.

    palette: uint8 (256, 3). durable: as `replacing`. Raises UserError when the file cannot be written.
    """
    assert mask.ndim == 2, mask.shape
    assert mask.dtype == np.uint8, mask.dtype
    image = Image.fromarray(np.ascontiguousarray(mask), mode="P")
    image.putpalette(palette.tobytes())
    with replacing(path, durable=durable) as temporary:
        image.save(temporary, format="PNG")


def overlay(
    photo: NDArray[np.uint8],
    mask: NDArray[np.uint8],
    alpha: float = 0.55,
    outlines: bool = True,
    *,
    palette: NDArray[np.uint8] = DISPLAY,
) -> NDArray[np.uint8]:
    """A photo with the classes' colors over it: uint8 (H, W, 3).

    photo: uint8 (H, W, 3). mask: uint8 (H, W). alpha: weight of the color in [0, 1]. outlines: whether regions get a
    white line along their inner edge. Background stays as it is, 255 is whitened.
    """
    assert photo.shape[:2] == mask.shape, (photo.shape, mask.shape)
    weight_HW = np.where(mask > 0, alpha, 0.0)[..., None]
    mixed = photo * (1 - weight_HW) + palette[mask] * weight_HW
    if outlines:
        mixed[(mask > 0) & (mask < IGNORE) & _edges(mask)] = 255
    return np.rint(mixed).astype(np.uint8)


def _edges(mask: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Pixels with a neighbor (up, down, left, right) of another class."""
    edge_HW = np.zeros(mask.shape, dtype=bool)
    down, right = mask[1:] != mask[:-1], mask[:, 1:] != mask[:, :-1]
    edge_HW[1:] |= down
    edge_HW[:-1] |= down
    edge_HW[:, 1:] |= right
    edge_HW[:, :-1] |= right
    return edge_HW
