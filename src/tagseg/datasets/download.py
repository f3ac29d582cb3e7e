"""Downloading an archive: mirrors in turn, resumed by range, and under its name only when it is whole and right."""

from __future__ import annotations

import errno
import re
from pathlib import Path
from typing import Any

from tagseg.datasets.archive import BLOCK, Archive, At, nowhere, wrong_start
from tagseg.errors import UserError
from tagseg.extras import need
from tagseg.interrupt import check

TIMEOUT = (20, 60)  # seconds to connect, and without a byte
TRIES = 5  # of one mirror, without a byte gained


class _Refused(Exception):  # noqa: N818 (a mirror's answer, not an error of ours)
    """Why a mirror's answer is no use: the next one is tried."""


def download(archive: Archive, folder: Path, at: At = nowhere) -> tuple[Path, str]:
    """The archive in `folder` and its SHA-256, loaded from the first mirror that has it; what is there already is kept.

    at: told how many bytes are there. Bytes that came are kept in `<file>.part`, and the next call goes on behind them.
    Raises UserError with what every mirror answered, or where the disk is full.
    """
    path, part = folder / archive.file, folder / f"{archive.file}.part"
    answers = []
    for address in archive.mirrors:
        try:
            _load(archive, address, part, at)
        except _Refused as answer:
            answers.append(f"{address}: {answer}")
            continue
        try:
            digest = archive.verify(part)
        except UserError:  # whole, but not the archive: another mirror starts from nothing
            part.unlink()
            answers.append(f"{address}: another file than the published one")
            continue
        part.replace(path)
        return path, digest
    raise UserError(
        f"{archive.file} could not be loaded ({'; '.join(answers)}): load it by hand, and name its folder by --archives."
    )


def _load(archive: Archive, address: str, part: Path, at: At) -> None:
    """All bytes of the archive from one mirror into `part`."""
    requests = need("requests", "datasets", "downloads")
    idle = 0
    while True:
        have = part.stat().st_size if part.exists() else 0
        if archive.size is not None and have >= archive.size:
            return
        failure, whole = "", False
        try:
            headers = (
                {"Range": f"bytes={have}-", "Accept-Encoding": "identity"} if have else {"Accept-Encoding": "identity"}
            )
            with requests.get(address, headers=headers, stream=True, timeout=TIMEOUT) as answer:
                if have and archive.size is None and _ends_at(answer, have):
                    return
                whole = _append(answer, part, _accept(archive, answer, part, have), archive, at)
        except requests.RequestException as error:
            failure = f"no answer ({_short(error)})"
        if whole:
            return
        now = part.stat().st_size if part.exists() else 0
        idle = 0 if now > have else idle + 1
        if idle >= TRIES:
            raise _Refused(failure or f"the connection ends after {now:,} bytes")


def _ends_at(answer: Any, have: int) -> bool:
    """Whether a mirror says that its file has as many bytes as are there."""
    return answer.status_code == 416 and answer.headers.get("Content-Range", "").strip() == f"bytes */{have}"


def _accept(archive: Archive, answer: Any, part: Path, have: int) -> int:
    """The byte that an answer begins at: `have`, or 0 where the mirror sends all again. Refuses what cannot be it."""
    status, headers = answer.status_code, answer.headers
    if status == 416:  # there is nothing behind these bytes: they are another file's
        part.unlink()
        raise _Refused("the bytes so far are not of its file; they were removed")
    if status not in (200, 206):
        raise _Refused(f"status {status}")
    if "text/html" in headers.get("Content-Type", ""):
        raise _Refused("a page in place of the archive")
    if status == 206:
        spread = re.match(r"bytes (\d+)-\d*/(\d+|\*)", headers.get("Content-Range", ""))
        if spread is None or int(spread[1]) != have:
            raise _Refused("a range that was not asked for")
        total = None if spread[2] == "*" else int(spread[2])
    else:
        have = 0
        total = int(headers["Content-Length"]) if headers.get("Content-Length", "").isdigit() else None
    if archive.size is not None and total is not None and total != archive.size:
        raise _Refused(f"a file of {total:,} bytes in place of {archive.size:,}")
    return have


def _append(answer: Any, part: Path, have: int, archive: Archive, at: At) -> bool:
    """Write what comes behind the first `have` bytes; whether the answer ended as it should."""
    requests = need("requests", "datasets", "downloads")
    length = answer.headers.get("Content-Length", "")
    answer.raw.enforce_content_length = False  # else the last block of an answer that ends early is lost
    came = 0
    try:
        with part.open("ab" if have else "wb") as file:
            for block in answer.iter_content(BLOCK):
                check()
                if have + came == 0 and (wrong := wrong_start(block[:512], archive.file)):
                    raise _Refused(f"{wrong} in place of the archive")
                file.write(block)
                came += len(block)
                at(have + came)
    except _Refused:
        part.unlink(missing_ok=True)
        raise
    except requests.RequestException:  # an OSError too: the connection broke
        raise
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise UserError(
                f"The disk of {part.parent} is full: {have + came:,} bytes are kept in {part.name}; make room and run the same "
                "command again."
            ) from error
        raise UserError(f"{part} cannot be written: {error.strerror or error}.") from error
    if archive.size is not None:
        return have + came >= archive.size
    return not length.isdigit() or came == int(length)


def _short(error: Exception) -> str:
    """The innermost reason of a failed request."""
    text = str(error)
    return text.rsplit(": ", 1)[-1].strip(")'\" ") if len(text) > 60 else text
