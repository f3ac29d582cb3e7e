"""A review that is open: photos, what was said of them, and their masks; safe to use from several threads.

Shapes: H W pixels.
"""

from __future__ import annotations

import hashlib
import math
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tagseg.data.marks import mark_photo
from tagseg.data.photo import photo_size, read_mask
from tagseg.data.review_journal import MASKS, STATES, TOUCHED, Journal, State, Verdict, place
from tagseg.errors import UserError
from tagseg.files import is_marked
from tagseg.foreign import reason
from tagseg.review.kept import put_aside, written
from tagseg.review.photo import Photo, Tags
from tagseg.review.proposals import Proposal, Proposals, classes_in, propose_masks


class Changed(Exception):  # noqa: N818 - it is news, not a fault
    """Another window has changed the photo since this one looked."""


class Answered(Exception):  # noqa: N818 - it is news, not a fault
    """The deed is done already: its answer was lost, and the page has asked again."""


class Session:
    """What the page asks and does.

    Raises UserError when the folder of the review is in use, belongs to other classes, or cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        photos: Sequence[Photo],
        proposals: Proposals,
        *,
        title: str = "",
    ) -> None:
        self.classes, self.proposals, self.title, self.folder = proposals.classes, proposals, title, folder
        self.photos = list(photos)
        self.number = {photo.name: i for i, photo in enumerate(self.photos)}
        self.journal = Journal(folder, self.classes)
        try:
            proposals.begin()  # behind the journal's lock: a start that it refuses changes nothing
        except BaseException:
            self.journal.close()
            raise
        # what a page says which review, and which list of photos, its numbers are of
        self.id = _digest(str(folder.resolve()))
        self.listing = _digest("\n".join(photo.name for photo in self.photos))
        self.revision = 1
        self._lock = threading.RLock()
        self._stop = threading.Event()
        self._worker = threading.Thread(target=self._look_at_all, name="proposals", daemon=True)
        try:
            for index in range(len(self.photos)):
                self._notice_replaced(index)
        except BaseException:
            self.journal.close()
            raise

    # What runs beside the page

    def start(self) -> None:
        """Begin to look at the photos, or to label them, while the page is used."""
        self._worker.start()

    def close(self) -> None:
        """End the work beside the page and let the folder go."""
        self._stop.set()
        if self._worker.is_alive():
            self._worker.join(timeout=30)
        self.journal.close()

    def _look_at_all(self) -> None:
        for index in range(len(self.photos)):
            if self._stop.is_set():
                return
            self.look(index)

    def look(self, index: int) -> Photo:
        """A photo with its proposal, made now where there is none; a broken photo has a `problem` instead."""
        photo = self.photos[index]
        if photo.proposal is None and not photo.problem:
            tags = self.tags(index)
            proposal, problem = self._described(photo, tags)
            with self._lock:
                if tags == self.tags(index):  # else the tags have changed meanwhile, and so has the proposal
                    photo.proposal, photo.problem = proposal, problem
                    self._touch(photo)
        return photo

    # What the page reads

    def verdict(self, index: int) -> Verdict:
        """What was said of a photo."""
        return self.journal.decisions.verdicts.get(self.photos[index].name) or Verdict()

    def tags(self, index: int) -> tuple[str, ...] | None:
        """A photo's tags, as corrected; None where nothing is known."""
        corrected = self.verdict(index).tags
        return self.photos[index].tags if corrected is None else corrected

    def row(self, index: int) -> dict[str, Any]:
        """A photo as the queue shows it."""
        photo, verdict, tags = self.photos[index], self.verdict(index), self.tags(index)
        proposal = photo.proposal
        doubt = None if proposal is None else proposal.doubt
        before = "another picture than before · " if verdict.replaced else ""
        return {
            "i": index,
            "name": photo.name,
            "state": verdict.state,
            "painted": verdict.painted,
            "version": verdict.version,
            "tags": None if tags is None else [self.classes.index(tag) for tag in tags],
            "retagged": photo.retagged(tags),
            "found": [] if proposal is None else list(proposal.found),
            "doubt": None if doubt is None else round(doubt.value, 4),
            "reason": photo.problem or ("not looked at yet" if doubt is None else before + doubt.reason),
            "broken": bool(photo.problem),
        }

    def rows(self, since: int = 0) -> tuple[int, list[dict[str, Any]]]:
        """The revision now, and the rows that have changed since another one."""
        with self._lock:
            return self.revision, [self.row(i) for i, photo in enumerate(self.photos) if photo.revision >= since]

    def mask(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8], int]:
        """The mask (H, W) of a photo, which pixels were painted (0 or 1), and the version that both are of.

        Raises UserError for a broken photo.
        """
        photo = self.photos[index]
        with self._lock:
            self._notice_replaced(index)
            kept = place(self.folder, MASKS, photo.name)
            verdict = self.verdict(index)
            if (verdict.painted or verdict.state == "accepted") and kept.is_file():
                mask_HW, touched = read_mask(kept), place(self.folder, TOUCHED, photo.name)
                if mask_HW.shape == photo_size(photo.path):
                    # without the file a mask came from elsewhere, and is a person's as a whole
                    whole_HW = np.full_like(mask_HW, verdict.painted)
                    touched_HW = read_mask(touched) if verdict.painted and touched.is_file() else whole_HW
                    return mask_HW, (touched_HW > 0).astype(np.uint8), verdict.version
                self._note_replaced(photo, verdict)  # an older journal does not tell which file it was
            version = self.verdict(index).version
        mask_HW = self._proposed(index)
        return mask_HW, np.zeros_like(mask_HW), version

    def order(self, count: int, seed: int = 0) -> list[tuple[int, bool]]:
        """Undecided photos in the order of expected gain, each with whether it was drawn at random."""
        with self._lock:
            known = [
                (i, photo.proposal)
                for i, photo in enumerate(self.photos)
                if photo.proposal is not None and self.verdict(i).state in ("open", "later")
            ]
        chosen = propose_masks([proposal for _, proposal in known], len(self.classes), count, seed=seed)
        return [(known[place][0], drawn) for place, drawn in chosen]

    # What the page does

    # version: that the change starts from, None: whatever it is; Changed is raised where it is another by now.
    # id: of the request; Answered is raised where it was followed already.

    def decide(
        self, index: int, state: State, version: int | None, seconds: float | None = None, *, id: str = ""
    ) -> None:
        """Accept, reject, put off or reopen a photo. An accepted mask is kept as it is now."""
        if state not in STATES:
            raise UserError(f"There is no decision {state!r}; there are {', '.join(STATES)}.")
        with self._writing(index, version, id) as (photo, verdict), self._accepted(index, state):
            self._append("decision", photo, verdict, id, state=state, seconds=seconds)

    def step(self, event: str, id: str = "") -> int | None:
        """Take the last decision back ("undo"), or make it again ("redo"): the photo's number, None where there is none.

        id: of the request; one that was answered already, but whose answer was lost, does nothing more.
        """
        with self._lock:
            decisions = self.journal.decisions
            if id in decisions.answered:
                return self.number.get(decisions.answered[id])
            stack = decisions.undo if event == "undo" else decisions.redo
            if not stack:
                return None
            name = stack[-1][0]
            if name not in self.number:
                raise UserError(f"The last decision was about {name}, which is not among these photos.")
            index = self.number[name]
            if not decisions.of(name).is_of(self.photos[index].path):
                self._notice_replaced(index)  # that decision is of another picture: the one before it counts
                return self.step(event, id)
            _, before, after = stack[-1]
            with self._accepted(index, before if event == "undo" else after, again=True):
                self._append(event, self.photos[index], decisions.of(name), id)
            return index

    def retag(self, index: int, tags: Sequence[str], version: int | None, *, id: str = "") -> None:
        """Correct a photo's tags: its mask is made anew with them, but for what a person painted."""
        unknown = [tag for tag in tags if tag not in self.classes[1:]]
        if unknown:
            raise UserError(f"There is no class {unknown[0]!r}; there are {', '.join(self.classes[1:])}.")
        with self._writing(index, version, id) as (photo, verdict):
            mask_HW, touched_HW, _ = self.mask(index)
            chosen = tuple(name for name in self.classes[1:] if name in tags)
            proposal, problem = self._described(photo, chosen)
            if problem:
                raise UserError(problem)
            fresh_HW = self._proposed_for(photo, chosen)
            kept = verdict.painted or self._keeps(photo, verdict)
            with written(self.folder, photo.name, np.where(touched_HW > 0, mask_HW, fresh_HW) if kept else None):
                self._append("tags", photo, verdict, id, tags=list(chosen))
            photo.proposal, photo.problem = proposal, ""

    def paint(
        self,
        index: int,
        mask: NDArray[np.uint8],
        touched: NDArray[np.uint8],
        version: int | None,
        *,
        id: str = "",
    ) -> None:
        """Keep a mask (H, W) that a person has painted on, and which pixels."""
        with self._writing(index, version, id) as (photo, verdict):
            now_HW, _, _ = self.mask(index)
            if mask.shape != now_HW.shape or touched.shape != now_HW.shape:
                raise UserError(f"The mask of {photo.name} needs {now_HW.shape[1]} x {now_HW.shape[0]} pixels.")
            strange = mask[(mask >= len(self.classes)) & (mask < 255)]
            if strange.size or touched.max(initial=0) > 1:
                raise UserError(f"The mask of {photo.name} holds a value that no class has.")
            with written(self.folder, photo.name, mask, touched):
                self._append("mask", photo, verdict, id, painted=True, pixels=int(touched.sum()))
            if photo.proposal is not None:
                found, areas = classes_in(mask)
                photo.proposal = replace(photo.proposal, found=found, areas=areas)

    def reset(self, index: int, version: int | None, *, id: str = "") -> None:
        """Drop what was painted on a photo."""
        with self._writing(index, version, id) as (photo, verdict):
            photo.proposal, photo.problem = None, ""
            fresh_HW = self._proposed(index)
            with written(self.folder, photo.name, fresh_HW if self._keeps(photo, verdict) else None):
                self._append("mask", photo, verdict, id, painted=False)
            place(self.folder, TOUCHED, photo.name).unlink(missing_ok=True)

    def _keeps(self, photo: Photo, verdict: Verdict) -> bool:
        """Whether a photo's mask is kept: it is accepted, or was, and may be again by an undo."""
        return verdict.state == "accepted" or place(self.folder, MASKS, photo.name).is_file()

    def _proposed(self, index: int) -> NDArray[np.uint8]:
        photo = self.look(index)
        if photo.problem:
            raise UserError(photo.problem)
        return self._proposed_for(photo, self.tags(index))

    def _proposed_for(self, photo: Photo, tags: Tags) -> NDArray[np.uint8]:
        return self.proposals.mask(photo.name, photo.path, tags, photo.retagged(tags))

    def _described(self, photo: Photo, tags: Tags) -> tuple[Proposal | None, str]:
        """What the photo's mask would be with some tags, or why there is none."""
        try:
            proposal = self.proposals.describe(photo.name, photo.path, tags, photo.retagged(tags))
            if not math.isfinite(proposal.doubt.value):
                raise UserError(f"{photo.name} could not be labeled (the model's probabilities are no numbers)")
            return proposal, ""
        except UserError as error:
            return None, str(error)
        except Exception as error:  # one photo that a network cannot take must not end the work on all others
            return None, f"{photo.name} could not be labeled ({reason(error)})"

    @contextmanager
    def _writing(self, index: int, version: int | None, id: str) -> Iterator[tuple[Photo, Verdict]]:
        """The photo and its verdict, held for a change."""
        with self._lock:
            if id in self.journal.decisions.answered:
                raise Answered
            self._notice_replaced(index)
            photo = self.photos[index]
            verdict = self.journal.decisions.of(photo.name)
            if version is not None and version != verdict.version:
                raise Changed
            yield photo, verdict

    def _append(self, event: str, photo: Photo, verdict: Verdict, id: str = "", **more: Any) -> None:
        entry = {"time": round(time.time(), 3), "event": event, "photo": photo.name, "version": verdict.version + 1}
        if photo.path.is_file() and (verdict.file is None or not is_marked(photo.path, verdict.file)):
            entry["file"] = mark_photo(photo.path)
        self.journal.append(
            entry | {key: value for key, value in more.items() if value is not None} | ({"id": id} if id else {})
        )
        self._touch(photo)

    def _notice_replaced(self, index: int) -> None:
        """Forget what was said of a photo where its file is another picture now."""
        photo = self.photos[index]
        verdict = self.journal.decisions.verdicts.get(photo.name)
        if verdict is not None and not verdict.is_of(photo.path):
            self._note_replaced(photo, verdict)

    def _note_replaced(self, photo: Photo, verdict: Verdict) -> None:
        self._append("replaced", photo, verdict)
        put_aside(self.folder, photo.name)
        photo.proposal, photo.problem = None, ""

    def _touch(self, photo: Photo) -> None:
        self.revision += 1
        photo.revision = self.revision

    @contextmanager
    def _accepted(self, index: int, state: State, *, again: bool = False) -> Iterator[None]:
        """The mask of a photo that becomes accepted, as it is now; one that was painted is there already.

        again: whether it was accepted before. The mask of then counts: today's may be another model's.
        """
        photo = self.photos[index]
        there = (self.verdict(index).painted or again) and place(self.folder, MASKS, photo.name).is_file()
        with written(self.folder, photo.name, self.mask(index)[0] if state == "accepted" and not there else None):
            yield


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]
