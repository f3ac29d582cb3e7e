"""The photos of a plan: listed once, in a fixed order, each read when its turn comes.

They lie as files, as objects of a store, or inside tar archives, which are read in place.
"""

from __future__ import annotations

import os
import tarfile
import tempfile
import unicodedata
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tagseg.data.folders import stem
from tagseg.data.inputs import open_inputs
from tagseg.data.photo import PHOTO_SUFFIXES, read_photo
from tagseg.errors import UserError
from tagseg.files import digest_file, stamp
from tagseg.foreign import reading, shown
from tagseg.scale.places import Folder, Place, open_place

SIZE_CAP = 1 << 30  # bytes of one photo's file
BLOCK = tarfile.BLOCKSIZE  # the header before each file of a tar


@dataclass(frozen=True)
class Photo:
    """One photo of a plan.

    name: under which its mask is kept, forward slashes, no suffix. file_name: the same with suffix. place, key: where its
    file lies. size: bytes. version: what changes when the file does. offset: where it begins inside a tar, -1 for a file
    of its own. tags: what is known of it, None where nothing is. beside: the mask or the probabilities that belong to it.
    """

    name: str
    file_name: str
    place: str
    key: str
    size: int
    version: str
    offset: int = -1
    tags: tuple[str, ...] | None = None
    beside: Photo | None = None

    @property
    def lies(self) -> tuple[str, str]:
        """Where its file lies, or the archive that holds it, however that was spelled."""
        return _spelled(self.place, self.key)

    def row(self) -> dict[str, Any]:
        """As a line of the manifest."""
        return asdict(self)

    @classmethod
    def of(cls, row: dict[str, Any]) -> Photo:
        """From a line of the manifest."""
        tags, beside = row.pop("tags", None), row.pop("beside", None)
        return cls(**row, tags=None if tags is None else tuple(tags), beside=None if beside is None else cls.of(beside))

    @classmethod
    def at(cls, path: Path, name: str, file_name: str, tags: tuple[str, ...] | None = None) -> Photo:
        """One that is a file of this machine."""
        path = absolute(path)
        size, time = stamp(path)
        return cls(name, file_name, str(path.parent), path.name, size, str(time), tags=tags)

    @property
    def _local(self) -> bool:
        return self.offset < 0 and "://" not in self.place

    def digest(self) -> str:
        """What tells the contents of a file of this machine, and of what lies beside it; empty for others."""
        beside = "" if self.beside is None else self.beside.digest()
        try:
            return (digest_file(Path(self.place, self.key))[:16] if self._local else "") + beside
        except OSError:
            return ""

    def changed(self, digest: str = "") -> bool:
        """Whether a file of this machine, or what lies beside it, is another than was listed; False where nothing can tell.

        digest: that of the files that were worked at, where it is known. Without it the size alone counts: a file's time
        says nothing, for copying and synchronizing change it.
        """
        files = [each for each in (self, self.beside) if each is not None and each._local]
        try:
            now = [stamp(Path(each.place, each.key)) for each in files]
        except OSError:
            return False
        if any(size != each.size for (size, _), each in zip(now, files, strict=True)):
            return True
        touched = any(str(time) != each.version for (_, time), each in zip(now, files, strict=True))
        return bool(digest) and touched and self.digest() != digest

    def read(self, places: dict[str, Place], *, pixel_cap: int) -> NDArray[np.uint8]:
        """The pixels, uint8 (H, W, 3). places: those opened before. Raises UserError that names the photo."""
        with self.file(places) as path:
            return read_photo(path, pixel_cap=pixel_cap)

    @contextmanager
    def file(self, places: dict[str, Place]) -> Iterator[Path]:
        """Its file on this machine, brought here if need be. What goes wrong inside names it as the plan does."""
        if self.place not in places:
            places[self.place] = open_place(self.place, sources=True)
        place = places[self.place]
        if self.offset < 0 and isinstance(place, Folder):
            yield place.path / self.key
            return
        if self.size > SIZE_CAP:
            raise UserError(f"{self.file_name} has {self.size:,} bytes, more than a file may have; leave it out.")
        if self.offset < 0:
            content = place.read(self.key, start=0, size=self.size)
        else:
            content = place.read(self.key, start=self.offset - BLOCK, size=BLOCK + self.size)
            self._check_header(content[:BLOCK])
            content = content[BLOCK:]
        with tempfile.TemporaryDirectory(prefix="tagseg-") as folder:
            file = Path(folder, "photo" + PurePosixPath(self.file_name).suffix.lower())
            file.write_bytes(content)
            try:
                yield file
            except UserError as error:
                raise UserError(str(error).replace(str(file), self.file_name)) from error

    def _check_header(self, block: bytes) -> None:
        """Raise UserError where the archive holds something else by now where the photo was."""
        try:
            header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
            same = (
                header.size == self.size and 0 <= header.mtime - int(self.version) <= 1
            )  # rounded where the list has more
            # longer names, and those that are not ASCII, stand before this block in a form of their own
            plain = self.file_name.isascii() and len(self.file_name) < 100
            same &= not plain or PurePosixPath(header.name).as_posix() == self.file_name
        except (tarfile.TarError, ValueError):
            same = False
        if not same:
            raise UserError(
                f"{self.file_name} is not where it was in {self.key}, which was packed anew: choose another --out, for a new "
                "plan."
            )


