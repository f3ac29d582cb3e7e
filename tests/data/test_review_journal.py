"""The journal of a review on a full disk: what was refused is never written, and what was kept is never lost."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tagseg.data.review_journal import JOURNAL, Journal, read_verdicts
from tagseg.errors import UserError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="limits of a process are POSIX's")
CLASSES = ("background", "cat")


@contextmanager
def full_after(size: int) -> Iterator[None]:
    """No file grows beyond `size` bytes, as on a full disk."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


def decision(state: str, version: int, photo: str = "a") -> dict[str, object]:
    return {"event": "decision", "photo": photo, "version": version, "state": state}


@pytest.mark.parametrize("fits", [0, 10])
def test_what_a_full_disk_refused_is_never_written(tmp_path: Path, fits: int) -> None:
    journal = Journal(tmp_path, CLASSES)
    journal.append(decision("accepted", 1))
    kept = (tmp_path / JOURNAL).read_bytes()
    with full_after(len(kept) + fits), pytest.raises(UserError, match="cannot be written"):
        journal.append(decision("rejected", 2))
    assert (tmp_path / JOURNAL).read_bytes() == kept
    journal.append({"event": "undo", "photo": "a", "version": 2})
    journal.close()
    assert read_verdicts(tmp_path)["a"].state == "open"
    assert (tmp_path / JOURNAL).read_bytes().count(b"\n") == 2


def test_a_full_disk_keeps_no_review_locked(tmp_path: Path) -> None:
    journal = Journal(tmp_path, CLASSES)
    with full_after(0):
        with pytest.raises(UserError):
            journal.append(decision("accepted", 1))
        journal.close()
    again = Journal(tmp_path, CLASSES)
    assert not again.decisions.verdicts
    again.close()


def test_a_name_that_is_not_utf_8_is_kept(tmp_path: Path) -> None:
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    journal = Journal(tmp_path, CLASSES)
    journal.append(decision("accepted", 1, name))
    journal.close()
    assert read_verdicts(tmp_path)[name].state == "accepted"
