"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import copymode, rmtree
from tempfile import mkdtemp

from safetensors import SafetensorError

from tagseg.errors import UserError

_TEMPORARY = ".tagseg-saving-"


@contextmanager
def replacing(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """A temporary file beside `path` that takes its place when the block ends well, and vanishes when it doesn't.

    durable: the file lasts through a power failure (for checkpoints and what a run is known by).
    Raises UserError naming `path` when it cannot be written (full disk, read-only folder); what was there is then intact.
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
    except (OSError, SafetensorError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or str(error)
        raise UserError(
            f"{path} cannot be written: {reason}; what was there before is intact, so make room or allow writing, then run "
            "the same command again."
        ) from error


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text as `replacing` does, to last."""
    with replacing(path, durable=True) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def make_folder(out: Path) -> None:
    """Create a folder for results, or say in one sentence why not."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"The folder {out} cannot be written: {error.strerror or error}; choose another --out."
        ) from error


def remove_temporaries(folder: Path) -> None:
    """Remove what a process that was killed inside `replacing` left in a folder."""
    for path in folder.glob(f"{_TEMPORARY}*"):
        rmtree(path, ignore_errors=True)


def _sync_folder(folder: Path) -> None:
    """Make a renaming last, where the system lets folders be synced."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
