"""The photos that a person names for prediction: a folder, a list, a pattern, a zip file, single photos."""

from __future__ import annotations

import glob
import re
import shutil
import stat
import tempfile
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from zipfile import ZipFile

import numpy as np
from PIL import Image

from tagseg.data.folders import find_photos, stem
from tagseg.data.photo import PHOTO_SUFFIXES, PIXEL_CAP, photo_size, read_photo
from tagseg.errors import UserError
from tagseg.foreign import shown
from tagseg.places import check_output

BOMB_RATIO, BOMB_BYTES = 200, 1 << 24  # a photo that unpacks to more than both is none
BYTES_A_PIXEL = 8  # RGBA with 16 bits a channel


@dataclass(frozen=True)
class PhotoInput:
    """One photo. name: under which its result is kept, forward slashes, no suffix. file_name: the same with suffix."""

    name: str
    file_name: str
    path: Path
    archive: ZipFile | None = None
    member: str = ""

    def read(self, *, pixel_cap: int = PIXEL_CAP) -> np.ndarray:
        """The photo as uint8 (H, W, 3) RGB. Raises UserError that names it when it is broken, or beyond the cap."""
        if self.archive is None:
            return _read(self.path, str(self.path), pixel_cap)
        shown = f"{self.path}: {self.member}"
        with tempfile.TemporaryDirectory(prefix="tagseg-") as folder:
            # Its own name there: what a zip file calls it decides nothing about where it goes.
            unpacked = Path(folder, "photo" + PurePosixPath(self.file_name).suffix)
            _unpack(self.archive, self.member, unpacked, shown, pixel_cap)
            try:
                return _read(unpacked, shown, pixel_cap)
            except UserError as error:
                raise UserError(str(error).replace(str(unpacked), shown)) from error


@dataclass
class Inputs:
    """Photos in order, and a sentence about each that cannot be used."""

    photos: list[PhotoInput] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


@contextmanager
def open_inputs(sources: Sequence[str | Path], *, out: Path) -> Iterator[Inputs]:
    """Photos of folders, .txt lists (a path a line, relative to the list), patterns with * or **, .zip files, files.

    Folders and patterns are in natural order (frame2 before frame10), lists and zip files in their own. Names are paths
    below the folder, list, or fixed part of the pattern; of single photos the file's name. `out` is where the results go:
    it may not be, hold or lie inside a source, and a photo of a list or pattern that lies there becomes a problem. In lists
    and zip files names that lead outside are refused, each with a sentence in `problems`, as are photos that would share a name.
    Raises UserError when a source does not exist or cannot be read at all.
    """
    inputs = Inputs()
    taken: dict[str, str] = {}
    with ExitStack() as stack:
        for source in sources:
            check_output(out, [Path(source)])
            found = _open(source, out.resolve(), inputs.problems, stack)
            if not found and not inputs.problems:
                raise UserError(f"{source} holds no photo (jpg, png, webp, bmp, tif, gif).")
            for photo in found:
                if photo.name in taken:
                    other = taken[photo.name]
                    text = f"{photo.path} {photo.file_name}: {other} has the same name; rename one of them"
                    inputs.problems.append(text)
                else:
                    taken[photo.name] = photo.file_name
                    inputs.photos.append(photo)
        yield inputs


def natural_key(text: str) -> list[tuple[int, int | str]]:
    """Sorts numbers inside names by their value."""
    return [(0, int(part)) if part.isdecimal() else (1, part.casefold()) for part in re.split(r"(\d+)", text) if part]


def _open(source: str | Path, out: Path, problems: list[str], stack: ExitStack) -> list[PhotoInput]:
    path = Path(source)
    try:
        path.stat()
        there = True
    except (OSError, ValueError):  # also of a name that is too long for a file, from which Path.is_dir would raise
        there = False
    if there and path.is_dir():
        found = find_photos(path)
        return [_input(name, found[name]) for name in sorted(found, key=natural_key)]
    if there and path.suffix.lower() == ".zip":
        return list(_members(path, problems, stack))
    if there and path.suffix.lower() == ".txt":
        photos = list(_listed(path, problems))
    elif there:
        photos = [_input(path.name, path)]
    elif glob.has_magic(str(source)):
        photos = _matching(str(source))
    else:
        raise UserError(f"There is no photo, folder, list or zip file {shown(str(source))}.")
    for photo in [photo for photo in photos if _inside(photo.path, out)]:
        photos.remove(photo)
        problems.append(f"{photo.path} lies in the folder of the results; choose another --out")
    return photos


