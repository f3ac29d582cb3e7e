"""One process at a time: a hidden file whose lock ends with the process that holds it, however that ends."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from tagseg.errors import UserError


class Alone:
    """The lock on a file, which is made when the lock is taken and removed when it is let go."""

    def __init__(self, path: Path) -> None:
        self.path, self.taken = path, False
        self._lock = FileLock(path, thread_local=False)

    def take(self, busy: str) -> None:
        """Hold the lock. Raises UserError with the sentence `busy` where another holds it, OSError as writing does."""
        with suppress(NotImplementedError):  # a file system without locks, as some clusters have: work all the same
            try:
                self._lock.acquire(timeout=0)
            except Timeout as error:
                raise UserError(busy) from error
        self.taken = True

    def release(self) -> None:
        """Let go; nothing where the lock is not held."""
        if not self.taken:
            return
        with suppress(OSError):  # where an open file cannot be removed, it stays
            self.path.unlink(missing_ok=True)  # first: afterwards it may be another's
        self._lock.release()
        self.taken = False
