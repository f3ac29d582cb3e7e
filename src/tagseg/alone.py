"""One process at a time: a hidden file whose lock ends with the process that holds it, however that ends."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from tagseg.errors import UserError

_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
"""What file systems say that have no locks, as some clusters have."""


class _Lock(FileLock):
    """A lock of the system alone: filelock's other kind outlives a process that is killed, and would refuse for ever."""

    def _fallback_to_soft_lock(self) -> None:
        raise OSError(errno.ENOSYS, "no locks")


class Alone:
    """The lock on a file, which is made when the lock is taken and removed when it is let go.

    On a file system without locks there is none: the work is done all the same.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.taken = path, False
        self._lock = _Lock(path, thread_local=False)

    def take(self, busy: str) -> None:
        """Hold the lock. Raises UserError with the sentence `busy` where another holds it, OSError as writing does."""
        with suppress(NotImplementedError):  # what older versions of filelock make of ENOSYS
            try:
                self._lock.acquire(timeout=0)
            except Timeout as error:
                if _has_locks(self.path):
                    raise UserError(busy) from error
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
        self.taken = True

    def take_or_say(self, busy: str, option: str = "--out") -> None:
        """`take`, where a folder that cannot be written raises UserError as well; option: the word that it was given by."""
        try:
            self.take(busy)
        except OSError as error:
            why = error.strerror or error
            raise UserError(f"{self.path.parent} cannot be written: {why}; choose another {option}.") from error

    def release(self, *, keep: bool = False) -> None:
        """Let go; nothing where the lock is not held. keep: the file, as after a kill."""
        if not self.taken:
            return
        if not keep:
            with suppress(OSError):  # where an open file cannot be removed, it stays
                self.path.unlink(missing_ok=True)  # first: afterwards it may be another's
        self._lock.release()
        self.taken = False


@contextmanager
def held_alone(path: Path, busy: str, option: str = "--out") -> Iterator[None]:
    """Hold the lock on a file, whose folder is there, while the block runs. Raises UserError as `Alone.take_or_say`."""
    alone = Alone(path)
    alone.take_or_say(busy, option)
    try:
        yield
    finally:
        alone.release()


def _has_locks(path: Path) -> bool:
    """Whether the file system of a lock has any: older versions of filelock take each error for a lock of another."""
    try:
        import fcntl
    except ImportError:  # Windows
        return True
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in _NO_LOCKS
    return True
