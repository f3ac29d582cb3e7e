"""What a TIFF says about the way its pixels are stored, which Pillow takes for granted in places."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from tagseg.errors import UserError

SUBFILE, BITS, COMPRESSION, PHOTOMETRIC, PLANAR, SAMPLE_FORMAT = 254, 258, 259, 262, 284, 339
_SEPARATE, _UNSIGNED, _RAW, _WHITE_IS_ZERO = 2, (1, 4), 1, 0
_MOST_PAGES = 10_000


def full_page(image: Image.Image) -> None:
    """Go to the first page of a TIFF that is no thumbnail, where there is one."""
    if image.format != "TIFF" or not _value(image, SUBFILE, 0) & 1:
        return
    for page in range(1, min(int(getattr(image, "n_frames", 1)), _MOST_PAGES)):
        image.seek(page)
        if not _value(image, SUBFILE, 0) & 1:
            return
    image.seek(0)


def check_tiff(shown: str, image: Image.Image) -> None:
    """Raises UserError for pixels whose values a photo cannot have: signed, floating-point, of more than 16 bits."""
    stored = _values(image, SAMPLE_FORMAT, 1)
    if 3 in stored or 6 in stored:
        raise UserError(f"photo {shown} holds floating-point values; save it with 8 or 16 bits a channel")
    if any(each not in _UNSIGNED for each in stored):
        raise UserError(f"photo {shown} holds signed integers; save it with unsigned ones of 8 or 16 bits a channel")
    if any(bits > 16 for bits in _values(image, BITS, 1)):
        raise UserError(
            f"photo {shown} holds {max(_values(image, BITS, 1))}-bit integers; save it with 8 or 16 bits a channel"
        )


def unpack_planes(image: Image.Image) -> None:
    """16 bits a channel, a plane for each color, not compressed: Pillow would take both bytes for pixels."""
    if (
        isinstance(image, ImageFile.ImageFile)
        and _value(image, PLANAR, 1) == _SEPARATE
        and _value(image, COMPRESSION, _RAW) == _RAW
        and set(_values(image, BITS, 1)) == {16}
    ):
        ending = ";16L" if image.tag_v2.prefix == b"II" else ";16B"  # type: ignore[attr-defined]
        image.tile = [
            tile._replace(args=(tile.args[0] + ending, *tile.args[1:]))
            if isinstance(tile.args, tuple) and len(tile.args[0]) == 1
            else tile
            for tile in image.tile
        ]


@dataclass(frozen=True)
class DeepGray:
    """What a file says about gray values of up to 16 bits. bits: those of a value. white_is_zero: as in `white_is_zero`."""

    bits: int = 16
    white_is_zero: bool = False

    @classmethod
    def of(cls, image: Image.Image) -> DeepGray:
        """Of an opened picture; a copy of it has lost the tags of a TIFF."""
        return cls(_values(image, BITS, 16)[0], white_is_zero(image)) if image.format == "TIFF" else cls()

    def shown(self, rows: NDArray[Any]) -> NDArray[np.uint16]:
        """Rows of a 16-bit gray picture from 0 = black to 65535 = white."""
        gray = np.clip(rows, 0, 65535).astype(np.uint16) if rows.dtype.itemsize > 2 else rows.astype(np.uint16)
        if 8 < self.bits < 16:
            gray <<= 16 - self.bits
        return np.uint16(65535) - gray if self.white_is_zero else gray


def white_is_zero(image: Image.Image) -> bool:
    """Whether a gray TIFF stores white as 0; Pillow inverts the values of up to 8 bits."""
    return image.format == "TIFF" and _value(image, PHOTOMETRIC, 1) == _WHITE_IS_ZERO


def _values(image: Image.Image, tag: int, default: int) -> tuple[int, ...]:
    found = getattr(image, "tag_v2", {}).get(tag, default)
    return tuple(int(value) for value in found) if isinstance(found, tuple | list) else (int(found),)


def _value(image: Image.Image, tag: int, default: int) -> int:
    return _values(image, tag, default)[0]
