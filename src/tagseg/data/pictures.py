"""Opening pictures: regular files of known formats, by no switch of the whole process, few large ones at a time."""

from __future__ import annotations

import os
import stat
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import IO, BinaryIO, NoReturn

from PIL import (
    BmpImagePlugin,  # noqa: F401 (these register their formats)
    GifImagePlugin,  # noqa: F401
    Image,
    ImageFile,
    JpegImagePlugin,  # noqa: F401
    PngImagePlugin,  # noqa: F401
    TiffImagePlugin,  # noqa: F401
    UnidentifiedImageError,
    WebPImagePlugin,  # noqa: F401
)

from tagseg.data.suffixes import HAS_AVIF, UNREAD_SUFFIXES, suffix, to_read
from tagseg.errors import UserError
from tagseg.foreign import reason

if HAS_AVIF:
    from PIL import AvifImagePlugin  # noqa: F401

PIXEL_CAP = 100_000_000
SMALL = 16 << 20  # bytes, below which pictures are decoded side by side as they come
BYTES_A_PIXEL = 12  # what decoding and converting to RGB take at their height


@contextmanager
def open_picture(source: Path | IO[bytes], formats: Sequence[str]) -> Iterator[ImageFile.ImageFile]:
    """A picture of one of `formats`, its header read and no pixel decoded.

    Pillow's own cap of pixels, a switch of the whole process, plays no part: callers look at `size` themselves. Raises
    whatever a decoder raises, and UserError for what is no regular file (a pipe would wait for ever).
    source: a path, or a stream of a file's bytes, which stays open.
    """
    with _open_regular(source) if isinstance(source, Path) else nullcontext(source) as file:
        image = _identify(file, os.fspath(source) if isinstance(source, Path) else "", formats)
        try:
            yield image
        finally:
            image.close()


def _open_regular(path: Path) -> BinaryIO:
    file = open(path, "rb", opener=_without_waiting)  # noqa: SIM115 (Path.open has no opener; the caller closes it)
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise UserError(f"{path} is no regular file but a pipe or a device; leave it out")
    return file


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # else a pipe waits for someone to write


def _identify(file: IO[bytes], name: str, formats: Sequence[str]) -> ImageFile.ImageFile:
    # As Image.open does, without its check of MAX_IMAGE_PIXELS.
    prefix = file.read(16)
    for name in formats:
        if name == "HEIF":
            _register_heif()
        factory, accept = Image.OPEN[name]
        if accept is not None and accept(prefix) is not True:
            continue
        file.seek(0)
        try:
            return factory(file, name)
        except (SyntaxError, IndexError, TypeError, struct.error):
            continue  # looked like this format, and is not
    raise UnidentifiedImageError(f"cannot identify image file {name}")


@cache
def _register_heif() -> None:
    import pillow_heif  # its libraries take a while to load, and few folders hold such a photo

    pillow_heif.register_heif_opener()


class _Memory:
    """Bytes that may be in use at a time; who asks for more than all of them waits to be alone."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.reset()

    def reset(self) -> None:
        self.used = 0
        self.changed = threading.Condition()

    @contextmanager
    def take(self, amount: int) -> Iterator[None]:
        amount = min(amount, self.limit)
        with self.changed:
            self.changed.wait_for(lambda: self.used + amount <= self.limit)
            self.used += amount
        try:
            yield
        finally:
            with self.changed:
                self.used -= amount
                self.changed.notify_all()


def _memory_limit() -> int:
    """A quarter of the machine's memory, at least 2 GiB."""
    try:
        return max(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4, 2 << 30)
    except (AttributeError, ValueError, OSError):
        return 2 << 30


_memory = _Memory(_memory_limit())
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_memory.reset)  # a lock that a thread of the parent holds is never given back


@contextmanager
def decoding(image: Image.Image) -> Iterator[None]:
    """Wait until there is memory to decode a picture, and hold it within the block; small ones never wait."""
    amount = image.size[0] * image.size[1] * BYTES_A_PIXEL
    with _memory.take(amount) if amount > SMALL else nullcontext():
        yield


def check_cap(shown: str, image: Image.Image, pixel_cap: int) -> None:
    """Raises UserError for a picture of more than `pixel_cap` pixels."""
    width, height = image.size
    if width * height > pixel_cap:
        raise UserError(
            f"{shown} has {width} x {height} pixels, more than the cap of {pixel_cap:,}; shrink it or leave it out "
            "(`tagseg predict --pixel-cap` sets a higher one)"
        )


def refuse(shown: str, what: str, formats: tuple[str, ...], error: Exception) -> NoReturn:
    """Raise what a decoder raised as a UserError that names the file and says what to do."""
    if isinstance(error, UserError):
        raise error
    if isinstance(error, FileNotFoundError):
        raise UserError(f"{what} {shown} does not exist") from error
    if isinstance(error, IsADirectoryError):
        raise UserError(f"{what} {shown} is a folder, not a file") from error
    if isinstance(error, UnidentifiedImageError) and suffix(shown) in UNREAD_SUFFIXES:
        raise UserError(f"{what} {shown} has a format that is not read; {to_read(suffix(shown))}") from error
    if isinstance(error, UnidentifiedImageError):
        why = "is empty" if _is_empty(Path(shown)) else f"is none of {', '.join(formats)}, or damaged"
        raise UserError(f"{what} {shown} {why}; replace it or leave it out") from error
    raise UserError(f"{what} {shown} cannot be read ({reason(error)}); replace it or leave it out") from error


def _is_empty(path: Path) -> bool:
    try:
        return path.stat().st_size == 0
    except OSError:
        return False
