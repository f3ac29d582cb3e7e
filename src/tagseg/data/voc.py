"""Lists of photos with masks and annotations beside them: the layouts of PASCAL VOC and of COCO (`data.layouts`).

Class orders: a mask of this layout stores the full list's order, a run uses its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from tagseg.data.class_lists import ClassList, find_class_list
from tagseg.data.classes import check_classes, unknown_tag
from tagseg.data.folders import find_photos, stem
from tagseg.data.label_files import read_label_file
from tagseg.data.layouts import VOC_CLASSES, Layout, find_layout
from tagseg.data.masks import read_mask
from tagseg.data.paths import inside
from tagseg.data.rows import Finder, place_rows
from tagseg.data.tables import read_table
from tagseg.data.tagged import UNKNOWN, TaggedImages, TaggedPhoto, refuse
from tagseg.data.voc_xml import object_names
from tagseg.errors import UserError
from tagseg.foreign import DATA_CAP, read_text
from tagseg.mask_values import IGNORE

__all__ = ["VOC_CLASSES", "list_splits", "listed_photos", "open_voc", "tags_of_xml"]


def open_voc(
    root: Path, split: str, *, classes: Sequence[str] | None = None, tags: str | Path | None = None
) -> TaggedImages:
    """Open one list of a folder in the layout of PASCAL VOC, or in one of COCO's.

    split: name of a list, `ImageSets/Segmentation/<split>.txt` or where else layouts keep it; or the path of a .txt file.
    classes: the run's classes in order, a subset of the folder's; the pixels of all others count as background, their
        tags are dropped, and 255 stays ignored. None takes all. The folder's classes are those of a list in `root`
        (`find_class_list`), else the twenty of VOC or the eighty of COCO.
    tags: where tags come from: a table, a .npy file as the papers' repositories have it, "masks" (the classes present) or
        "xml" (the objects in Annotations). None takes `tags.csv` in `root`, else masks, else XML.
    Masks are taken from SegmentationClass, and from SegmentationClassAug where that has none.
    """
    layout = find_layout(root)
    listed = find_class_list(root) or ClassList(layout.classes)
    full = listed.names
    run = full if classes is None else check_classes(classes)
    for name in run:
        if name not in full:
            raise UserError(unknown_tag(f"classes of {root}", "the list of classes", name, full))
    files = _listed_files(layout, split)
    names = list(files)
    masks = _by_name(layout.masks)
    # Stored value -> the run's index; what the folder's list has and the run doesn't is background.
    values = [UNKNOWN] * 256
    values[0], values[IGNORE] = 0, IGNORE
    for stored, name in enumerate(full, start=1):
        values[stored] = run.index(name) + 1 if name in run else 0
    if tags is None:
        tags = root / "tags.csv" if (root / "tags.csv").is_file() else "masks" if masks else "xml"
    stored_tags = _read_tags(layout, names, masks, listed, tags)
    photos = tuple(
        TaggedPhoto(
            name, files[name], tuple(sorted({values[full.index(tag) + 1] for tag in found} - {0})), masks.get(name)
        )
        for name, found in zip(names, stored_tags, strict=True)
    )
    places = (root,) if tags is None or not Path(tags).is_file() else (root, Path(tags))
    return TaggedImages(run, photos, tuple(values), mask_colors=listed.colors, tags_from=_said(tags), places=places)


def listed_photos(root: Path, split: str) -> dict[str, Path]:
    """The photos of a list by their names, in its order, such as those of VOC's test list, which have no tags."""
    return _listed_files(find_layout(root), split)


def list_splits(root: Path) -> tuple[str, ...]:
    """Names of the lists under ImageSets/Segmentation."""
    return find_layout(root).splits()


def _said(tags: str | Path) -> str:
    """Where tags come from, in words."""
    return {"masks": "the masks", "xml": "Annotations (XML)"}.get(str(tags), Path(tags).name)


