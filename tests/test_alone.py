"""The lock on a folder, also where the file system has none."""

import errno
from pathlib import Path

import pytest

from tagseg.alone import Alone
from tagseg.errors import UserError


def test_one_holds_a_lock_and_another_is_told(tmp_path: Path) -> None:
    first, second = Alone(tmp_path / "lock"), Alone(tmp_path / "lock")
    first.take("busy")
    with pytest.raises(UserError, match="busy"):
        second.take("busy")
    first.release()
    second.take("busy")
    second.release()
    assert not (tmp_path / "lock").exists()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_without_locks_the_work_is_done_all_the_same(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl = pytest.importorskip("fcntl")

    def refuse(*_: object) -> None:
        raise OSError(number, "none here")

    monkeypatch.setattr(fcntl, "flock", refuse)
    killed, alone = Alone(tmp_path / "lock"), Alone(tmp_path / "lock")
    killed.take("busy")  # and never lets go
    alone.take("busy")
    alone.release()
    assert not (tmp_path / "lock").exists()


def test_a_disk_that_fails_is_none_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fcntl = pytest.importorskip("fcntl")

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "it fails")

    monkeypatch.setattr(fcntl, "flock", fail)
    with pytest.raises((OSError, UserError), match=r"it fails|busy"):  # as the version of filelock has it
        Alone(tmp_path / "lock").take("busy")
