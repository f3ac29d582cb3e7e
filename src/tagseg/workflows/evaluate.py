"""Score a folder of masks against true masks.

Shapes: H W pixels, K classes with background.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from tagseg.data.class_lists import disagree, listed_classes
from tagseg.data.folders import by_name, find_photos
from tagseg.data.mask_numbers import MaskNumbers, TagTable, no_mask_holds
from tagseg.data.masks import ignored_objects, present, read_mask
from tagseg.data.tagged import check_classes
from tagseg.data.voc import open_voc
from tagseg.errors import UserError
from tagseg.files import make_folder, to_json, write_text
from tagseg.foreign import read_json
from tagseg.interrupt import check
from tagseg.mask_values import BACKGROUND, IGNORE, UNKNOWN
from tagseg.places import check_output, is_link
from tagseg.progress import tracked
from tagseg.scores import Scores, in_percent
from tagseg.workflows.numbering import Numbering, check_order

LARGEST_CONFUSION = 12  # classes up to which the confusion matrix is shown


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found.

    classes: the K names, background first. scores: over all photos. photos: mIoU in [0, 1] of each photo by its name.
    masks, truth: the folders. split: the list of a VOC-layout folder, or None. labels_used: which labels the masks were
    made with, as told; empty when not told. notes: sentences about classes that no true mask holds. bare: photos whose
    true mask holds no class. left_bare: those of them whose mask holds none either: the others are false alarms.
    """

    classes: tuple[str, ...]
    scores: Scores
    photos: dict[str, float]
    masks: Path
    truth: Path
    split: str | None
    labels_used: str
    notes: tuple[str, ...] = ()
    bare: int = 0
    left_bare: int = 0

    @property
    def classes_miou(self) -> float:
        """Mean IoU in [0, 1] of the classes without background; nan where none occurs."""
        return _mean(self.scores.iou[1:])

    @property
    def protocol(self) -> str:
        """One sentence that says what the number is and which labels it used."""
        where = f"{self.truth}" + (f", list {self.split}" if self.split else "")
        labels = self.labels_used or "not stated"
        return (
            f"{self.scores.photos} photos of {where}; one confusion matrix over all pixels, background counted as a "
            f"class, 255 in the truth left out; labels the masks were made with: {labels}."
        )

    def as_dict(self) -> dict[str, Any]:
        """Everything as JSON-able values, scores in percent."""
        return {
            "protocol": self.protocol,
            "masks": str(self.masks),
            "truth": str(self.truth),
            "split": self.split,
            "labels_used": self.labels_used,
            "classes": list(self.classes),
            **self.scores.as_dict(self.classes, confusion=True),
            "classes_miou": in_percent(self.classes_miou),
            "bare": self.bare,
            "left_bare": self.left_bare,
            "covered_miou": self.scores.covered().as_dict(self.classes)["miou"],
            "photo_miou": {name: round(100 * value, 4) for name, value in self.photos.items()},
        }


