"""An archive as its publisher offers it: where it is, how large, and how to know it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tagseg.errors import UserError
from tagseg.interrupt import check

BLOCK = 1 << 20  # bytes read or written at a time
At = Callable[[int], object]
"""What is told how far something is, in bytes or files."""


def nowhere(_: int) -> None:
    """An `At` that shows nothing."""


@dataclass(frozen=True)
class Archive:
    """One file to download.

    mirrors: addresses in the order to try. size: bytes; None where it is not known. sha256: None where nobody has
    published one: the contents are then checked by the data set's own counts and lists. about: bytes, where `size` is
    not known, for the plan. unpacked: bytes that its wanted members take, about.
    """

    file: str
    mirrors: tuple[str, ...]
    size: int | None
    sha256: str | None
    unpacked: int
    about: int = 0

    @property
    def bytes(self) -> int:
        """Bytes to download, about."""
        return self.size or self.about

    def verify(self, path: Path, at: At = nowhere) -> str:
        """The sha256 of a file that is this archive; `at` is told how many bytes are read.

        Raises UserError in one sentence where it is a page, truncated, or another file.
        """
        try:
            size = path.stat().st_size
            with path.open("rb") as file:
                wrong = wrong_start(file.read(512), self.file)
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror or error}.") from error
        if wrong:
            raise UserError(
                f"{path} is {wrong}, not the archive {self.file}: remove it and run the same command again."
            )
        if self.size is not None and size != self.size:
            what = "truncated" if size < self.size else "another file"
            raise UserError(
                f"{path} is {what}: it has {size:,} bytes in place of {self.size:,}; remove it and run the same command again."
            )
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                check()
                digest.update(block)
                at(file.tell())
        if self.sha256 is not None and digest.hexdigest() != self.sha256:
            raise UserError(
                f"{path} is another file than the published {self.file} (its SHA-256 differs): remove it and run the same "
                "command again."
            )
        return digest.hexdigest()


def wrong_start(start: bytes, name: str) -> str | None:
    """What a file is by its first bytes, in words, where it cannot be the archive of that name."""
    text = start.lstrip().lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"{")):
        return "a page"
    if not start:
        return "empty"
    magic = {".zip": (0, b"PK"), ".tgz": (0, b"\x1f\x8b"), ".tar": (257, b"ustar")}
    for suffix, (at, wanted) in magic.items():
        if name.endswith(suffix) and not start[at:].startswith(wanted):
            return f"no {suffix.lstrip('.')} file"
    return None
