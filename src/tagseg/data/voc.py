"""The PASCAL VOC layout: JPEGImages, SegmentationClass(Aug), Annotations and the lists under ImageSets.

Class orders: a mask of this layout stores the full list's order, a run uses its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from tagseg.data.class_lists import ClassList, find_class_list
from tagseg.data.folders import find_photos, look_into, stem
from tagseg.data.paths import inside
from tagseg.data.photo import read_mask
from tagseg.data.rows import Finder, place_rows
from tagseg.data.tables import read_table
from tagseg.data.tagged import IGNORE, UNKNOWN, TaggedImages, TaggedPhoto, check_classes, refuse, unknown_tag
from tagseg.data.voc_xml import object_names
from tagseg.errors import UserError
from tagseg.foreign import DATA_CAP, read_text

VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip


def open_voc(
    root: Path, split: str, *, classes: Sequence[str] | None = None, tags: str | Path | None = None
) -> TaggedImages:
    """Open one list of a folder in the PASCAL VOC layout.

    split: name of a list `ImageSets/Segmentation/<split>.txt`.
    classes: the run's classes in order, a subset of the folder's; the pixels of all others count as background, their
        tags are dropped, and 255 stays ignored. None takes all. The folder's classes are those of a list in `root`
        (`find_class_list`), else the twenty of VOC.
    tags: where tags come from: a table, "masks" (the classes present) or "xml" (the objects in Annotations). None
        takes `tags.csv` in `root`, else masks, else XML.
    Masks are taken from SegmentationClassAug, and from SegmentationClass where that has none.
    """
    listed = find_class_list(root) or ClassList(VOC_CLASSES)
    full = listed.names
    run = full if classes is None else check_classes(classes)
    for name in run:
        if name not in full:
            raise UserError(unknown_tag(f"classes of {root}", "the list of classes", name, full))
    names = _read_list(root, split)
    folder = root / "JPEGImages"
    files = {stem(file): path for file, path in find_photos(folder).items()}
    for name in names:
        if name not in files:
            raise UserError(f"{split}.txt names {name}, but {folder} has no such photo; add it or correct the list")
    masks = _find_masks(root)
    # Stored value -> the run's index; what the folder's list has and the run doesn't is background.
    values = [UNKNOWN] * 256
    values[0], values[IGNORE] = 0, IGNORE
    for stored, name in enumerate(full, start=1):
        values[stored] = run.index(name) + 1 if name in run else 0
    stored_tags = _read_tags(root, names, masks, full, tags)
    photos = tuple(
        TaggedPhoto(
            name, files[name], tuple(sorted({values[full.index(tag) + 1] for tag in found} - {0})), masks.get(name)
        )
        for name, found in zip(names, stored_tags, strict=True)
    )
    return TaggedImages(run, photos, tuple(values))


def list_splits(root: Path) -> tuple[str, ...]:
    """Names of the lists under ImageSets/Segmentation."""
    return tuple(sorted(path.stem for path in (root / "ImageSets" / "Segmentation").glob("*.txt")))


def _read_list(root: Path, split: str) -> list[str]:
    path = root / "ImageSets" / "Segmentation" / f"{split}.txt"
    if split not in list_splits(root):
        there = ", ".join(list_splits(root)) or "none"
        raise UserError(f"{path} does not exist; the lists of this folder are: {there}")
    lines = read_text(path, "a list of photos", DATA_CAP, "write one name a line").split("\n")
    names: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words:
            continue
        # Some lists hold "/JPEGImages/2007_000032.jpg /SegmentationClassAug/2007_000032.png".
        relative = inside(words[0].removeprefix("/"))
        if relative is None or words[0].startswith("//"):
            raise UserError(f"{path}, line {number}: {words[0]!r} leads outside the folder; write the photo's name")
        name = stem(relative.removeprefix("JPEGImages/"))
        if name in names:
            raise UserError(f"{path}, line {number}: {name} stands in line {names[name]} already; remove one of them")
        names[name] = number
    if not names:
        raise UserError(f"list {path} is empty")
    return list(names)


def _find_masks(root: Path) -> dict[str, Path]:
    masks: dict[str, Path] = {}
    for folder in ("SegmentationClass", "SegmentationClassAug"):
        if (root / folder).is_dir():
            masks.update({stem(file): path for file, path in find_photos(root / folder).items()})
    return masks


def _read_tags(
    root: Path, names: list[str], masks: dict[str, Path], full: tuple[str, ...], tags: str | Path | None
) -> list[tuple[str, ...]]:
    if tags is None:
        tags = root / "tags.csv" if (root / "tags.csv").is_file() else "masks" if masks else "xml"
    if str(tags) == "masks":  # a recipe holds the word as a path
        for name in names:
            if name not in masks:
                raise UserError(f"photo {name} has no mask in {root}; add it, or take tags from a table or XML")
        with ThreadPoolExecutor() as pool:
            return list(pool.map(lambda name: _tags_of_mask(masks[name], full), names))
    if str(tags) == "xml":
        return [_tags_of_xml(root / "Annotations" / f"{name}.xml", full) for name in names]
    return _tags_of_table(root, Path(tags), names, full)


def _tags_of_table(root: Path, table: Path, names: list[str], full: tuple[str, ...]) -> list[tuple[str, ...]]:
    rows, problems = read_table(table, classes=full)
    folder = root / "JPEGImages"
    placed = place_rows(rows, Finder(look_into(folder).photos, [folder]), table.name, problems)
    refuse(problems)
    by_name = {stem(file): row for file, row in placed.items()}
    found = []
    for name in names:
        if name not in by_name:
            raise UserError(f"{table} has no row for {name}; add one, with an empty cell if it has no tag")
        row = by_name[name]
        for tag in row.tags:
            if tag not in full:
                raise UserError(unknown_tag(f"{table.name}, row {row.number}", row.file, tag, full))
        found.append(row.tags)
    return found


def _tags_of_mask(path: Path, full: tuple[str, ...]) -> tuple[str, ...]:
    present = np.flatnonzero(np.bincount(read_mask(path).ravel(), minlength=256))
    wrong = [int(v) for v in present if len(full) < v < IGNORE]
    if wrong:
        raise UserError(f"mask {path} holds the value {wrong[0]}, but there are {len(full)} classes and 255 = ignore")
    return tuple(full[v - 1] for v in present if 0 < v < IGNORE)


def _tags_of_xml(path: Path, full: tuple[str, ...]) -> tuple[str, ...]:
    found = object_names(path)
    for tag in found:
        if tag not in full:
            raise UserError(unknown_tag(f"annotation {path.name}", path.stem, tag, full))
    return found
