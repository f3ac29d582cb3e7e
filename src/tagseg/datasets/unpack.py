"""Members of a tar or zip archive: looked through before any is written, read one by one, never outside their folder."""

from __future__ import annotations

import errno
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from gzip import BadGzipFile
from lzma import LZMAError
from pathlib import Path, PurePosixPath, PureWindowsPath
from shutil import copyfileobj
from typing import IO

from tagseg.datasets.archive import BLOCK, At, nowhere
from tagseg.errors import UserError
from tagseg.interrupt import check

Wanted = Callable[[str], str | None]
"""A member's name -> where it goes below the target folder, with forward slashes; None: not wanted."""


@dataclass(frozen=True)
class Member:
    """A wanted file of an archive: its size, and where it goes."""

    size: int
    target: str


def look_through(archive: Path, wanted: Wanted) -> list[Member]:
    """The wanted members of an archive, every name checked.

    Raises UserError for a name that leads outside, for a wanted member that is a link or a device, and for an archive
    that is broken.
    """
    found = []
    with _opened(archive) as members:
        for name, size, regular, _ in members:
            check()
            parts = PurePosixPath(name.replace("\\", "/")).parts
            if ".." in parts or name.startswith("/") or PureWindowsPath(name).drive:
                raise UserError(
                    f"{archive} holds the member {name!r}, which leads outside: nothing of it was unpacked."
                )
            target = wanted(name)
            if target is None:
                continue
            if not regular:
                raise UserError(
                    f"{archive} holds {name!r}, which is a link or no plain file: nothing of it was unpacked."
                )
            found.append(Member(size, target))
    return found


def unpack(archive: Path, into: Path, wanted: Wanted, at: At = nowhere) -> int:
    """Write the wanted members below `into` and return how many there are; those that lie there whole are kept.

    at: told how many files are there. Raises UserError as `look_through` does, and where a member is damaged or the disk
    full.
    """
    members = look_through(archive, wanted)
    done = 0
    for target, size, file in read_members(archive, wanted):
        path = into / target
        if not (path.is_file() and path.stat().st_size == size):
            try:
                with writing(path):
                    path.parent.mkdir(parents=True, exist_ok=True)
                    with path.open("wb") as copy:
                        copyfileobj(file(), copy, BLOCK)
            except UserError:  # a damaged member may have its full size
                path.unlink(missing_ok=True)
                raise
            if path.stat().st_size != size:
                raise UserError(f"{archive} is truncated within {target}: remove it and run the same command again.")
        done += 1
        at(done)
    assert done == len(members), (done, len(members))
    return done


class MemberFile:
    """The content of a member. Raises UserError where it is damaged, which shows only when it is read."""

    def __init__(self, archive: Path, open_member: Callable[[], IO[bytes]]) -> None:
        self.archive = archive
        with _whole(archive):
            self.file = open_member()

    def read(self, size: int = -1) -> bytes:
        """The next `size` bytes, or all that are left."""
        with _whole(self.archive):
            return self.file.read(size)


def read_members(archive: Path, wanted: Wanted) -> Iterator[tuple[str, int, Callable[[], MemberFile]]]:
    """The wanted members in the archive's order: target, size, and what opens them; names were checked before."""
    with _opened(archive) as members:
        for name, size, regular, file in members:
            check()
            target = wanted(name)
            if target is not None and regular:
                yield target, size, partial(MemberFile, archive, file)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Around writing a file: a full disk or a folder that is not writable is said in one sentence."""
    try:
        yield
    except OSError as error:
        reason = "the disk is full" if error.errno == errno.ENOSPC else error.strerror or str(error)
        raise UserError(
            f"{path} cannot be written: {reason}; make room or allow it, then run the same command again."
        ) from error


_Found = tuple[str, int, bool, Callable[[], IO[bytes]]]


_BROKEN = (tarfile.TarError, zipfile.BadZipFile, zlib.error, LZMAError, BadGzipFile, EOFError, NotImplementedError)


@contextmanager
def _whole(archive: Path) -> Iterator[None]:
    """Around whatever reads an archive: one that is broken is said in one sentence."""
    try:
        yield
    except _BROKEN as error:
        raise UserError(
            f"{archive} is truncated or no archive ({error}): remove it and run the same command again."
        ) from error


@contextmanager
def _opened(archive: Path) -> Iterator[Iterator[_Found]]:
    """Name, size, whether it is a plain file, and what opens it, of every member but folders."""
    with _whole(archive):
        if archive.suffix == ".zip":
            with zipfile.ZipFile(archive) as zipped:
                yield _of_zip(zipped)
        else:
            with tarfile.open(archive) as tar:
                yield _of_tar(tar)


def _of_zip(zipped: zipfile.ZipFile) -> Iterator[_Found]:
    for info in zipped.infolist():
        kind = stat.S_IFMT(info.external_attr >> 16)
        if not info.is_dir():
            yield info.filename, info.file_size, kind in (0, stat.S_IFREG), partial(zipped.open, info)


def _of_tar(tar: tarfile.TarFile) -> Iterator[_Found]:
    def opener(member: tarfile.TarInfo) -> IO[bytes]:
        file = tar.extractfile(member)
        assert file is not None
        return file

    for member in tar:
        if not member.isdir():
            yield member.name, member.size, member.isreg(), partial(opener, member)