def _read_list(layout: Layout, split: str) -> list[str]:
    path = layout.list_file(split)
    if path is None:
        there = ", ".join(layout.splits())
        if not there and not layout.coco:
            raise UserError(
                f"{layout.root} is no folder in VOC's layout, for it holds no lists (ImageSets/Segmentation): `tagseg data "
                f"prepare voc12 --root {layout.root}` fetches VOC 2012 with the augmented list; docs/data-sets.md"
            )
        wanted = split if split.endswith(".txt") else layout.root / "ImageSets" / "Segmentation" / f"{split}.txt"
        own = "; `tagseg data prepare coco14` makes lists and masks, or give the path of a list" if layout.coco else ""
        raise UserError(f"{wanted} does not exist; the lists of this folder are: {there or 'none'}{own}")
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


def _listed_files(layout: Layout, split: str) -> dict[str, Path]:
    """The photos that a list names. Raises UserError where the list or one of its photos is not there."""
    names = _read_list(layout, split)
    files = _by_name(layout.photos or (layout.root / "JPEGImages",))
    for name in names:
        if name not in files:
            folder = layout.photos[0] if len(layout.photos) == 1 else layout.root
            raise UserError(f"{split}.txt names {name}, but {folder} has no such photo; add it or correct the list")
    return {name: files[name] for name in names}


def _by_name(folders: Sequence[Path]) -> dict[str, Path]:
    """Photos or masks of several folders by their names; the first folder that has a name gives it."""
    found: dict[str, Path] = {}
    for folder in folders:
        for file, path in find_photos(folder).items():
            found.setdefault(stem(file), path)
    return found


def _read_tags(
    layout: Layout, names: list[str], masks: dict[str, Path], listed: ClassList, tags: str | Path
) -> list[tuple[str, ...]]:
    root, full = layout.root, listed.names
    if str(tags) == "masks":  # a recipe holds the word as a path
        for name in names:
            if name not in masks:
                raise UserError(f"photo {name} has no mask in {root}; add it, or take tags from a table or XML")
        with ThreadPoolExecutor() as pool:
            return list(pool.map(lambda name: _tags_of_mask(masks[name], listed), names))
    if str(tags) == "xml":
        return [tags_of_xml(root / "Annotations" / f"{name}.xml", full) for name in names]
    if Path(tags).suffix == ".npy":
        stored = read_label_file(Path(tags), full, names)
        lacking = next((name for name in names if name not in stored), None)
        if lacking is not None:
            raise UserError(f"{tags} has no tags of {lacking}; take tags from XML or a table")
        return [stored[name] for name in names]
    return _tags_of_table(layout, Path(tags), names, full)


def _tags_of_table(layout: Layout, table: Path, names: list[str], full: tuple[str, ...]) -> list[tuple[str, ...]]:
    rows, problems = read_table(table, classes=full)
    files: dict[str, Path] = {}
    for folder in layout.photos:
        files = find_photos(folder) | files
    images = layout.photos[0] if len(layout.photos) == 1 else layout.root
    placed = place_rows(rows, Finder(files, [images]), table.name, problems)
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


def _tags_of_mask(path: Path, listed: ClassList) -> tuple[str, ...]:
    full = listed.names
    present = np.flatnonzero(np.bincount(read_mask(path, colors=listed.colors).ravel(), minlength=256))
    wrong = [int(v) for v in present if len(full) < v < IGNORE]
    if wrong:
        raise UserError(f"mask {path} holds the value {wrong[0]}, but there are {len(full)} classes and 255 = ignore")
    return tuple(full[v - 1] for v in present if 0 < v < IGNORE)


def tags_of_xml(path: Path, full: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the objects in a VOC annotation, each among the classes `full`."""
    found = object_names(path)
    for tag in found:
        if tag not in full:
            raise UserError(unknown_tag(f"annotation {path.name}", path.stem, tag, full))
    return found
