"""The PASCAL VOC layout: JPEGImages, SegmentationClass(Aug), Annotations and the lists under ImageSets.

Class orders: a mask of this layout stores the full list's order, a run uses its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import NoReturn
from xml.parsers import expat

import numpy as np

from tagseg.data.folders import find_photos, place_rows, stem
from tagseg.data.photo import read_mask
from tagseg.data.tables import read_table
from tagseg.data.tagged import IGNORE, UNKNOWN, TaggedImages, TaggedPhoto, check_classes, unknown_tag
from tagseg.errors import UserError

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
        tags are dropped, and 255 stays ignored. None takes all. The folder's classes are those of `labels.txt` or
        `classes.txt` in `root` (one a line, background left out), else the twenty of VOC.
    tags: where tags come from: a table, "masks" (the classes present) or "xml" (the objects in Annotations). None
        takes `tags.csv` in `root`, else masks, else XML.
    Masks are taken from SegmentationClassAug, and from SegmentationClass where that has none.
    """
    full = _all_classes(root)
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
    places = (root,) if tags is None or not Path(tags).is_file() else (root, Path(tags))
    return TaggedImages(run, photos, tuple(values), places)


def list_splits(root: Path) -> tuple[str, ...]:
    """Names of the lists under ImageSets/Segmentation."""
    return tuple(sorted(path.stem for path in (root / "ImageSets" / "Segmentation").glob("*.txt")))


def _all_classes(root: Path) -> tuple[str, ...]:
    for name in ("labels.txt", "classes.txt"):
        path = root / name
        if path.is_file():
            try:
                lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
            except (OSError, UnicodeDecodeError) as error:
                raise UserError(f"class list {path} cannot be read ({error})") from error
            found = check_classes(line for line in lines if line and line.lower() not in ("background", "__ignore__"))
            if not found:
                raise UserError(f"class list {path} is empty; write one class a line")
            return found
    return VOC_CLASSES


def _read_list(root: Path, split: str) -> list[str]:
    path = root / "ImageSets" / "Segmentation" / f"{split}.txt"
    if split not in list_splits(root):
        there = ", ".join(list_splits(root)) or "none"
        raise UserError(f"{path} does not exist; the lists of this folder are: {there}")
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"list {path} cannot be read ({error})") from error
    names: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words:
            continue
        # Some lists hold "/JPEGImages/2007_000032.jpg /SegmentationClassAug/2007_000032.png".
        name = stem(words[0].removeprefix("/").removeprefix("JPEGImages/"))
        if PurePosixPath(name).is_absolute() or ".." in name.split("/"):
            raise UserError(f"{path}, line {number}: {words[0]!r} leads outside the folder; write the photo's name")
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
    placed = place_rows(rows, find_photos(root / "JPEGImages"), root / "JPEGImages", table.name, problems)
    if problems:
        raise UserError(problems[0].text)
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
    """Names of the objects in a VOC annotation; a file that declares entities is refused (they can fill the memory)."""
    stack: list[str] = []
    names: list[str] = []

    def refuse(*_: object) -> NoReturn:
        raise UserError(f"annotation {path} declares entities, which a VOC annotation never needs; remove them")

    def text(data: str) -> None:
        if stack[1:] == ["object", "name"]:
            names[-1] += data

    def start(tag: str, _: object) -> None:
        stack.append(tag)
        if stack[1:] == ["object", "name"]:
            names.append("")

    parser = expat.ParserCreate()
    parser.EntityDeclHandler = refuse
    parser.StartElementHandler = start
    parser.EndElementHandler = lambda _: stack.pop()
    parser.CharacterDataHandler = text
    try:
        parser.Parse(path.read_bytes(), True)
    except FileNotFoundError:
        raise UserError(f"annotation {path} does not exist; add it or take tags from a table or masks") from None
    except (OSError, expat.ExpatError) as error:
        raise UserError(f"annotation {path} cannot be read ({error})") from error
    found = tuple(dict.fromkeys(name.strip() for name in names))
    for tag in found:
        if tag not in full:
            raise UserError(unknown_tag(f"annotation {path.name}", path.stem, tag, full))
    return found
