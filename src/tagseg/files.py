"""Files that are there whole or not at all, the folders they lie in, and whether a file has changed."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from shutil import copymode, rmtree
from tempfile import mkdtemp
from typing import Any

from safetensors import SafetensorError

from tagseg.errors import UnwritableError, UnwritableNameError, UserError

_TEMPORARY = ".tagseg-saving-"
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # a drive of Windows has one letter
_OF_THE_NAME = {errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL, errno.ENOTDIR, errno.EISDIR, errno.EEXIST}
"""Errors that another name would not have met; a full disk or a read-only folder meets every name."""


@contextmanager
def replacing(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """A temporary file beside `path` that takes its place when the block ends well, and vanishes when it doesn't.

    A link at `path` is replaced, not followed. durable: the file lasts through a power failure (for checkpoints and
    what a run is known by).
    Raises UnwritableError naming `path` (full disk, read-only folder), UnwritableNameError where another
    name could be; what was there is then intact.
    """
    try:
        # in a folder of its own, for safetensors writes to a temporary beside the one it is given
        folder = Path(mkdtemp(prefix=_TEMPORARY, dir=path.parent))
        try:
            temporary = folder / f"new{path.suffix}"
            yield temporary
            (folder / "plain").touch()
            copymode(folder / "plain", temporary)  # safetensors makes files that only their owner may read
            if durable:
                with temporary.open("rb+") as file:
                    os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            rmtree(folder, ignore_errors=True)
        if durable:
            _sync_folder(path.parent)
    except UnicodeError as error:
        raise UnwritableNameError(f"{path} cannot be written: a name in it is not UTF-8; rename it.") from error
    except (OSError, SafetensorError) as error:
        if isinstance(error, OSError) and error.errno in _OF_THE_NAME:
            raise UnwritableNameError(f"{path} cannot be written: {error.strerror}; rename the photo.") from error
        reason = (isinstance(error, OSError) and error.strerror) or str(error)
        raise UnwritableError(
            f"{path} cannot be written: {reason}; what was there before is intact, so make room or allow writing, then run "
            "the same command again."
        ) from error


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text as `replacing` does, to last; a file name in it that is not UTF-8 keeps its bytes."""
    with replacing(path, durable=True) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="surrogateescape", newline="\n")


def to_json(value: Any, *, indent: int | None = None, allow_nan: bool = True) -> str:
    """A value as JSON that UTF-8 can hold: the bytes of a file name that is not UTF-8 are escaped.

    allow_nan: whether NaN and Infinity, which browsers do not read, are written; else they raise ValueError.
    """
    text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=allow_nan)
    return re.sub("[\ud800-\udfff]", lambda found: f"\\u{ord(found[0]):04x}", text)


def check_of_this_machine(place: Path) -> None:
    """Raise UserError for an address such as s3://bucket/results, of which a `Path` would make a folder named `s3:`."""
    text = place.as_posix()
    if _ADDRESS.match(text):
        address = text.replace(":/", "://", 1)
        raise UserError(f"{address} is no place on this machine: name a folder or file, and copy from or to the store.")


def make_folder(folder: Path) -> None:
    """Make a folder for results and those above it.

    Raises UserError when that fails and for the address of a store, UnwritableNameError as `replacing`.
    """
    check_of_this_machine(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        kind = UnwritableNameError if error.errno in _OF_THE_NAME else UserError
        raise kind(
            f"The folder {folder} cannot be written: {error.strerror or error}; choose another --out."
        ) from error


def is_temporary(path: Path) -> bool:
    """Whether a path is what a process that was killed inside `replacing` left."""
    return path.name.startswith(_TEMPORARY)


def remove_temporaries(folder: Path) -> None:
    """Remove what a process that was killed inside `replacing` left in a folder."""
    for path in folder.glob(f"{_TEMPORARY}*"):
        if not path.is_symlink():
            rmtree(path, ignore_errors=True)


def _sync_folder(folder: Path) -> None:
    """Make a renaming last, where the system lets folders be synced."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def stamp(path: Path) -> tuple[int, int]:
    """Size and time of a file: cheap to ask, and another after the file was copied."""
    facts = path.stat()
    return facts.st_size, facts.st_mtime_ns


def digest_file(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def mark(path: Path) -> list[object]:
    """What a file is known again by, as JSON holds it: size, time and SHA-256."""
    return [*stamp(path), digest_file(path)]


def is_marked(path: Path, known: Sequence[object]) -> bool:
    """Whether a file is still the one of a `mark`; contents decide where size or time differ, as those of a copy do."""
    return known[:2] == [*stamp(path)] or known[2] == digest_file(path)
