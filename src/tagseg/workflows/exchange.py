"""Masks between labeling tools, formats and reviews: out as tasks, back as corrections, from format to format."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tagseg.data.class_lists import listed_classes, values_by_name, write_class_list
from tagseg.data.classes import check_classes
from tagseg.data.folders import find_masks
from tagseg.data.marks import mark_photo
from tagseg.data.paths import held
from tagseg.data.photo import read_mask, read_photo
from tagseg.data.review_journal import MASKS, STATES, Journal, place, read_classes, read_verdicts
from tagseg.errors import UserError
from tagseg.mask_values import BACKGROUND, UNKNOWN
from tagseg.outputs import OUTPUTS, READERS, Stored, Writer
from tagseg.outputs.coco import CocoRLE
from tagseg.outputs.cvat import CvatMasks
from tagseg.outputs.label_studio import LabelStudioBrush, read_label_studio
from tagseg.outputs.masks import PaletteMasks, list_beside
from tagseg.places import check_output, safe_name
from tagseg.result_folder import ResultFolder
from tagseg.review.kept import written as kept_written
from tagseg.review.proposals import read_facts
from tagseg.workflows.photos_of_masks import PhotosOfMasks
from tagseg.workflows.review import check_own_classes

TOOLS = ("label-studio", "cvat")
SOURCES = {
    "masks": "png",
    "folders": "folders",
    "coco": "coco",
    "yolo": "yolo",
    "label-studio": "label-studio",
    "cvat": "cvat",
}
CONVERTED = "convert"
MARKER = ".tagseg-convert"  # beside results: which of the files are tagseg's
PROPOSED = "proposed"
NEED_PHOTOS = ("overlay", "overlay-png", "folders", "yolo")  # formats that hold the photos themselves


@dataclass
class Exchanged:
    """How many masks went, and a sentence about each that did not.

    unannotated: tasks that nobody has worked on, so that their masks are nobody's corrections.
    """

    done: int = 0
    unchanged: int = 0
    unannotated: int = 0
    problems: list[str] = field(default_factory=list)


def export_tasks(
    source: Path,
    images: Path,
    out: Path,
    *,
    to: str,
    classes: Sequence[str] = (),
    tags: Mapping[str, Sequence[str]] | None = None,
    states: Sequence[str] = (),
    photo_url: str | None = None,
) -> Exchanged:
    """Write masks as tasks of a labeling tool.

    source: a folder of masks, or of a review; states: of a review's photos, those to send (none: all). classes: the K names
    of a folder of masks, the first "background". tags: names by photo, ticked in Label Studio. photo_url: as
    LabelStudioBrush takes it. Raises UserError for an unknown tool or state, or when no mask belongs to a photo.
    """
    check_output(out, [source, images])
    if to not in TOOLS:
        raise UserError(f"There is no tool {to!r}; there are {', '.join(TOOLS)}.")
    names, problems = read_classes(source), list[str]()
    ticked = dict(tags or {})
    if names is not None:
        check_own_classes(classes[1:], names[1:], source)
        masks = _reviewed(source, states, problems)
        corrected = {name: v.tags for name, v in read_verdicts(source).items() if v.tags is not None}
        ticked |= corrected
    elif states:
        raise UserError(f"{source} is no folder of a review, so its masks have no states: leave --state out.")
    else:
        stored = read(source, "masks", classes=classes)
        masks, names = stored.masks, _names(stored, source)
    make: Callable[..., Writer] = OUTPUTS[to]
    if to == "label-studio":
        make = partial(LabelStudioBrush, photo_url=photo_url, version=source.resolve().name, tags=ticked)
    return _write(Stored(names, masks), OUTPUTS[to], out, images, make, problems)


def kept_classes(source: Path) -> tuple[str, ...]:
    """The classes 1.. that a review, or a list beside masks, names; none where nothing does."""
    return (read_classes(source) or ())[1:] or listed_classes(source)


def convert(
    source: Path, out: Path, *, read_as: str, to: str, images: Path | None = None, classes: Sequence[str] = ()
) -> Exchanged:
    """Write masks of one format in another.

    images: folder of the photos, for formats that hold photos or name them. classes: as `read` takes them. Raises
    UserError.
    """
    check_output(out, [source, *([] if images is None else [images])])
    problems: list[str] = []
    stored = read(source, read_as, images, classes, problems)
    check_own_classes(classes[1:], stored.classes[1:], source)
    formats = [name for name in OUTPUTS if name != "json"]
    if to not in formats:
        raise UserError(f"There is no format {to!r} to convert to; there are {', '.join(formats)}.")
    if to in NEED_PHOTOS and images is None:
        raise UserError(f"The format {to} holds the photos too: give their folder with --images.")
    _names(stored, source)
    return _write(stored, OUTPUTS[to], out, images, OUTPUTS[to], problems)


def read(
    source: Path,
    read_as: str,
    images: Path | None = None,
    classes: Sequence[str] = (),
    problems: list[str] | None = None,
    *,
    predictions: bool = True,
) -> Stored:
    """The masks of a file or folder in one of the formats of SOURCES.

    classes: the K names of a format that keeps none (palette PNG), the first "background"; without them those of a list
    that lies there. problems, predictions: as `read_label_studio` takes them. Raises UserError.
    """
    if read_as not in SOURCES:
        raise UserError(f"There is no format {read_as!r} to read; there are {', '.join(SOURCES)}.")
    if not source.exists():
        raise UserError(f"{source} does not exist.")
    if read_as == "label-studio":
        return read_label_studio(source, images, problems, predictions=predictions)
    stored = READERS[SOURCES[read_as]](source)
    if stored.classes:
        return stored
    listed = () if classes else listed_classes(source)
    return replace(stored, classes=tuple(classes) or (listed and (BACKGROUND, *listed)))


def _names(stored: Stored, source: Path) -> tuple[str, ...]:
    if not stored.classes:
        raise UserError(f"The classes of {source} are not known: give their names in order with --classes cat,dog.")
    return stored.classes


def import_masks(source: Path, review: Path, *, read_as: str, images: Path, classes: Sequence[str] = ()) -> Exchanged:
    """Take corrected masks back into the folder of a review, made where there is none; they count as accepted.

    Masks belong to the photo of their name and must have its size; what does not fit is named and left out. Classes go by
    their names. Ticked tags of Label Studio replace the table's. Masks that are accepted already, to the pixel, stay as
    they are. classes: the K names of a new review, and of a format that keeps none, the first "background"; without them
    the source's own.
    """
    check_output(review, [source, images], "--review")
    result = Exchanged()
    stored = read(source, read_as, images, classes, result.problems, predictions=False)
    own = [name for name in stored.classes if name != BACKGROUND]  # CVAT's list may begin with another
    kept = read_classes(review)
    if kept is not None and stored.classes != tuple(classes):  # else they are the numbers of the masks
        check_own_classes(classes[1:], kept[1:], review)
    names = kept or tuple(classes) or (_names(stored, source) and (BACKGROUND, *own))
    if kept is None:
        check_classes(names[1:])
    values = np.array(values_by_name(stored.classes or names, names), dtype=np.uint8)
    photos = PhotosOfMasks(images, review / MASKS, stored.names)
    with closing(Journal(review, names)) as journal:
        for written, mask_HW in stored.masks:
            try:
                name = photos.name_of(written, mask_HW)
                found_HW = values[mask_HW]
                if (found_HW == UNKNOWN).any():
                    k = int(mask_HW[found_HW == UNKNOWN][0])
                    label = stored.classes[k] if k < len(stored.classes) else f"number {k}"
                    raise _stranger(written, f"class {label}", names)
                tags = stored.tags.get(written)
                for tag in tags or ():
                    if tag not in names[1:]:
                        raise _stranger(written, f"tag {tag}", names)
            except UserError as error:
                result.problems.append(str(error))
                continue
            photos.take(name, written)
            if _take(journal, name, found_HW, tags, {"from": read_as, "file": mark_photo(photos.path(name))}):
                result.done += 1
            else:
                result.unchanged += 1
    result.unannotated = len(stored.unannotated)
    return result


def _stranger(written: str, what: str, names: Sequence[str]) -> UserError:
    return UserError(f"{written} has the {what}, which the review of {', '.join(names[1:])} does not know")


def _take(
    journal: Journal, name: str, mask_HW: NDArray[np.uint8], tags: Sequence[str] | None, more: Mapping[str, object]
) -> bool:
    """Note a mask as accepted; False where it is already. more: what else each line of the journal tells."""
    verdict, file = journal.decisions.of(name), place(journal.folder, MASKS, name)
    events: list[dict[str, object]] = []
    painted_HW = None
    if tags is not None and tuple(tags) != verdict.tags:
        events.append({"event": "tags", "tags": list(tags)})
    if verdict.state != "accepted" or not file.is_file() or not np.array_equal(read_mask(file), mask_HW):
        painted_HW = np.ones_like(mask_HW)
        events += [{"event": "mask", "painted": True}, {"event": "decision", "state": "accepted"}]
    with nullcontext() if painted_HW is None else kept_written(journal.folder, name, mask_HW, painted_HW):
        for event in events:
            version = journal.decisions.of(name).version + 1
            journal.append({"time": round(time.time(), 3), **event, "photo": name, "version": version, **more})
    return bool(events)


def _reviewed(review: Path, states: Sequence[str], problems: list[str]) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """The masks of a review's photos: kept ones, else the model's.

    problems: takes a sentence about each photo with a decision whose mask lies elsewhere, in a folder that was reviewed.
    """
    unknown = [state for state in states if state not in STATES]
    if unknown:
        raise UserError(f"There is no state {unknown[0]!r}; there are {', '.join(STATES)}.")
    verdicts = read_verdicts(review)
    kept = find_masks(held(review / MASKS, review))
    proposed = held(review / PROPOSED, review)
    made = {name: held(proposed / f"{name}.png", review) for name in map(safe_name, read_facts(proposed))}

    def masks() -> Iterator[tuple[str, NDArray[np.uint8]]]:
        for name in sorted(kept.keys() | made.keys() | verdicts.keys()):
            verdict = verdicts.get(name)
            state = "open" if verdict is None else verdict.state
            decided = verdict is not None and (verdict.painted or state == "accepted")
            path = kept.get(name) if decided else made.get(name)
            if states and state not in states:
                continue
            if path is not None and path.is_file():
                yield name, read_mask(path)
            elif verdict is not None:
                problems.append(
                    f"{name} is {state}, and {review} has no mask of it: it lies in the folder that was reviewed; convert that"
                )

    return masks()


def _write(
    stored: Stored,
    kind: type[Writer],
    out: Path,
    images: Path | None,
    make: Callable[..., Writer],
    problems: list[str] | None = None,
) -> Exchanged:
    """Write masks in a format; make: opens its writer on a folder for some classes. problems: what reading them found."""
    photos = PhotosOfMasks(images, out, stored.names)
    kind.check_classes(stored.classes)
    result = Exchanged(problems=[] if problems is None else problems)
    listed = list_beside(kind, out, MARKER)
    by, beside = _maker(kind, stored.classes, out), (*kind.shared, *listed)
    results = ResultFolder.claim(out, MARKER, by, [], overwrite=False, rewritten=beside)
    with results.rewriting(), make(out, stored.classes) as writer:
        if listed:
            write_class_list(out, stored.classes)
        for written, mask_HW in stored.masks:
            try:
                name = photos.name_of(written, mask_HW)
            except UserError as error:
                result.problems.append(str(error))
                continue
            file_name, link = photos.file_name(name), photos.link(name)
            photo_HW3 = np.broadcast_to(np.uint8(0), (*mask_HW.shape, 3))  # for formats that never look at it
            if images is not None and not isinstance(writer, LabelStudioBrush | CvatMasks | CocoRLE | PaletteMasks):
                photo_HW3 = read_photo(photos.path(name))
            files = writer.paths(name)
            results.spare(files)
            results.begin(files)
            writer.add(name, photo_HW3, mask_HW, file_name=file_name, link=link)
            results.wrote(files)
            photos.take(name, written)
            result.done += 1
        if not result.done:  # inside the block: what an earlier call wrote for all photos stays as it was
            first = f": {result.problems[0]}" if result.problems else "; the source holds none"
            raise UserError(f"No mask could be written to {out}{first}.")
    return result


def _maker(kind: type[Writer], classes: Sequence[str], out: Path) -> str:
    """What a folder keeps of who wrote there. Raises UserError where masks of other classes, a file each, would be mixed.

    A file for all photos is written anew as a whole, so that nothing is mixed there.
    """
    if not kind.paths("name"):
        return CONVERTED
    by, there = f"{CONVERTED} to {kind.__name__}: {', '.join(classes)}", ResultFolder.makers(out, MARKER)
    if there == {CONVERTED}:  # of a version that did not keep the classes
        return CONVERTED
    if there - {by, CONVERTED}:
        raise UserError(f"{out} holds masks of other classes, or in another format: choose another --out.")
    return by
