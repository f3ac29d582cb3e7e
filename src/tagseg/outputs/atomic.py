"""Files that are there whole or not at all."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tagseg.errors import UserError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` that takes its place when the block ends well, and vanishes when it doesn't.

    Raises UserError naming `path` when it cannot be written.
    """
    temporary = path.with_name(f".{secrets.token_hex(6)}.tmp")  # its own name each time, and never too long
    try:
        try:
            yield temporary
            temporary.replace(path)
        except OSError as error:
            raise UserError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)
