"""The photos that a person names for prediction: a folder, a list, a pattern, a zip file, single photos."""

from __future__ import annotations

import glob
import os
import re
import shutil
import stat
import tempfile
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from zipfile import ZipFile

import numpy as np

from tagseg.data.folders import look_into, some, stem
from tagseg.data.paths import inside, lies_inside
from tagseg.data.photo import page_count, photo_size, read_photo
from tagseg.data.pictures import PIXEL_CAP
from tagseg.data.suffixes import PHOTO_SUFFIXES, UNREAD_SUFFIXES, suffix, to_read
from tagseg.data.text import quoted
from tagseg.errors import UserError
from tagseg.foreign import DATA_CAP, read_text, reading, reason
from tagseg.places import check_output, ignores_case, is_hidden

BOMB_RATIO, BOMB_BYTES = 200, 1 << 24  # a photo that unpacks to more than both is none
LONGEST_NAME = 255  # bytes of a file's name on all systems in use
BYTES_A_PIXEL = 8  # RGBA with 16 bits a channel


@dataclass(frozen=True)
class PhotoInput:
    """One photo. name: under which its result is kept, forward slashes, no suffix. file_name: the same with suffix."""

    name: str
    file_name: str
    path: Path
    archive: ZipFile | None = None
    member: str = ""

    @property
    def link(self) -> str:
        """The photo's path below the folder above that of the photos: `photos/a.jpg`; of a zip's photo its name there."""
        if self.archive is not None:
            return self.file_name
        depth = len(PurePosixPath(self.file_name).parts)
        return "/".join([*self.path.absolute().parts[1:][-depth - 1 : -depth], self.file_name])

    def read(self, *, pixel_cap: int = PIXEL_CAP) -> np.ndarray:
        """The photo as uint8 (H, W, 3) RGB. Raises UserError that names it when it is broken, or beyond the cap."""
        shown = str(self.path) if self.archive is None else f"{self.path}: {self.member}"
        with self._file(shown, pixel_cap) as path:
            try:
                return _read(path, shown, pixel_cap)
            except UserError as error:
                raise UserError(str(error).replace(str(path), shown)) from error

    def pages(self, *, pixel_cap: int = PIXEL_CAP) -> int:
        """How many pages the photo has, of which `read` gives one. Raises UserError as `read` does."""
        if suffix(self.file_name) not in (".tif", ".tiff"):
            return 1
        with self._file(f"{self.path}: {self.member}", pixel_cap) as path:
            return page_count(path)

    @contextmanager
    def _file(self, shown: str, pixel_cap: int) -> Iterator[Path]:
        if self.archive is None:
            yield self.path
            return
        with tempfile.TemporaryDirectory(prefix="tagseg-") as folder:
            # Its own name there: what a zip file calls it decides nothing about where it goes.
            unpacked = Path(folder, "photo" + PurePosixPath(self.file_name).suffix)
            _unpack(self.archive, self.member, unpacked, shown, pixel_cap)
            yield unpacked


@dataclass
class Inputs:
    """Photos in order. problems: a sentence about each that cannot be used. notes: about other files that are not read.

    folders: those that photos come from, for tables that name photos by longer paths.
    """

    photos: list[PhotoInput] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)


@contextmanager
def open_inputs(sources: Sequence[str | Path], *, out: Path) -> Iterator[Inputs]:
    """Photos of folders, .txt lists (a path a line, relative to the list), patterns with * or **, .zip files, files.

    Folders and patterns are in natural order (frame2 before frame10), lists and zip files in their own. Names are paths
    below the folder, list, or fixed part of the pattern; of single photos the file's name. `out` is where the results go:
    it may not be, hold or lie inside a source, and a photo of a list or pattern that lies there becomes a problem. In lists
    and zip files names and links that lead outside are refused, each with a sentence in `problems`, as are photos that
    would share a name, and pictures that are not read. Raises UserError when a source does not exist or cannot be read at
    all.
    """
    inputs = Inputs()
    taken: dict[str, str] = {}
    same = str.casefold if ignores_case(out) else str
    with ExitStack() as stack:
        for source in sources:
            check_output(out, [Path(source)])
            found = _open(source, out.resolve(), inputs, stack)
            if not found and not inputs.problems:
                raise UserError(f"{source} holds no photo ({', '.join(sorted(end[1:] for end in PHOTO_SUFFIXES))}).")
            for photo in found:
                if same(photo.name) in taken:
                    other = taken[same(photo.name)]
                    text = f"{photo.path} {photo.file_name}: {other} has the same name; rename one of them"
                    inputs.problems.append(text)
                else:
                    taken[same(photo.name)] = photo.file_name
                    inputs.photos.append(photo)
        yield inputs


def natural_key(text: str) -> list[tuple[int, int | str]]:
    """Sorts numbers inside names by their value."""
    return [(0, int(part)) if part.isdecimal() else (1, part.casefold()) for part in re.split(r"(\d+)", text) if part]