def absolute(path: Path) -> Path:
    """A path from the root on, without `..`: what stands before the last of them is looked up, for it may be a link."""
    parts = path.absolute().parts
    last = max((place for place, part in enumerate(parts) if part == ".."), default=-1)
    return Path(os.path.realpath(Path(*parts[: last + 1])), *parts[last + 1 :]) if last >= 0 else Path(*parts)


def _spelled(place: str, key: str) -> tuple[str, str]:
    return (place.rstrip("/") if "://" in place else str(absolute(Path(place)))), key


def list_photos(sources: Sequence[str | Path], *, out: str) -> tuple[list[Photo], list[str]]:
    """The photos of folders, stores, tar archives, and of all that `open_inputs` reads but zip files; sorted by name.

    out: where the results go, which is never a source. Gives the photos, and a sentence about each that is left out.
    Raises UserError where a source does not exist or holds no photo.
    """
    photos: dict[str, Photo] = {}
    problems: list[str] = []
    for source in sources:
        text = str(source)
        found = list(
            _tar(text, problems)
            if text.endswith(".tar")
            else _store(text)
            if "://" in text
            else _local(text, out, problems)
        )
        if not found and not problems:
            raise UserError(f"{text} holds no photo.")
        for photo in found:
            if photo.name in photos:
                other = photos[photo.name].file_name
                problems.append(f"{photo.file_name}: {other} has the same name; rename one of them")
            else:
                photos[photo.name] = photo
    return [photos[name] for name in sorted(photos)], problems


def among(sources: Sequence[str | Path]) -> Callable[[Photo], bool]:
    """What tells whether a photo lies in one of the sources that `list_photos` takes, without listing folders and stores."""
    texts = [str(source) for source in sources]
    stores = {text.rstrip("/") for text in texts if "://" in text and not text.endswith(".tar")}
    tars = {
        _spelled(parent or ".", key)
        for text in texts
        if text.endswith(".tar")
        for parent, _, key in [text.rpartition("/")]
    }
    local = [Path(text) for text in texts if "://" not in text and not text.endswith(".tar")]
    folders = [str(absolute(path)).rstrip(os.sep) + os.sep for path in local if path.is_dir()]
    others = [path for path in local if not path.is_dir()]
    single: set[str] = set()
    if others:
        with open_inputs([str(path) for path in others], out=Path(".tagseg-nowhere")) as inputs:
            single = {str(absolute(photo.path)) for photo in inputs.photos}

    def lies(photo: Photo) -> bool:
        if photo.offset >= 0:
            return photo.lies in tars
        place, key = photo.lies
        if place in stores:
            return True
        path = os.path.join(place, key)  # noqa: PTH118
        plain = os.path.normpath(path) == path  # `..` leads anywhere
        return path in single or (plain and any(path.startswith(folder) for folder in folders))

    return lies


def list_files(source: str, suffixes: Collection[str]) -> tuple[list[Photo], list[str]]:
    """The files with such suffixes of a store or a tar archive, and a sentence about each that is left out."""
    problems: list[str] = []
    found = _tar(source, problems, suffixes) if source.endswith(".tar") else _store(source, suffixes)
    return sorted(found, key=lambda photo: photo.name), problems


def _local(source: str, out: str, problems: list[str]) -> Iterator[Photo]:
    if source.endswith(".zip"):
        raise UserError(f"{source}: photos inside a zip file cannot be read by many; unpack it, or pack a .tar.")
    with open_inputs([source], out=Path(out if "://" not in out else ".tagseg-nowhere")) as inputs:
        problems += inputs.problems
        for photo in inputs.photos:
            yield Photo.at(photo.path, photo.name, photo.file_name)


def _store(url: str, suffixes: Collection[str] = PHOTO_SUFFIXES) -> Iterator[Photo]:
    place = open_place(url, sources=True)
    for entry in place.find():
        if PurePosixPath(entry.key).suffix.lower() in suffixes and not entry.key.startswith("."):
            name = unicodedata.normalize("NFC", entry.key)
            yield Photo(stem(name), name, url, entry.key, entry.size, entry.version)


def _tar(url: str, problems: list[str], suffixes: Collection[str] = PHOTO_SUFFIXES) -> Iterator[Photo]:
    """The photos inside a tar, by where their bytes lie; links, devices and names that lead out are left out."""
    parent, _, key = url.rpartition("/")
    place = open_place(parent or ".", sources=True)
    with (
        reading(url, "a tar archive, not compressed"),
        place.open(key) as file,
        tarfile.open(fileobj=file, mode="r:") as tar,
    ):
        for member in tar:
            path = PurePosixPath(member.name)
            if path.suffix.lower() not in suffixes or path.name.startswith("."):
                continue
            if path.is_absolute() or ".." in path.parts or "\\" in member.name:
                problems.append(f"{url}: {shown(member.name)} leads outside the archive; pack it with a relative path")
            elif not member.isreg() or member.issparse():
                problems.append(f"{url}: {shown(member.name)} is no plain file; pack the photo itself")
            else:
                name = unicodedata.normalize("NFC", path.as_posix())
                version = str(int(member.mtime))
                yield Photo(stem(name), name, parent or ".", key, member.size, version, member.offset_data)
