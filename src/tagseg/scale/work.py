"""One shard: its photos read, worked at, and committed as one container and, last, one record."""

from __future__ import annotations

import hashlib
import json
import signal
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from tagseg.errors import UserError
from tagseg.foreign import reading, reason
from tagseg.scale.containers import CONTAINERS, Container, Pictures, encode
from tagseg.scale.jobs import Job, Result
from tagseg.scale.photos import Photo
from tagseg.scale.places import Place
from tagseg.scale.plan import Plan, read_manifest

Answer = Result | Exception


@dataclass(frozen=True)
class Record:
    """What became of a shard. errors: name and reason of each photo without a mask. bytes, sha256: of its container.

    replaced: the photos that were other files already than the plan tells, when they were worked at. files: the photos'
    `digest` then, empty in older records.
    """

    shard: int
    photos: int
    errors: tuple[tuple[str, str], ...]
    bytes: int
    sha256: str
    fingerprint: str
    seconds: float
    replaced: tuple[str, ...] = ()
    files: dict[str, str] = field(default_factory=dict)


def read_record(place: Place, plan: Plan, shard: int) -> Record | None:
    """The record of a shard that is done, None of one that is not. Raises UserError for the record of another plan."""
    key = f"records/{plan.key(shard)}.json"
    if not place.exists(key):
        return None
    with reading(f"{place.url}/{key}", "the record of a shard"):
        facts = json.loads(place.read(key))
        facts["errors"] = tuple((name, why) for name, why in facts["errors"])
        record = Record(**facts | {"replaced": tuple(facts.get("replaced", ()))})
    if record.fingerprint != plan.fingerprint:
        raise UserError(f"{place.url}/{key} is of another plan: choose another --out.")
    return record


def shard_worker(job: Job, place: Place, plan: Plan, timeout: float | None) -> Callable[[int], Record]:
    """The function that does a shard by its number, unless its record is there.

    timeout: seconds after which a photo is given up, where `check_timeout` allows it. A photo that fails becomes a row with
    its reason; the others are done all the same.
    """

    def one(shard: int) -> Record:
        if (there := read_record(place, plan, shard)) is not None:
            return there
        photos = [photo for _, photo in read_manifest(place, plan, shard)]
        return _work(place, plan, shard, photos, job, timeout)

    return one


def _work(place: Place, plan: Plan, shard: int, photos: list[Photo], job: Job, timeout: float | None) -> Record:
    begin, kind = time.monotonic(), CONTAINERS[plan.container]
    replaced = tuple(photo.name for photo in photos if photo.changed())
    files = {photo.name: digest for photo in photos if (digest := photo.digest())}
    with tempfile.TemporaryDirectory(prefix="tagseg-") as folder:
        file = Path(folder, f"{plan.key(shard)}{kind.suffix}")
        container = _open(kind, file, plan, place)
        errors: list[tuple[str, str]] = []
        for photo, answer in _answers(job, photos, timeout):
            facts, png = _row(plan, photo, answer)
            if png is None:
                errors.append((photo.name, facts["error"]))
            container.add(facts, png)
        container.close()
        if (others := _commit(place, plan, shard, file, kind)) is not None:
            errors = others
        content = file.read_bytes()
        record = Record(
            shard,
            len(photos),
            tuple(errors),
            len(content),
            hashlib.sha256(content).hexdigest(),
            plan.fingerprint,
            round(time.monotonic() - begin, 3),
            replaced,
            files,
        )
    if not place.write(f"records/{plan.key(shard)}.json", (json.dumps(asdict(record)) + "\n").encode(), new=True):
        other = read_record(place, plan, shard)  # another worker was first, with the same container
        assert other is not None
        return other
    return record


def check_timeout(timeout: float | None) -> None:
    """Raise UserError where no photo can be given up after a time."""
    alarms = hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()
    if timeout is not None and not alarms:
        raise UserError("--timeout needs a system with alarms, and the main thread: leave it out here.")


def _open(kind: type[Container], file: Path, plan: Plan, place: Place) -> Container:
    facts = {"fingerprint": plan.fingerprint, "made_by": plan.made_by, "classes": list(plan.classes), "ignore": 255}
    return kind(file, facts, place) if kind is Pictures else kind(file, facts)  # type: ignore[call-arg]


def _commit(place: Place, plan: Plan, shard: int, file: Path, kind: type[Container]) -> list[tuple[str, str]] | None:
    """Store the container under its key. One that another worker stored stays; it takes the place of ours, as do its errors."""
    key = f"shards/{file.name}"
    if place.put_new(key, file):
        return None
    file.write_bytes(place.read(key))
    return [(facts["name"], facts["error"]) for facts, _ in kind.read(file) if facts.get("error")]


def _row(plan: Plan, photo: Photo, answer: Answer) -> tuple[dict[str, Any], bytes | None]:
    if isinstance(answer, Exception):
        words = str(answer) if isinstance(answer, UserError) else f"{type(answer).__name__}: {reason(answer)}"
        return {"name": photo.name, "file_name": photo.file_name, "error": words[:500]}, None
    pixels = np.bincount(answer.mask.ravel(), minlength=len(plan.classes))
    there = [k for k in range(len(plan.classes)) if pixels[k]]
    height, width = answer.mask.shape
    facts = {
        "name": photo.name,
        "file_name": photo.file_name,
        "height": height,
        "width": width,
        "classes": [plan.classes[k] for k in there],
        "pixels": [int(pixels[k]) for k in there],
    }
    if answer.sure is not None:
        facts |= {key: round(value, 4) for key, value in answer.sure._asdict().items() if value is not None}
    return facts, encode(answer.mask)


def _answers(job: Job, photos: list[Photo], timeout: float | None) -> Iterator[tuple[Photo, Answer]]:
    """A result, or what went wrong, for each photo in order."""
    places: dict[str, Place] = {}
    if timeout is not None:
        for photo in photos:
            yield photo, _within(timeout, photo, job, places)
        return
    waiting: deque[tuple[Photo, Any]] = deque()  # taken by the job, not answered
    again: deque[tuple[Photo, Any]] = deque()  # taken when the job failed on one before
    rest = iter(photos)

    def items() -> Iterator[Any]:
        while True:
            if again:
                photo, item = again.popleft()
            elif (following := next(rest, None)) is not None:
                photo, item = following, _read(job, following, places)
            else:
                return
            waiting.append((photo, item))
            if not isinstance(item, Exception):
                yield item

    def failed() -> Iterator[tuple[Photo, Exception]]:
        while waiting and isinstance(waiting[0][1], Exception):
            yield waiting.popleft()

    while True:
        try:
            for result in job.many(items()):
                yield from failed()
                yield waiting.popleft()[0], result
            yield from failed()
            return
        except Exception as error:  # one photo's trouble, be it a full memory, is not the others'
            yield from failed()
            if not waiting:
                raise
            yield waiting.popleft()[0], error
            again.extendleft(reversed(waiting))
            waiting.clear()


def _read(job: Job, photo: Photo, places: dict[str, Place]) -> Any:
    try:
        return job.read(photo, places)
    except Exception as error:  # whatever a disk or a store raises is this photo's trouble, and no other's
        return error


def _within(seconds: float, photo: Photo, job: Job, places: dict[str, Place]) -> Answer:
    try:
        with _alarm(seconds, photo):
            return job.one(job.read(photo, places))
    except Exception as error:
        return error


@contextmanager
def _alarm(seconds: float, photo: Photo) -> Iterator[None]:
    def ring(number: int, frame: FrameType | None) -> None:
        raise UserError(f"{photo.file_name} took more than {seconds:g} seconds")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