def evaluate(
    masks: Path,
    truth: Path,
    *,
    split: str | None = None,
    classes: Sequence[str] | None = None,
    labels_used: str = "",
    boundary: bool = True,
    tags: TagTable | None = None,
) -> Evaluation:
    """Score the masks of a folder against true masks of the same names.

    masks: folder of index PNGs, as `label` and `predict` write them; no link in it may lead outside.
    truth: folder of index masks; or, with `split`, a folder in the PASCAL VOC layout, scored on that list's photos.
    classes: the names 1..C in the masks' order; with `split` a subset of the folder's classes, the others counting as
        background. Without names, with `tags` those of a list beside the masks, else the tags; else numbers. Where the
        list beside the masks has another order than the truth, numbers are told apart by their names.
    tags: the photos' tags; a class that they promise and no true mask holds is named in a note. With `split` the list's.
    labels_used: which labels the masks were made with, kept with the result.
    Masks without a truth are passed over. Raises UserError for missing masks, other sizes, values outside the classes.
    """
    files = _files(masks, "masks", results=True)
    values = colors = None
    tags_of: dict[str, tuple[int, ...]] = {}
    if split is not None:
        data = open_voc(truth, split, classes=classes)
        classes, values, colors = data.classes, data.mask_values, data.mask_colors
        wanted: dict[str, Path] = {}
        for photo in data.photos:
            if photo.mask is None:
                raise UserError(f"{truth} has no true mask of {photo.name}, which {split}.txt lists; add it")
            wanted[photo.name] = photo.mask
            tags_of[photo.name] = photo.tags
    else:
        if (truth / "ImageSets" / "Segmentation").is_dir():
            raise UserError(f"{truth} is in the VOC layout: name the list to score with --split, such as --split val")
        wanted = _files(truth, "true masks")
    _refuse_missing(wanted, files, masks)
    beside, theirs = listed_classes(masks), () if split is not None else listed_classes(truth)
    if classes is not None and split is None:
        check_order(classes, beside, masks)
        check_order(classes, theirs, truth)
    listed = theirs if disagree(beside, theirs) else beside or theirs
    if tags is not None:
        classes, tags_of = tags.of_masks(wanted, [truth], classes or tags.classes or listed or None)
    elif classes is None and disagree(beside, theirs):
        classes = theirs

    if classes is None:
        names = _numbered([*wanted.values(), *(files[name] for name in wanted)])
    else:
        names = (BACKGROUND, *check_classes(classes))
    renumber = Numbering(beside, names[1:])
    total = Scores(len(names), boundary=boundary)
    photos: dict[str, float] = {}
    numbers = MaskNumbers(names[1:], str(truth))
    bare = left_bare = 0
    seen = np.zeros((2, 256), bool)  # which numbers occur in the truth, and in the predictions
    for name, path in tracked(wanted.items(), "Scoring", len(wanted), least=100):
        check()
        prediction_HW, truth_HW = read_mask(files[name]), read_mask(path, colors=colors)
        prediction_HW = renumber(files[name], prediction_HW)
        for row, mask_HW in zip(seen, (truth_HW, prediction_HW), strict=True):
            row |= present(mask_HW)
        _check_values(files[name], prediction_HW, names)
        if values is None:
            _check_values(path, truth_HW, names)
        else:
            truth_HW = _run_order(path, truth_HW, values)
        numbers.add(tags_of.get(name, ()), truth_HW)
        if prediction_HW.shape != truth_HW.shape:
            raise UserError(f"mask {files[name]} is {_size(prediction_HW)}, but its truth {path} is {_size(truth_HW)}")
        if not holds_class(truth_HW):
            bare += 1
            left_bare += not holds_class(prediction_HW)
        own = Scores(len(names), boundary=boundary)
        own.add(prediction_HW, truth_HW)
        total.merge(own)
        if np.isfinite(own.miou):  # a truth of nothing but 255 has no score
            photos[name] = own.miou
    for row, folder in zip(seen, (truth, masks), strict=True):
        if row[IGNORE] and not row[1:IGNORE].any():
            raise UserError(ignored_objects(str(folder)))
    notes = tuple(numbers.broken_promises())
    if classes is not None and not tags_of:
        absent = [name for i, name in enumerate(names[1:], 1) if not numbers.held[i]]
        notes = (no_mask_holds(absent, truth),) if absent else ()
    if disagree(beside, names[1:]):
        notes += (f"{masks} has a list of classes in another order in it or beside it, so its masks are read by name.",)
    return Evaluation(names, total, photos, masks, truth, split, labels_used, notes, bare, left_bare)


def table(result: Evaluation) -> RenderableType:
    """The result for the terminal: a row per class, the means, the confusion of few classes, and how it was counted."""
    scores = result.scores
    has_boundary = scores.boundary is not None
    rows = Table("class", title=f"Scores in percent: mIoU {_text(scores.miou)}")
    for head in ("IoU", "precision", "recall", *(["boundary IoU"] if has_boundary else [])):
        rows.add_column(head, justify="right")
    columns = [scores.iou, scores.precision, scores.recall, *([scores.boundary_iou] if has_boundary else [])]
    for i, name in enumerate(result.classes):
        rows.add_row(escape(name), *(_text(column[i]) for column in columns), end_section=i == len(result.classes) - 1)
    means = [_text(_mean(column)) for column in columns]
    rows.add_row("mean", *means, style="bold")
    parts: list[RenderableType] = [rows]
    if 2 <= len(result.classes) <= LARGEST_CONFUSION:
        parts.append(_confusion(result))
    facts = (
        f"Pixel accuracy {_text(scores.pixel_accuracy)}; mean IoU of the classes alone {_text(result.classes_miou)}."
    )
    if result.bare:
        facts += f" Photos without an object: {result.bare}, of which {result.left_bare} have an empty mask."
    if scores.coverage < 1:
        facts += (
            f" The masks leave {_text(1 - scores.coverage)} of the pixels open (255), counted as missed; "
            f"on the {_text(scores.coverage)} they label the mIoU is {_text(scores.covered().miou)}."
        )
    return Group(*parts, facts, Text(result.protocol))


