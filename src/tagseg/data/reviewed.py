"""What a review means for the next training."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tagseg.data.class_lists import values_by_name
from tagseg.data.photo import read_mask
from tagseg.data.review_journal import MASKS, place, read_classes, read_verdicts
from tagseg.errors import UserError

if TYPE_CHECKING:
    from tagseg.data.tagged import TaggedImages, TaggedPhoto


@dataclass(frozen=True)
class Reviewed:
    """How many photos of each kind: masks as proposed, masks that were painted or have other tags, left out, other tags.

    elsewhere: photos of the review that are not among those of the training. replaced: photos whose file is another picture
    than the one that was looked at; nothing that was said of it counts.
    """

    accepted: int = 0
    corrected: int = 0
    rejected: int = 0
    retagged: int = 0
    elsewhere: int = 0
    replaced: int = 0

    @property
    def of_tags(self) -> str:
        """What a training that learns no masks takes of a review, in words."""
        return f"reviewed ({self.rejected} photos left out, {self.retagged} with corrected tags)"

    def __str__(self) -> str:
        """In words, for the report."""
        more = f", {self.elsewhere} not among these photos" if self.elsewhere else ""
        if self.replaced:
            more += f", {self.replaced} not counted since another picture has replaced the photo"
        return (
            f"{self.accepted + self.corrected} reviewed masks ({self.accepted} accepted, {self.corrected} corrected; "
            f"{self.rejected} photos rejected and left out, {self.retagged} with corrected tags{more})"
        )


def with_review(data: TaggedImages, folder: Path) -> tuple[TaggedImages, Reviewed]:
    """The photos as a review leaves them, and how many of each kind there are.

    Accepted masks, painted on or not, become true masks. Rejected photos are left out. Corrected tags replace the
    table's, and a class that was painted is a tag. Photos that are put off or not decided stay as they are.
    Raises UserError where there is no review, or it knows a class that the data lack.
    """
    verdicts = read_verdicts(folder)
    classes = read_classes(folder)
    assert classes is not None
    index = {name: k for k, name in enumerate(("background", *data.classes))}
    values = values_by_name(classes, ("background", *data.classes))
    counts = dict.fromkeys(("accepted", "corrected", "rejected", "retagged", "replaced"), 0)
    photos: list[TaggedPhoto] = []
    for photo in data.photos:
        verdict = verdicts.get(photo.name)
        if verdict is not None and not verdict.is_of(photo.photo):
            counts["replaced"] += 1
            verdict = None
        if verdict is None:
            photos.append(photo)
            continue
        if verdict.state == "rejected":
            counts["rejected"] += 1
            continue
        tags = photo.tags
        if verdict.tags is not None:
            tags = tuple(sorted(_number(tag, index, photo.name, folder) for tag in verdict.tags))
        changed = tags != photo.tags
        counts["retagged"] += changed
        true = None
        if verdict.state == "accepted":
            true = place(folder, MASKS, photo.name)
            if not true.is_file():
                raise UserError(f"{true} is missing, though {photo.name} was accepted: accept it again.")
            counts["corrected" if verdict.painted or changed else "accepted"] += 1
            if verdict.painted:
                painted = {classes[k] for k in np.unique(read_mask(true)) if 0 < k < len(classes)}
                tags = tuple(sorted({*tags, *(_number(name, index, photo.name, folder) for name in painted)}))
        photos.append(replace(photo, tags=tags, true=true))
    if not photos:
        raise UserError(f"Every photo was rejected in {folder}: nothing is left to train on.")
    names = {photo.name for photo in data.photos}
    elsewhere = sum(name not in names for name in verdicts)
    if verdicts and elsewhere == len(verdicts):
        raise UserError(f"{folder} is a review of other photos: none of them is among those of this training.")
    known = replace(data, photos=tuple(photos), true_values=values)
    return known, Reviewed(**counts, elsewhere=elsewhere)


def _number(name: str, index: dict[str, int], photo: str, folder: Path) -> int:
    if name not in index:
        raise UserError(
            f"{photo} has the class {name!r} in {folder}, which the tags lack: give all classes with --classes."
        )
    return index[name]
