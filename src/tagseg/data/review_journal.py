"""A review as it lies on disk: an append-only journal of what a person did, and the masks.

review.json           the classes
journal.jsonl         a line a deed: decisions, tags, masks, undo
masks/<name>.png      masks that are accepted, or painted on
touched/<name>.png    which of their pixels a person painted (1) or confirmed by nothing but acceptance (0)
replaced/<name>.png   the last mask of a photo whose file another picture has replaced since
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from tagseg.data.marks import is_same_photo
from tagseg.data.paths import held
from tagseg.errors import UnwritableError, UserError
from tagseg.files import check_of_this_machine, to_json, write_text
from tagseg.foreign import DATA_CAP, read_bytes, read_json, reading
from tagseg.places import safe_name

LOCK = ".in-use"
ABOUT, JOURNAL = "review.json", "journal.jsonl"
MASKS, TOUCHED, REPLACED = "masks", "touched", "replaced"
State = Literal["open", "accepted", "rejected", "later"]
STATES: tuple[State, ...] = ("open", "accepted", "rejected", "later")


@dataclass(slots=True)
class Verdict:
    """What a person has said of a photo.

    tags: the corrected tags; None where the table's stand. painted: whether its mask differs from the proposed one by
    hand. version: counts the deeds, to notice that two windows work on one photo. file: the `mark_photo` of what was
    looked at; None in journals of before there were any. replaced: whether it was another picture before.
    """

    state: State = "open"
    tags: tuple[str, ...] | None = None
    painted: bool = False
    version: int = 0
    file: list[object] | None = None
    replaced: bool = False

    def is_of(self, photo: Path) -> bool:
        """Whether a person has looked at the photo as it is now; a file that is gone tells nothing."""
        return self.file is None or is_same_photo(photo, self.file)


@dataclass
class Decisions:
    """Verdicts by photo, and the decisions that can be taken back or made again.

    answered: the photo of each deed, by the id of its request; older journals hold none.
    """

    verdicts: dict[str, Verdict] = field(default_factory=dict)
    undo: list[tuple[str, State, State]] = field(default_factory=list)  # photo, state before, state after
    redo: list[tuple[str, State, State]] = field(default_factory=list)
    answered: dict[str, str] = field(default_factory=dict)

    def of(self, photo: str) -> Verdict:
        """The verdict on a photo, made where there is none."""
        return self.verdicts.setdefault(photo, Verdict())

    def apply(self, entry: dict[str, Any]) -> None:
        """Follow one line of the journal."""
        photo, event = str(entry["photo"]), entry["event"]
        verdict = self.of(photo)
        verdict.version = int(entry["version"])
        if "id" in entry:
            self.answered[str(entry["id"])] = photo
        if "file" in entry:
            size, time, digest, *look = entry["file"]
            verdict.file = [int(size), int(time), str(digest), *look]
        if event in ("decision", "mask"):
            verdict.replaced = False
        if event == "decision":
            state = _state(entry["state"])
            self.undo.append((photo, verdict.state, state))
            self.redo.clear()
            verdict.state = state
        elif event in ("undo", "redo"):
            source, target = (self.undo, self.redo) if event == "undo" else (self.redo, self.undo)
            _, before, after = step = source.pop()
            target.append(step)
            verdict.state = before if event == "undo" else after
        elif event == "tags":
            verdict.tags = tuple(map(str, entry["tags"]))
        elif event == "mask":
            verdict.painted = bool(entry["painted"])
        elif event == "replaced":  # all that was said is of another picture
            self.undo = [step for step in self.undo if step[0] != photo]
            self.redo = [step for step in self.redo if step[0] != photo]
            verdict.state, verdict.tags, verdict.painted, verdict.replaced = "open", None, False, True
        else:
            raise ValueError(f"there is no event {event!r}")


class Journal:
    """The journal of a review folder, opened for appending by one process at a time; what a kill tore is dropped.

    Raises UserError when the folder is in use, holds a review of other classes, or a line cannot be understood.
    """

    def __init__(self, folder: Path, classes: Sequence[str]) -> None:
        self.folder = folder
        _make(folder)
        self._lock = FileLock(folder / LOCK, thread_local=False)  # released by another thread than this
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise UserError(
                f"Another `tagseg review` works in {folder}: end it, or choose another --review."
            ) from error
        except OSError as error:
            raise UserError(f"The folder {folder} cannot be written: {error.strerror or error}.") from error
        except NotImplementedError:
            pass  # a file system without locks
        try:
            self._open(classes)
        except BaseException:
            self._lock.release()
            raise

    def _open(self, classes: Sequence[str]) -> None:
        folder = self.folder
        known = read_classes(folder)
        if known is None:
            for each in (folder / MASKS, folder / TOUCHED):
                _make(each)
            text = json.dumps({"version": 1, "classes": list(classes)}, ensure_ascii=False, indent=2)
            write_text(folder / ABOUT, text)
        elif known != tuple(classes):
            raise UserError(
                f"{folder} holds a review of the classes {', '.join(known[1:])}, not {', '.join(classes[1:])}: choose "
                "another --review."
            )
        path = held(folder / JOURNAL, folder)
        self.decisions, whole = _replay(path)
        self._whole = whole
        try:
            self._file = path.open("ab", buffering=0)  # a buffer would keep a line that was refused, and write it later
            self._cut()
        except OSError as error:
            raise UserError(f"{path} cannot be written: {error.strerror or error}.") from error

    def append(self, entry: dict[str, Any]) -> None:
        """Write one line, to last through a power failure, then follow it. Raises UnwritableError on a full disk."""
        line = (to_json(entry) + "\n").encode()
        try:
            self._cut()
            rest = memoryview(line)
            while rest:
                rest = rest[self._file.write(rest) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            with suppress(OSError):
                self._cut()
            raise UnwritableError(f"{self.folder / JOURNAL} cannot be written: {error.strerror or error}.") from error
        self._whole += len(line)
        self.decisions.apply(entry)

    def _cut(self) -> None:
        """Drop what stands behind the last whole line."""
        if os.fstat(self._file.fileno()).st_size > self._whole:
            os.ftruncate(self._file.fileno(), self._whole)

    def close(self) -> None:
        """Let the file go."""
        try:
            self._file.close()
        finally:
            self._lock.release()


def read_classes(folder: Path) -> tuple[str, ...] | None:
    """The classes of a review, the first "background"; None where there is no review. Raises UserError."""
    path = held(folder / ABOUT, folder)
    if not path.is_file():
        return None
    with reading(path, "the classes of a review", "it belongs to a review of `tagseg review`"):
        return tuple(map(str, read_json(path, "the classes of a review")["classes"]))


def read_verdicts(folder: Path) -> dict[str, Verdict]:
    """What was said of each photo. Raises UserError where there is no review, or the journal is broken."""
    if read_classes(folder) is None:
        raise UserError(f"{folder} holds no review ({ABOUT}): `tagseg review --review {folder}` makes one.")
    return _replay(held(folder / JOURNAL, folder))[0].verdicts


def place(folder: Path, kind: str, name: str) -> Path:
    """Where the mask (MASKS) or the painted pixels (TOUCHED) of a photo are kept. Raises UserError as `held` does."""
    return held(folder / kind / f"{safe_name(name)}.png", folder)


def _replay(path: Path) -> tuple[Decisions, int]:
    """The decisions of a journal, and how many of its bytes are whole lines."""
    decisions = Decisions()
    content = read_bytes(path, "a journal of decisions", DATA_CAP) if path.exists() else b""
    whole = content.rfind(b"\n") + 1
    for number, line in enumerate(content[:whole].splitlines(), start=1):
        with reading(f"{path}, line {number}", "a decision", "remove that line to lose no other"):
            decisions.apply(json.loads(line))
    return decisions, whole


def _state(value: Any) -> State:
    for state in STATES:
        if value == state:
            return state
    raise ValueError(f"there is no state {value!r}")


def _make(folder: Path) -> None:
    check_of_this_machine(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"The folder {folder} cannot be written: {error.strerror or error}.") from error
