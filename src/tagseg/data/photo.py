"""Reading photos: Pillow behind an allow-list of formats and a cap on pixels; how a file stores them is looked up.

Shapes: H W pixels after EXIF orientation.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from tagseg.data.masks import read_mask as read_mask
from tagseg.data.pictures import PIXEL_CAP as PIXEL_CAP
from tagseg.data.pictures import check_cap, decoding, open_picture, refuse
from tagseg.data.suffixes import HAS_AVIF, HAS_HEIC, suffix
from tagseg.data.suffixes import PHOTO_SUFFIXES as PHOTO_SUFFIXES
from tagseg.data.tiff import DeepGray, check_tiff, full_page, unpack_planes
from tagseg.errors import UserError

PHOTO_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", *("AVIF",) * HAS_AVIF, *("HEIF",) * HAS_HEIC)
_ORIENTATION = 0x0112  # the EXIF tag
_SHOWN = {"JPEG": "image/jpeg", "MPO": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}  # by every browser
SIDEWAYS = (5, 6, 7, 8)  # its values that swap height and width
_ROWS = 256  # of a picture that are converted at a time, where that takes several times their size


def read_photo(
    path: Path | IO[bytes], *, pixel_cap: int = PIXEL_CAP, min_side: int | None = None, name: str = ""
) -> np.ndarray:
    """A photo as RGB, upright: uint8 (H, W, 3).

    With `min_side` a large JPEG may come at 1/2, 1/4 or 1/8 of its size as long as no side falls below it, which
    decodes several times faster.

    Gray, palette, CMYK and 16-bit files are converted (16 bits keep their upper byte), transparency is laid over
    white. Of an animation the first frame is taken, of a TIFF with several pages the first that is no thumbnail. Raises
    UserError naming the file when it is missing, empty, truncated, of another format, no regular file, holds
    floating-point, signed or 32-bit values, or more than `pixel_cap` pixels.
    path: or a stream of the file's bytes, with a `name` for messages.
    """
    shown = name or str(path)
    try:
        with open_picture(path, PHOTO_FORMATS) as image:
            full_page(image)
            check_cap(shown, image, pixel_cap)
            if min_side is not None and image.format in ("JPEG", "MPO"):
                image.draft(None, (min_side, min_side))
            return _decoded(shown, image)
    except Exception as error:  # a decoder may raise anything at all on a broken file
        refuse(shown, "photo", PHOTO_FORMATS, error)


def photo_of_image(image: Image.Image, *, pixel_cap: int = PIXEL_CAP) -> np.ndarray:
    """A picture that Pillow has opened or made, as `read_photo` gives that of a file. Raises UserError as well."""
    try:
        check_cap("The PIL image", image, pixel_cap)
        return _decoded("(a PIL image)", image)
    except Exception as error:
        refuse("(a PIL image)", "photo", PHOTO_FORMATS, error)


def _decoded(shown: str, image: Image.Image) -> NDArray[np.uint8]:
    stored = _prepared(shown, image)
    with decoding(image):
        image.load()
        return _rgb(shown, _upright(image, stored), stored)


@dataclass(frozen=True)
class _Stored:
    """How a file stores a picture: what a turned copy no longer tells.

    turn: EXIF orientation. format: Pillow's, None of a picture that was made. deep: `_is_deep`. gray: how 16 bits are meant.
    """

    turn: int
    format: str | None
    deep: bool
    gray: DeepGray


def _prepared(shown: str, image: Image.Image) -> _Stored:
    """How a picture is stored, before it is decoded; UserError where its values are those of no photo."""
    turn = _orientation(image)
    if image.format == "TIFF":
        check_tiff(shown, image)
        unpack_planes(image)
    return _Stored(turn, image.format, _is_deep(image), DeepGray.of(image))


def _upright(image: Image.Image, stored: _Stored) -> Image.Image:
    return image if stored.turn == 1 else ImageOps.exif_transpose(image)


@dataclass(frozen=True)
class PhotoFacts:
    """What decoding a photo tells. brightest: its largest value, 0..255, and flat: whether it is of one color; both only
    looked for where a few pixels leave it open (255, False). pages: of a TIFF, else 1.
    """

    height: int
    width: int
    brightest: int = 255
    flat: bool = False
    pages: int = 1


def look_at_photo(path: Path, *, dark: int, pixel_cap: int = PIXEL_CAP) -> PhotoFacts:
    """Decode a photo whole, and tell its size after EXIF orientation and whether it shows anything brighter than `dark`.

    Raises UserError as `read_photo` does, whose array is spared where it would tell nothing more.
    """
    try:
        with open_picture(path, PHOTO_FORMATS) as image:
            pages = page_count(path) if image.format == "TIFF" else 1
            full_page(image)
            check_cap(str(path), image, pixel_cap)
            stored = _prepared(str(path), image)
            with decoding(image):
                image.load()
                if image.format != "TIFF" and _shows_something(image, dark):
                    width, height = image.size[::-1] if stored.turn in SIDEWAYS else image.size
                    return PhotoFacts(height, width, pages=pages)
                rgb_HW3 = _rgb(str(path), _upright(image, stored), stored)
                flat = bool((rgb_HW3 == rgb_HW3[0, 0]).all())
                return PhotoFacts(len(rgb_HW3), rgb_HW3.shape[1], int(rgb_HW3.max()), flat, pages)
    except Exception as error:
        refuse(str(path), "photo", PHOTO_FORMATS, error)


def _shows_something(image: Image.Image, dark: int) -> bool:
    """Whether a few pixels of a loaded picture tell already that it is neither dark nor of one color."""
    if image.mode not in ("RGB", "L") or "transparency" in image.info:
        return False
    width, height = image.size
    pixels = {image.getpixel((width * i // 7, height * (3 * i % 7) // 7)) for i in range(7)}
    brightest = max(max(pixel) if isinstance(pixel, tuple) else pixel or 0 for pixel in pixels)
    return len(pixels) > 1 and brightest > dark


def photo_size(path: Path) -> tuple[int, int]:
    """(H, W) of a photo after EXIF orientation, read from its header without decoding a pixel."""
    try:
        with open_picture(path, PHOTO_FORMATS) as image:
            full_page(image)
            # Pillow swaps the sides of a turned TIFF itself in some versions only: ask the file.
            tags = getattr(image, "tag_v2", None) if image.format == "TIFF" else None
            width, height = (int(tags[256]), int(tags[257])) if tags is not None else image.size
            return (width, height) if _orientation(image) in SIDEWAYS else (height, width)
    except Exception as error:
        refuse(str(path), "photo", PHOTO_FORMATS, error)


def browser_type(source: Path | IO[bytes]) -> str | None:
    """The media type of a photo that browsers show as `read_photo` gives it: the first picture, as upright; None: they do not.

    Browsers go by the contents, turn a JPEG by its own EXIF alone, and play animations. Raises UserError as `photo_size`.
    """
    try:
        with open_picture(source, PHOTO_FORMATS) as image:
            kind = _SHOWN.get(image.format or "")
            if kind is None or (image.format in ("PNG", "WEBP") and getattr(image, "n_frames", 1) > 1):
                return None
            turn = _orientation(image)
            own = Image.Exif()  # without XMP, which Pillow reads too
            if image.format in ("JPEG", "MPO") and turn != 1:
                own.load(image.info.get("exif", b""))
            return kind if turn in (1, own.get(_ORIENTATION, 1)) else None
    except Exception as error:
        refuse(str(source) if isinstance(source, Path) else "", "photo", PHOTO_FORMATS, error)


def page_count(path: Path) -> int:
    """How many pages a TIFF has, of which `read_photo` reads one; 1 for all other formats, and where that cannot be told."""
    if suffix(path.name) not in (".tif", ".tiff"):
        return 1
    try:
        with warnings.catch_warnings(action="ignore"), open_picture(path, PHOTO_FORMATS) as image:
            return int(getattr(image, "n_frames", 1)) if image.format == "TIFF" else 1
    except Exception:  # a pointer to a page that was cut off does not make the first one unreadable
        return 1


def _orientation(image: Image.Image) -> int:
    # A PNG's EXIF may stand behind its pixels; only what stands before counts, so that size and pixels agree.
    if image.format == "PNG" and "exif" not in image.info:
        return 1
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # a broken EXIF block doesn't make the pixels unreadable
        return 1


def _is_deep(image: Image.Image) -> bool:
    """Whether a PNG in color stores 16 bits a channel; Pillow keeps their upper byte, but not that of `transparency`."""
    return image.format == "PNG" and any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))


def _rgb(shown: str, image: Image.Image, stored: _Stored) -> NDArray[np.uint8]:
    if image.mode == "F":
        raise UserError(f"photo {shown} holds floating-point values; save it with 8 or 16 bits a channel")
    if image.mode.startswith("I"):  # 16-bit gray; Pillow's own conversion would clip instead of scaling
        if image.mode == "I" and stored.format not in ("PNG", None):
            raise UserError(f"photo {shown} holds 32-bit integers; save it with 8 or 16 bits a channel")
        return _gray_of_16_bits(image, stored.gray)
    if stored.deep and isinstance(clear := image.info.get("transparency"), tuple):
        image.info["transparency"] = tuple(value >> 8 for value in clear)
    if image.has_transparency_data:
        return _over_white(image)
    if image.mode != "RGB":
        image = image.convert("RGB")
    return np.array(image)


def _gray_of_16_bits(image: Image.Image, stored: DeepGray) -> NDArray[np.uint8]:
    stored_HW = np.asarray(image)
    rgb_HW3 = np.empty((*stored_HW.shape, 3), np.uint8)
    clear = image.info.get("transparency")
    for top in range(0, len(stored_HW), _ROWS):
        rows = stored_HW[top : top + _ROWS]
        gray = (stored.shown(rows) >> 8).astype(np.uint8)
        if isinstance(clear, int):
            gray[rows == clear] = 255
        rgb_HW3[top : top + _ROWS] = gray[:, :, None]
    return rgb_HW3


def _over_white(image: Image.Image) -> NDArray[np.uint8]:
    width, height = image.size
    rgb_HW3 = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, _ROWS):
        over = image.crop((0, top, width, min(top + _ROWS, height))).convert("RGBA")
        white = Image.new("RGBA", over.size, (255, 255, 255, 255))
        rgb_HW3[top : top + _ROWS] = np.asarray(Image.alpha_composite(white, over).convert("RGB"))
    return rgb_HW3
