"""One model behind a queue: photos wait in line, a few go through the model together, nothing is kept.

Shapes: H W pixels, K classes with background.
"""

from __future__ import annotations

import hashlib
import io
import queue
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tagseg.data.photo import photo_size, read_photo
from tagseg.errors import UserError
from tagseg.segmenter import Prediction, Segmenter

GATHER = 0.01  # seconds to wait for photos that can go together
SIZES = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)  # seconds: the buckets of the metrics


class Busy(Exception):  # noqa: N818 - a state, not a fault
    """The queue is full; come back later."""


class TooLarge(UserError):  # noqa: N818 - what it is, not that it is
    """A photo of more pixels than the service reads."""


@dataclass(frozen=True)
class Limits:
    """What one request may ask for, and how many may wait."""

    bytes: int = 25 << 20
    pixels: int = 25_000_000
    photos: int = 16
    waiting: int = 64
    batch: int = 8
    seconds: float = 60.0


@dataclass
class Metrics:
    """Counts since the start."""

    answers: Counter[int] = field(default_factory=Counter)  # by status
    photos: int = 0
    seconds: float = 0.0
    below: Counter[float] = field(default_factory=Counter)  # by bucket

    def took(self, seconds: float) -> None:
        """Note the time of one photo, from its arrival."""
        self.photos += 1
        self.seconds += seconds
        self.below.update(size for size in SIZES if seconds <= size)

    def text(self, waiting: int) -> str:
        """In Prometheus' form."""
        lines = ["# TYPE tagseg_answers_total counter"]
        lines += [f'tagseg_answers_total{{status="{status}"}} {n}' for status, n in sorted(self.answers.items())]
        lines += ["# TYPE tagseg_waiting gauge", f"tagseg_waiting {waiting}", "# TYPE tagseg_photo_seconds histogram"]
        lines += [f'tagseg_photo_seconds_bucket{{le="{size:g}"}} {self.below[size]}' for size in SIZES]
        lines += [
            f'tagseg_photo_seconds_bucket{{le="+Inf"}} {self.photos}',
            f"tagseg_photo_seconds_sum {self.seconds:.6f}",
        ]
        return "\n".join([*lines, f"tagseg_photo_seconds_count {self.photos}"]) + "\n"


@dataclass
class _Job:
    photo: NDArray[np.uint8]
    tags: tuple[str, ...] | None
    crf: bool
    answer: Future[Prediction]
    arrived: float


class Service:
    """Predictions of one model, from any number of threads; one thread works."""

    def __init__(self, segmenter: Segmenter, *, name: str = "tagseg", limits: Limits | None = None) -> None:
        self.segmenter, self.name, self.limits = segmenter, name, limits or Limits()
        self.classes = segmenter.classes
        digest = hashlib.sha256(segmenter.settings.model_dump_json().encode())
        for key, tensor in segmenter.method.state_dict().items():
            digest.update(key.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
        self.version = digest.hexdigest()[:12]
        self.metrics = Metrics()
        self.ready = threading.Event()
        self._jobs: queue.Queue[_Job | None] = queue.Queue(self.limits.waiting)
        self._worker = threading.Thread(target=self._work, name="model", daemon=True)

    def start(self) -> None:
        """Begin; `ready` is set after a first photo has gone through, with everything compiled that compiles."""
        self._worker.start()

    def close(self) -> None:
        """Finish what is being worked at, refuse what waits."""
        while True:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                break
            if job is not None:
                job.answer.cancel()
        self._jobs.put(None)
        if self._worker.is_alive():
            self._worker.join(timeout=30)

    @property
    def waiting(self) -> int:
        """Photos in the queue."""
        return self._jobs.qsize()

    def submit(
        self, photo: NDArray[np.uint8], tags: Sequence[str] | None = None, *, crf: bool = True
    ) -> Future[Prediction]:
        """Queue a photo (H, W, 3). Raises Busy when the queue is full, UserError for an unknown tag."""
        if tags is not None:
            self.segmenter.tag_vector(tags)  # a mistake is said before the photo waits
        job = _Job(photo, None if tags is None else tuple(tags), crf, Future(), time.monotonic())
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            raise Busy from None
        return job.answer

    def decode(self, content: bytes, name: str = "upload") -> NDArray[np.uint8]:
        """The photo (H, W, 3) in bytes that were sent. Raises TooLarge before decoding, UserError for what is no photo."""
        first: Any = Upload(content, name)
        height, width = photo_size(first)
        if height * width > self.limits.pixels:
            raise TooLarge(
                f"photo {name} has {width} x {height} pixels, more than the {self.limits.pixels:,} that are read."
            )
        again: Any = Upload(content, name)
        return read_photo(again, pixel_cap=self.limits.pixels)

    def _work(self) -> None:
        self._run([_Job(np.zeros((64, 64, 3), np.uint8), None, True, Future(), time.monotonic())], counted=False)
        self.ready.set()
        while (job := self._jobs.get()) is not None:
            jobs, end = [job], time.monotonic() + GATHER
            while len(jobs) < self.limits.batch:
                try:
                    more = self._jobs.get(timeout=max(end - time.monotonic(), 0))
                except queue.Empty:
                    break
                if more is None:
                    self._jobs.put(None)
                    break
                jobs.append(more)
            for crf in (True, False):
                self._run([each for each in jobs if each.crf is crf])

    def _run(self, jobs: list[_Job], counted: bool = True) -> None:
        jobs = [job for job in jobs if job.answer.set_running_or_notify_cancel()]
        if not jobs:
            return
        try:
            requests = [(job.photo, job.tags) for job in jobs]
            found = list(self.segmenter.predict_many(requests, crf=jobs[0].crf))
        except BaseException as error:
            for job in jobs:
                job.answer.set_exception(error)
            return
        for job, prediction in zip(jobs, found, strict=True):
            if counted:
                self.metrics.took(time.monotonic() - job.arrived)
            job.answer.set_result(prediction)


class Upload(io.BytesIO):
    """A file that was sent; messages call it by its name."""

    def __init__(self, content: bytes, name: str) -> None:
        super().__init__(content)
        self.shown = name

    def __str__(self) -> str:
        return self.shown

    def stat(self) -> Any:
        """Fail as a missing file does; it has no size of its own on disk."""
        raise OSError