def _input(file_name: str, path: Path) -> PhotoInput:
    file_name = unicodedata.normalize("NFC", file_name)
    return PhotoInput(stem(file_name), file_name, path)


def _inside(path: Path, folder: Path) -> bool:
    return path.parent.resolve().is_relative_to(folder)


def _listed(path: Path, problems: list[str]) -> Iterator[PhotoInput]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"the list {path} cannot be read as UTF-8 text ({error})") from error
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if not text:
            continue
        if ".." in PureWindowsPath(text).parts or "\0" in text:
            where = f"{path}, line {number}"
            problems.append(f"{where}: {text!r} leads outside the list's folder; write the path without `..`")
        elif Path(text).is_absolute():
            own = Path(text)
            inside = own.is_relative_to(path.parent.absolute())
            yield _input(own.relative_to(path.parent.absolute()).as_posix() if inside else own.name, own)
        else:
            relative = PurePosixPath(text.replace("\\", "/")) if "/" not in text else PurePosixPath(text)
            yield _input(relative.as_posix(), path.parent / relative)


def _matching(pattern: str) -> list[PhotoInput]:
    parts = Path(pattern).parts
    fixed = Path(*parts[: next(i for i, part in enumerate(parts) if glob.has_magic(part))])
    found = {}
    for match in glob.glob(pattern, recursive=True):  # noqa: PTH207 (patterns may be absolute)
        path = Path(match)
        if path.suffix.lower() in PHOTO_SUFFIXES and path.is_file():
            found[path.relative_to(fixed).as_posix()] = path
    return [_input(name, found[name]) for name in sorted(found, key=natural_key)]


def _members(path: Path, problems: list[str], stack: ExitStack) -> Iterator[PhotoInput]:
    try:
        archive = stack.enter_context(ZipFile(path))
    except (zipfile.BadZipFile, OSError) as error:
        raise UserError(f"{path} cannot be read as a zip file ({error})") from error
    for info in archive.infolist():
        name = info.orig_filename.replace("\\", "/")
        inner = PurePosixPath(name)
        hidden = any(part.startswith(".") and part != ".." for part in inner.parts) or inner.parts[:1] == ("__MACOSX",)
        if name.endswith("/") or inner.suffix.lower() not in PHOTO_SUFFIXES or hidden:
            continue
        windows = PureWindowsPath(name)
        if ".." in inner.parts or "\0" in name or inner.is_absolute() or windows.drive or windows.root:
            problems.append(f"{path}: {info.orig_filename!r} leads outside the zip file; pack it with a relative path")
        elif stat.S_ISLNK(info.external_attr >> 16):
            problems.append(f"{path}: {info.filename!r} is a link; pack the photo itself")
        else:
            photo = _input(inner.as_posix(), path)
            yield PhotoInput(photo.name, photo.file_name, path, archive, info.filename)


def _unpack(archive: ZipFile, member: str, target: Path, shown: str, pixel_cap: int) -> None:
    info = archive.getinfo(member)
    size = info.file_size
    if size > BYTES_A_PIXEL * pixel_cap + BOMB_BYTES:
        raise UserError(f"{shown} unpacks to {size:,} bytes, more than a photo within the cap of pixels; leave it out")
    if size > BOMB_BYTES and size > BOMB_RATIO * info.compress_size:
        times = size // max(info.compress_size, 1)
        raise UserError(f"{shown} unpacks to {times} times its size, as a bomb does; leave it out, or unpack it")
    try:
        with archive.open(info) as packed, target.open("wb") as plain:
            shutil.copyfileobj(packed, plain, 1 << 20)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError, OSError) as error:
        raise UserError(f"{shown} cannot be unpacked ({error})") from error


def _read(path: Path, shown: str, pixel_cap: int) -> np.ndarray:
    limit = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None  # Pillow's own cap is lower than the one asked for here, which is always checked
    try:
        height, width = photo_size(path)
        if height * width > pixel_cap:
            raise UserError(
                f"{shown} has {width} x {height} pixels, more than the cap of {pixel_cap:,}; shrink it, leave it out, "
                f"or raise the cap with --pixel-cap {height * width}"
            )
        return read_photo(path, pixel_cap=pixel_cap)
    finally:
        Image.MAX_IMAGE_PIXELS = limit
