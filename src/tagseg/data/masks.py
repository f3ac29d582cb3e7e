"""Masks: the numbers that a file stores, whatever it shows, and sentences about numbers that mean something else.

Shapes: H W pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from tagseg.data.palette import PALETTE
from tagseg.data.pictures import PIXEL_CAP, check_cap, decoding, open_picture, refuse
from tagseg.data.tiff import white_is_zero
from tagseg.errors import UserError
from tagseg.mask_values import IGNORE

MASK_FORMATS = ("PNG", "BMP", "TIFF", "GIF")
OUTLINE = (224, 224, 192)  # around objects in VOC's masks: ignored
_SHADES = 64  # grays below are numbers: nobody could see them apart as pictures
_WEB_COLORS = 8  # VOC's first colors are those of the web too (navy, green, ...): people choose them for other classes

Color = tuple[int, int, int]


def read_mask(path: Path, *, pixel_cap: int = PIXEL_CAP, colors: Sequence[Color] | None = None) -> NDArray[np.uint8]:
    """The class numbers that a mask stores as uint8 (H, W): gray values of 1 to 8 bits, or indices into a palette.

    Where a palette holds small grays in another order, as programs that shrink files leave it, the grays are the numbers.
    colors: RGB of the values 0, 1, ...; with them a mask stored as colors is read too, white and unknown colors refused.
    Raises UserError naming the file when it cannot be read or holds colors instead of class numbers.
    """
    try:
        with open_picture(path, MASK_FORMATS) as image:
            check_cap(str(path), image, pixel_cap)
            with decoding(image):
                if image.mode in ("RGB", "RGBA") and colors is not None:
                    return _by_color(path, np.asarray(image.convert("RGB")), colors)
                if image.mode not in ("P", "L", "1"):
                    raise UserError(
                        f"mask {path} has mode {image.mode}, not class indices; save it as a palette or 8-bit gray PNG"
                    )
                depth = _gray_bits(image)
                stored_HW = np.array(image, dtype=np.uint8)
                if image.mode == "P":
                    numbers = _palette_numbers(path, image, colors)
                    return stored_HW if numbers is None else numbers[stored_HW]
                if depth < 8 and image.mode == "L":
                    stored_HW //= 255 // (2**depth - 1)  # Pillow stretches 2 and 4 bits to 0..255
                return (2**depth - 1 - stored_HW).astype(np.uint8) if white_is_zero(image) else stored_HW
    except Exception as error:
        refuse(str(path), "mask", MASK_FORMATS, error)


def _gray_bits(image: ImageFile.ImageFile) -> int:
    """Bits a gray value has in the file."""
    if image.mode == "1":
        return 1
    for tile in image.tile:
        mode = str(tile[3][0] if isinstance(tile[3], tuple) else tile[3])
        for bits in (1, 2, 4):
            if mode.startswith(f"L;{bits}"):
                return bits
    return 8


def _palette_numbers(path: Path, image: Image.Image, colors: Sequence[Color] | None) -> NDArray[np.uint8] | None:
    """The class number of each index of a palette, (256,); None where the indices are the numbers."""
    entries = np.frombuffer(bytes(image.getpalette("RGB") or []), np.uint8).reshape(-1, 3)[:256]
    used = np.flatnonzero(image.histogram())
    shown = np.zeros((len(used), 3), np.int64)
    shown[used < len(entries)] = entries[used[used < len(entries)]]
    numbers = np.arange(256)
    if colors is not None:
        known = {color: i for i, color in enumerate(colors)}
        known.setdefault(OUTLINE, IGNORE)
        found = {
            i: IGNORE if i == IGNORE else known[_rgb(color)]
            for i, color in zip(used.tolist(), shown, strict=True)
            if i == IGNORE or _rgb(color) in known
        }
        if len(found) == len(used):
            numbers[used] = list(found.values())
            return numbers.astype(np.uint8)
        if any(i != number for i, number in found.items() if number not in (0, IGNORE)):  # else the indices count
            raise _unknown_color(
                path, next(_rgb(color) for i, color in zip(used, shown, strict=True) if i not in found)
            )
    if len(entries) == 256 and (entries == PALETTE).all():
        return None  # VOC's whole, whose colors of 7, 56 and 63 are grays
    if (shown == shown[:, :1]).all():
        return _gray_numbers(path, used, shown[:, 0], numbers)
    # As many entries as are used, and all of them VOC's colors: a program that shrinks files has renumbered them.
    if len(entries) == len(used) > 1 and all(_rgb(color) in _voc_numbers() for color in shown):
        voc = _voc_numbers()
        meant = [voc[_rgb(color)] for color in shown]
        if meant != used.tolist() and max(meant) < _WEB_COLORS:
            raise UserError(
                f"mask {path} has VOC's colors of {', '.join(map(str, meant[:4]))} under the numbers "
                f"{', '.join(map(str, used[:4]))}; save it as 8-bit gray with the class numbers"
            )
        numbers[used] = meant
        return numbers.astype(np.uint8)
    return None


def _gray_numbers(
    path: Path, used: NDArray[np.intp], grays: NDArray[np.int64], numbers: NDArray[np.int64]
) -> NDArray[np.uint8] | None:
    if (grays == used).all():
        return None
    classes = grays[(grays > 0) & (grays < IGNORE)]
    if (len(classes) and classes.max() < _SHADES) or (not len(classes) and not (np.diff(grays) > 0).all()):
        numbers[used] = grays
        return numbers.astype(np.uint8)
    if (np.diff(grays) > 0).all():
        return None  # classes shown as grays from dark to light
    raise UserError(
        f"mask {path} has a palette of grays ({', '.join(map(str, grays[:4]))}) unlike its indices "
        f"({', '.join(map(str, used[:4]))}); save it as 8-bit gray with the class numbers"
    )


def _unknown_color(path: Path, color: Color) -> UserError:
    named = ", ".join(map(str, color))
    return UserError(f"mask {path} holds the color {named}, which no class has; correct it or the list of classes")


def _by_color(path: Path, rgb_HW3: NDArray[np.uint8], colors: Sequence[Color]) -> NDArray[np.uint8]:
    code_HW = rgb_HW3.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    found, inverse = np.unique(code_HW, return_inverse=True)
    known = {(r << 16) + (g << 8) + b: i for i, (r, g, b) in enumerate(colors)}
    known.setdefault((OUTLINE[0] << 16) + (OUTLINE[1] << 8) + OUTLINE[2], IGNORE)
    unknown = [int(code) for code in found if int(code) not in known]
    if unknown:
        red, green, blue = (unknown[0] >> shift & 255 for shift in (16, 8, 0))
        raise _unknown_color(path, (red, green, blue))
    return np.array([known[int(code)] for code in found], np.uint8)[inverse].reshape(code_HW.shape)


def _rgb(color: NDArray[Any]) -> Color:
    return int(color[0]), int(color[1]), int(color[2])


@cache
def _voc_numbers() -> dict[Color, int]:
    return {_rgb(color): i for i, color in enumerate(PALETTE)}


def present(mask_HW: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which of the 256 numbers a mask holds, as bool (256,)."""
    return np.array(Image.fromarray(mask_HW).histogram()) > 0  # four times as fast as numpy.bincount


def refuse_ignored_objects(masks: Iterable[Path | NDArray[np.uint8]], where: str) -> None:
    """Raises UserError when masks hold nothing but 0 and 255: objects stored as 255.

    Reads masks until one holds another number. where: the folder they come from, for the sentence.
    """
    ignored = False
    for mask in masks:
        try:
            held = present(read_mask(mask) if isinstance(mask, Path) else mask)
        except UserError:
            continue  # a mask that cannot be read is named when it is used
        if held[1:IGNORE].any():
            return
        ignored = ignored or bool(held[IGNORE])
    if ignored:
        raise UserError(ignored_objects(where))


def ignored_objects(where: str) -> str:
    """The sentence about masks that hold nothing but 0 and 255."""
    return (
        f"the masks of {where} hold only 0 and 255, and 255 means ignored; if it stands for objects, store the number of "
        "their class (1, 2, ...) instead"
    )
