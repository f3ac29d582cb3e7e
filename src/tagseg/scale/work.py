"""One shard: its photos read, segmented, and committed as one container and, last, one record."""

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
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tagseg.errors import UserError
from tagseg.foreign import reading, reason
from tagseg.scale.containers import CONTAINERS, Container, Pictures, encode
from tagseg.scale.photos import Photo
from tagseg.scale.places import Place
from tagseg.scale.plan import Plan
from tagseg.segmenter import Prediction, Segmenter

Answer = Prediction | Exception


@dataclass(frozen=True)
class Record:
    """What became of a shard. errors: name and reason of each photo without a mask. bytes, sha256: of its container."""

    shard: int
    photos: int
    errors: tuple[tuple[str, str], ...]
    bytes: int
    sha256: str
    fingerprint: str
    seconds: float


def read_record(place: Place, plan: Plan, shard: int) -> Record | None:
    """The record of a shard that is done, None of one that is not. Raises UserError for the record of another plan."""
    key = f"records/{plan.key(shard)}.json"
    if not place.exists(key):
        return None
    with reading(f"{place.url}/{key}", "the record of a shard"):
        facts = json.loads(place.read(key))
        record = Record(**facts | {"errors": tuple((name, why) for name, why in facts["errors"])})
    if record.fingerprint != plan.fingerprint:
        raise UserError(f"{place.url}/{key} is of another plan: choose another --out.")
    return record


def work(
    place: Place,
    plan: Plan,
    shard: int,
    photos: list[Photo],
    segmenter: Segmenter,
    *,
    crf: bool = True,
    pixel_cap: int,
    timeout: float | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> Record:
    """Do a shard, unless its record is there, and give the record.

    photos: those of the shard. timeout: seconds after which a photo is given up; needs a system with alarms, and the
    main thread. A photo that cannot be read or segmented becomes a row with its reason; the others are done all the same.
    """
    if (there := read_record(place, plan, shard)) is not None:
        return there
    begin, kind = time.monotonic(), CONTAINERS[plan.container]
    with tempfile.TemporaryDirectory(prefix="tagseg-") as folder:
        file = Path(folder, f"{plan.key(shard)}{kind.suffix}")
        container = _open(kind, file, plan, place)
        errors: list[tuple[str, str]] = []
        for done, (photo, answer) in enumerate(
            _answers(segmenter, photos, crf=crf, pixel_cap=pixel_cap, timeout=timeout), start=1
        ):
            facts, png = _row(photo, answer)
            if png is None:
                errors.append((photo.name, facts["error"]))
            container.add(facts, png)
            progress(done)
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
        )
    if not place.write(f"records/{plan.key(shard)}.json", (json.dumps(asdict(record)) + "\n").encode(), new=True):
        other = read_record(place, plan, shard)  # another worker was first, with the same container
        assert other is not None
        return other
    return record


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


def _row(photo: Photo, answer: Answer) -> tuple[dict[str, Any], bytes | None]:
    if isinstance(answer, Exception):
        words = str(answer) if isinstance(answer, UserError) else f"{type(answer).__name__}: {reason(answer)}"
        return {"name": photo.name, "file_name": photo.file_name, "error": words[:500]}, None
    pixels = np.bincount(answer.mask.ravel(), minlength=len(answer.classes))
    there = [k for k in range(len(answer.classes)) if pixels[k]]
    height, width = answer.mask.shape
    facts = {
        "name": photo.name,
        "file_name": photo.file_name,
        "height": height,
        "width": width,
        "classes": [answer.classes[k] for k in there],
        "pixels": [int(pixels[k]) for k in there],
    }
    return facts, encode(answer.mask)


def _answers(
    segmenter: Segmenter, photos: list[Photo], *, crf: bool, pixel_cap: int, timeout: float | None
) -> Iterator[tuple[Photo, Answer]]:
    """A prediction, or what went wrong, for each photo in order."""
    places: dict[str, Place] = {}
    if timeout is not None:
        for photo in photos:
            yield photo, _within(timeout, photo, segmenter, places, crf, pixel_cap)
        return
    waiting: deque[tuple[Photo, NDArray[np.uint8] | Exception]] = deque()  # taken by the model, not answered
    again: deque[tuple[Photo, NDArray[np.uint8] | Exception]] = deque()  # taken when the model failed on one before
    rest = iter(photos)

    def requests() -> Iterator[tuple[NDArray[np.uint8], tuple[str, ...] | None]]:
        while True:
            if again:
                item = again.popleft()
            elif (photo := next(rest, None)) is not None:
                item = photo, _pixels(photo, places, pixel_cap)
            else:
                return
            waiting.append(item)
            if not isinstance(item[1], Exception):
                yield item[1], item[0].tags

    def failed() -> Iterator[tuple[Photo, Exception]]:
        while waiting and isinstance(waiting[0][1], Exception):
            photo, error = waiting.popleft()
            assert isinstance(error, Exception)
            yield photo, error

    while True:
        try:
            for prediction in segmenter.predict_many(requests(), crf=crf):
                yield from failed()
                yield waiting.popleft()[0], prediction
            yield from failed()
            return
        except Exception as error:  # one photo's trouble, be it a full memory, is not the others'
            yield from failed()
            if not waiting:
                raise
            yield waiting.popleft()[0], error
            again.extendleft(reversed(waiting))
            waiting.clear()


def _pixels(photo: Photo, places: dict[str, Place], pixel_cap: int) -> NDArray[np.uint8] | Exception:
    try:
        return photo.read(places, pixel_cap=pixel_cap)
    except UserError as error:
        return error


def _within(
    seconds: float, photo: Photo, segmenter: Segmenter, places: dict[str, Place], crf: bool, pixel_cap: int
) -> Answer:
    try:
        with _alarm(seconds, photo):
            return segmenter.predict(photo.read(places, pixel_cap=pixel_cap), tags=photo.tags, crf=crf)
    except Exception as error:
        return error


@contextmanager
def _alarm(seconds: float, photo: Photo) -> Iterator[None]:
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        raise UserError("--timeout needs a system with alarms, and the main thread: leave it out here.")

    def ring(number: int, frame: FrameType | None) -> None:
        raise UserError(f"{photo.file_name} took more than {seconds:g} seconds")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