def _open(source: str | Path, out: Path, inputs: Inputs, stack: ExitStack) -> list[PhotoInput]:
    path, problems = Path(source), inputs.problems
    # os.path: Path.is_dir and Path.is_file raise on a name that is too long
    if os.path.isdir(path):  # noqa: PTH112
        inputs.folders.append(path)
        found = look_into(path)
        for problem in found.not_read():
            fatal = problem.fatal or problem.kind == "photo not read"
            (problems if fatal else inputs.notes).append(f"{path}: {problem.text}")
        photos = found.photos
        return [_input(name, photos[name]) for name in sorted(photos, key=natural_key)]
    if os.path.isfile(path):  # noqa: PTH113
        end = path.suffix.lower()
        if end == ".zip":
            return list(_members(path, inputs, stack))
        if end == ".txt":
            inputs.folders.append(path.parent)
            photos_of = list(_listed(path, problems))
        else:
            inputs.folders.append(path.parent)
            photos_of = [_input(path.name, path)]
    elif glob.has_magic(str(source)):
        photos_of = _matching(str(source), inputs)
    else:
        exists = os.path.exists(path)  # noqa: PTH110
        raise UserError(
            f"{source} is a pipe or a device, no file."
            if exists
            else f"There is no photo, folder, list or zip file {quoted(str(source))}."
        )
    for photo in [photo for photo in photos_of if _inside(photo.path, out)]:
        photos_of.remove(photo)
        problems.append(f"{photo.path} lies in the folder of the results; choose another --out")
    return photos_of


def _input(file_name: str, path: Path) -> PhotoInput:
    file_name = unicodedata.normalize("NFC", file_name)
    return PhotoInput(stem(file_name), file_name, path)


def _inside(path: Path, folder: Path) -> bool:
    return path.parent.resolve().is_relative_to(folder)


def _names_it_so(text: str, relative: str) -> bool:
    """Whether a file may have the name as it is written: with a backslash in it, or letters and accents apart."""
    return "\\" in text or unicodedata.normalize("NFC", text) == relative


def _listed(path: Path, problems: list[str]) -> Iterator[PhotoInput]:
    lines = read_text(path, "a list of photos", DATA_CAP, "write one path a line, as UTF-8").split("\n")
    known: dict[Path, bool] = {}
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if not text:
            continue
        where = f"{path}, line {number}: {quoted(text)}"
        relative = inside(text, [path.parent])
        if relative and _names_it_so(text, relative) and os.path.isfile(path.parent / text):  # noqa: PTH113
            relative = text
        if relative is None:
            problems.append(f"{where} leads outside the list's folder; write a path below it, without `..`")
        elif any(len(os.fsencode(part)) > LONGEST_NAME for part in relative.split("/")):
            problems.append(f"{where} is too long for the name of a file; correct the list")
        elif not lies_inside(path.parent / relative, path.parent, known):
            problems.append(f"{where} is a link that leads outside the list's folder; give the photos' folder itself")
        else:
            yield _input(relative, path.parent / relative)


def _matching(pattern: str, inputs: Inputs) -> list[PhotoInput]:
    parts = Path(pattern).parts
    fixed = Path(*parts[: next(i for i, part in enumerate(parts) if glob.has_magic(part))])
    inputs.folders.append(fixed)
    found, unread = {}, defaultdict[str, list[str]](list)
    for match in sorted(glob.glob(pattern, recursive=True)):  # noqa: PTH207 (patterns may be absolute)
        path = Path(match)
        if not path.is_file():
            continue
        if suffix(path.name) in PHOTO_SUFFIXES:
            found[path.relative_to(fixed).as_posix()] = path
        elif not is_hidden(PurePosixPath(path.name)):
            unread[suffix(path.name)].append(path.name)
    _tell_unread(pattern, unread, inputs)
    return [_input(name, found[name]) for name in sorted(found, key=natural_key)]


def _members(path: Path, inputs: Inputs, stack: ExitStack) -> Iterator[PhotoInput]:
    unread = defaultdict[str, list[str]](list)
    with reading(path, "a zip file", "pack the photos again, or give their folder"):
        archive = stack.enter_context(ZipFile(path))
    for info in archive.infolist():
        name = info.orig_filename.replace("\\", "/")
        inner = PurePosixPath(name)
        if name.endswith("/") or is_hidden(inner) or inner.parts[:1] == ("__MACOSX",):
            continue
        if suffix(name) not in PHOTO_SUFFIXES:
            unread[suffix(name)].append(inner.name)
        elif inside(name) is None or ":" in inner.parts[0]:
            inputs.problems.append(f"{path}: {quoted(name)} leads outside the zip file; pack it with a relative path")
        elif stat.S_ISLNK(info.external_attr >> 16):
            inputs.problems.append(f"{path}: {quoted(name)} is a link; pack the photo itself")
        else:
            photo = _input(inner.as_posix(), path)
            yield PhotoInput(photo.name, photo.file_name, path, archive, info.filename)
    _tell_unread(path, unread, inputs)


def _tell_unread(source: str | Path, unread: dict[str, list[str]], inputs: Inputs) -> None:
    """A sentence for each suffix of the files of a source that are not read: a problem where they are pictures."""
    for end, names in sorted(unread.items()):
        text = f"{source}: {len(names):,} {end or 'other'} file{'s' * (len(names) > 1)} not read ({some(names)})"
        if end in UNREAD_SUFFIXES:
            inputs.problems.append(f"{text}; {to_read(end)}")
        else:
            inputs.notes.append(text)


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
    except Exception as error:  # each way of packing raises its own
        raise UserError(f"{shown} cannot be unpacked ({reason(error)})") from error


def _read(path: Path, shown: str, pixel_cap: int) -> np.ndarray:
    height, width = photo_size(path)
    if height * width > pixel_cap:
        raise UserError(
            f"{shown} has {width} x {height} pixels, more than the cap of {pixel_cap:,}; shrink it, leave it out, "
            f"or raise the cap with --pixel-cap {height * width}"
        )
    return read_photo(path, pixel_cap=pixel_cap)
