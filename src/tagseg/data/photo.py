"""Reading photos and masks: Pillow behind an allow-list of formats and a cap on pixels.

Shapes: H W pixels after EXIF orientation.
"""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from tagseg.data.suffixes import HAS_AVIF, HAS_HEIC
from tagseg.data.suffixes import PHOTO_SUFFIXES as PHOTO_SUFFIXES
from tagseg.errors import UserError

if HAS_HEIC:
    import pillow_heif

    pillow_heif.register_heif_opener()

PIXEL_CAP = 100_000_000
PHOTO_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", *("AVIF",) * HAS_AVIF, *("HEIF",) * HAS_HEIC)
MASK_FORMATS = ("PNG", "BMP", "TIFF", "GIF")
_ORIENTATION = 0x0112  # the EXIF tag; values 5 to 8 swap height and width


def read_photo(path: Path, *, pixel_cap: int = PIXEL_CAP, min_side: int | None = None) -> np.ndarray:
    """A photo as RGB, upright: uint8 (H, W, 3).

    With `min_side` a large JPEG may come at 1/2, 1/4 or 1/8 of its size as long as no side falls below it, which
    decodes several times faster.

    Grey, palette, CMYK and 16-bit files are converted (16 bits keep their upper byte), transparency is laid over
    white, and of an animation the first frame is taken. Raises UserError naming the file when it is missing, empty,
    truncated, of another format, holds floating-point values or more than `pixel_cap` pixels.
    """
    try:
        with Image.open(path, formats=PHOTO_FORMATS) as image:
            _check_cap(path, image, pixel_cap)
            turn = _orientation(image)
            if min_side is not None and image.format in ("JPEG", "MPO"):
                image.draft(None, (min_side, min_side))
            image.load()
            upright = image if turn == 1 else ImageOps.exif_transpose(image)
            return _rgb(path, upright)
    except Exception as error:  # a decoder may raise anything at all on a broken file
        _refuse(path, "photo", error)


def read_mask(path: Path, *, pixel_cap: int = PIXEL_CAP) -> np.ndarray:
    """The values stored in a mask, palette or 8-bit grey, as uint8 (H, W).

    Raises UserError naming the file when it cannot be read or holds colours instead of class indices.
    """
    try:
        with Image.open(path, formats=MASK_FORMATS) as image:
            _check_cap(path, image, pixel_cap)
            if image.mode not in ("P", "L", "1"):
                raise UserError(
                    f"mask {path} has mode {image.mode}, not class indices; save it as a palette or 8-bit grey PNG"
                )
            return np.array(image, dtype=np.uint8)
    except Exception as error:
        _refuse(path, "mask", error)


def photo_size(path: Path) -> tuple[int, int]:
    """(H, W) of a photo after EXIF orientation, read from its header without decoding a pixel."""
    try:
        with Image.open(path, formats=PHOTO_FORMATS) as image:
            # Pillow swaps the sides of a turned TIFF itself in some versions only: ask the file.
            tags = getattr(image, "tag_v2", None) if image.format == "TIFF" else None
            width, height = (int(tags[256]), int(tags[257])) if tags is not None else image.size
            return (width, height) if _orientation(image) in (5, 6, 7, 8) else (height, width)
    except Exception as error:
        _refuse(path, "photo", error)


def _check_cap(path: Path, image: Image.Image, pixel_cap: int) -> None:
    width, height = image.size
    if width * height > pixel_cap:
        raise UserError(
            f"{path} has {width} x {height} pixels, more than the cap of {pixel_cap:,}; shrink it or leave it out "
            "(`tagseg predict --pixel-cap` sets a higher one)"
        )


def _orientation(image: Image.Image) -> int:
    # A PNG's EXIF may stand behind its pixels; only what stands before counts, so that size and pixels agree.
    if image.format == "PNG" and "exif" not in image.info:
        return 1
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # a broken EXIF block doesn't make the pixels unreadable
        return 1


def _rgb(path: Path, image: Image.Image) -> np.ndarray:
    if image.mode == "F":
        raise UserError(f"photo {path} holds floating-point values; save it with 8 or 16 bits a channel")
    if image.mode.startswith("I"):  # 16-bit grey; Pillow's own conversion would clip instead of scaling
        grey_HW = (np.clip(np.asarray(image, dtype=np.int64), 0, 65535) >> 8).astype(np.uint8)
        return np.repeat(grey_HW[:, :, None], 3, axis=2)
    if image.has_transparency_data:
        over = image.convert("RGBA")
        white = Image.new("RGBA", over.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, over)
    if image.mode != "RGB":
        image = image.convert("RGB")
    return np.array(image)


def _refuse(path: Path, what: str, error: Exception) -> NoReturn:
    if isinstance(error, UserError):
        raise error
    if isinstance(error, FileNotFoundError):
        raise UserError(f"{what} {path} does not exist") from error
    if isinstance(error, IsADirectoryError):
        raise UserError(f"{what} {path} is a folder, not a file") from error
    if isinstance(error, Image.DecompressionBombError):
        raise UserError(f"{what} {path} has too many pixels; shrink it or leave it out ({error})") from error
    if isinstance(error, UnidentifiedImageError):
        formats = ", ".join(MASK_FORMATS if what == "mask" else PHOTO_FORMATS)
        reason = "is empty" if _is_empty(path) else f"is none of {formats}, or damaged"
        raise UserError(f"{what} {path} {reason}; replace it or leave it out") from error
    raise UserError(f"{what} {path} cannot be read ({error}); replace it or leave it out") from error


def _is_empty(path: Path) -> bool:
    try:
        return path.stat().st_size == 0
    except OSError:
        return False