def holds_class(mask_HW: NDArray[np.uint8]) -> bool:
    """Whether a mask holds a pixel of any class."""
    return bool(((mask_HW > 0) & (mask_HW < IGNORE)).any())


def check_file(path: Path, *inputs: Path) -> None:
    """Raise UserError where numbers cannot go to `path`: among what is read, or over a file that holds something else."""
    check_output(path, inputs)
    if path.is_dir():
        raise UserError(f"{path} is a folder: choose a file name for --out.")
    if not path.exists():
        return
    try:
        facts = read_json(path, "scores")
    except UserError:
        facts = None
    if not isinstance(facts, dict) or "protocol" not in facts or is_link(path):
        raise UserError(f"{path} is there already and holds no scores of `tagseg evaluate`: choose another --out.")


def write_json(result: Evaluation, path: Path) -> None:
    """Write the numbers as JSON. Raises UserError when the file cannot be written, and as `check_file`."""
    check_file(path, result.masks, result.truth)
    make_folder(path.parent)
    write_text(path, to_json(result.as_dict(), indent=2) + "\n")


def _confusion(result: Evaluation) -> Table:
    scores = result.scores
    matrix = np.column_stack([scores.confusion, scores.unlabeled]) if scores.unlabeled.any() else scores.confusion
    heads = [*result.classes, "255"][: matrix.shape[1]]
    grid = Table("truth", title="Percent of each class's pixels")
    for head in heads:
        grid.add_column(escape(head), justify="right")
    for i, row in enumerate(matrix):
        cells = [f"{100 * count / row.sum():.1f}" if row.sum() else "-" for count in row]
        cells[i] = f"[bold]{cells[i]}[/bold]"
        grid.add_row(escape(result.classes[i]), *cells)
    return grid


def _files(folder: Path, what: str, *, results: bool = False) -> dict[str, Path]:
    if not folder.is_dir():
        raise UserError(f"folder of {what} {folder} {'is no folder' if os.path.lexists(folder) else 'does not exist'}")
    files = by_name(folder, find_photos(folder, results=results), what)
    if not files:
        raise UserError(f"{folder} holds no {what} (index PNGs)")
    return files


def _refuse_missing(wanted: dict[str, Path], files: dict[str, Path], masks: Path) -> None:
    missing = [name for name in wanted if name not in files]
    if missing:
        shown = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        raise UserError(f"{masks} lacks the masks of {len(missing)} of {len(wanted)} photos: {shown}; make them first")


def _check_values(path: Path, mask_HW: NDArray[np.uint8], names: Sequence[str]) -> None:
    wrong = [int(v) for v in np.flatnonzero(np.bincount(mask_HW.ravel(), minlength=256)) if len(names) <= v < IGNORE]
    if wrong:
        raise UserError(
            f"mask {path} holds the value {wrong[0]}, but there are {len(names)} classes with background "
            f"(0 to {len(names) - 1}, 255 = ignore); name all classes, or correct the mask"
        )


def _run_order(path: Path, stored_HW: NDArray[np.uint8], values: Sequence[int]) -> NDArray[np.uint8]:
    mask_HW = np.array(values, dtype=np.uint8)[stored_HW]
    if (mask_HW == UNKNOWN).any():
        stored = stored_HW[mask_HW == UNKNOWN][0]
        raise UserError(f"mask {path} holds the value {stored}, which is no class of its folder; correct the mask")
    return mask_HW


def _numbered(paths: Sequence[Path]) -> tuple[str, ...]:
    """Names for the values that masks hold, when nobody named them."""
    highest = 0
    for path in paths:
        values = np.flatnonzero(np.bincount(read_mask(path).ravel(), minlength=256)[:IGNORE])
        highest = max(highest, int(values.max(initial=0)))
    return (BACKGROUND, *(f"class {i}" for i in range(1, highest + 1)))


def _size(mask_HW: NDArray[np.uint8]) -> str:
    return f"{mask_HW.shape[1]} x {mask_HW.shape[0]} pixels"


def _mean(values: NDArray[np.float64]) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def _text(value: float) -> str:
    return f"{100 * value:.2f}" if np.isfinite(value) else "-"
