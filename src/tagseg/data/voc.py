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
from tagseg.data.folders import by_name, find_photos, stem
from tagseg.data.label_files import read_label_file
from tagseg.data.layouts import VOC_CLASSES, Layout, find_layout
from tagseg.data.masks import read_mask
from tagseg.data.paths import inside
from tagseg.data.rows import Finder, place_rows
from tagseg.data.tables import read_table
from tagseg.data.tagged import TaggedImages, TaggedPhoto, refuse
from tagseg.data.text import quoted
from tagseg.data.voc_xml import object_names
from tagseg.errors import UserError
from tagseg.foreign import DATA_CAP, read_text
from tagseg.mask_values import IGNORE, UNKNOWN

__all__ = ["VOC_CLASSES", "list_splits", "listed_photos", "open_voc", "tags_of_xml"]


def open_voc(
    root: Path,
    split: str,
    *,
    classes: Sequence[str] | None = None,
    tags: str | Path | None = None,
    separator: str | None = None,
    file_column: str | None = None,
    tags_column: str | None = None,
) -> TaggedImages:
    """Open one list of a folder in the layout of PASCAL VOC, or in one of COCO's.

    split: name of a list, `ImageSets/Segmentation/<split>.txt` or where else layouts keep it; or the path of a .txt file.
    classes: the run's classes in order, a subset of the folder's; the pixels of all others count as background, their
        tags are dropped, and 255 stays ignored. None takes all. The folder's classes are those of a list in `root`
        (`find_class_list`), else the twenty of VOC or the eighty of COCO.
    tags: where tags come from: a table, a .npy file as the papers' repositories have it, "masks" (the classes present) or
        "xml" (the objects in Annotations). None takes `tags.csv` in `root`, else masks, else XML.
    separator, file_column, tags_column: how a table is read, as `read_table` takes them; refused where tags come from none.
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
    masks = _in_folders(layout.masks, "masks")
    # Stored value -> the run's index; what the folder's list has and the run doesn't is background.
    values = [UNKNOWN] * 256
    values[0], values[IGNORE] = 0, IGNORE
    for stored, name in enumerate(full, start=1):
        values[stored] = run.index(name) + 1 if name in run else 0
    if tags is None:
        tags = root / "tags.csv" if (root / "tags.csv").is_file() else "masks" if masks else "xml"
    columns = {"separator": separator, "file_column": file_column, "tags_column": tags_column}
    stored_tags, notes = _read_tags(layout, names, masks, listed, tags, columns)
    photos = tuple(
        TaggedPhoto(
            name, files[name], tuple(sorted({values[full.index(tag) + 1] for tag in found} - {0})), masks.get(name)
        )
        for name, found in zip(names, stored_tags, strict=True)
    )
    places = (root,) if tags is None or not Path(tags).is_file() else (root, Path(tags))
    return TaggedImages(
        run, photos, tuple(values), mask_colors=listed.colors, tags_from=_said(tags), notes=notes, places=places
    )


def listed_photos(root: Path, split: str) -> dict[str, Path]:
    """The photos of a list by their names, in its order, such as those of VOC's test list, which have no tags."""
    return _listed_files(find_layout(root), split)


def list_splits(root: Path) -> tuple[str, ...]:
    """Names of the lists under ImageSets/Segmentation."""
    return find_layout(root).splits()


def _said(tags: str | Path) -> str:
    """Where tags come from, in words."""
    return {"masks": "the masks", "xml": "Annotations (XML)"}.get(str(tags), Path(tags).name)


def _list_file(layout: Layout, split: str) -> Path:
    path = layout.list_file(split)
    if path is not None:
        return path
    there = ", ".join(layout.splits())
    if not there and not layout.coco:
        raise UserError(
            f"{layout.root} is no folder in VOC's layout, for it holds no lists (ImageSets/Segmentation): `tagseg data "
            f"prepare voc12 --root {layout.root}` fetches VOC 2012 with the augmented list; docs/data-sets.md"
        )
    wanted = split if split.endswith(".txt") else layout.root / "ImageSets" / "Segmentation" / f"{split}.txt"
    own = "; `tagseg data prepare coco14` makes lists and masks, or give the path of a list" if layout.coco else ""
    raise UserError(f"{wanted} does not exist; the lists of this folder are: {there or 'none'}{own}")


def _listed_files(layout: Layout, split: str) -> dict[str, Path]:
    """The photos that a list names. Raises UserError where the list or one of its photos is not there."""
    path = _list_file(layout, split)
    files = _in_folders(layout.photos or (layout.root / "JPEGImages",), "photos")
    lines = read_text(path, "a list of photos", DATA_CAP, "write one name a line").split("\n")
    found: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if not text:
            continue
        # Names may hold spaces; some lists hold "/JPEGImages/2007_000032.jpg /SegmentationClassAug/2007_000032.png".
        first = text.split()[0]
        name, short = _listed_name(text), _listed_name(first)
        if short is None:
            raise UserError(f"{path}, line {number}: {first!r} leads outside the folder; write the photo's name")
        name = short if name not in files else name
        if name not in files:
            folder = layout.photos[0] if len(layout.photos) == 1 else layout.root
            raise UserError(f"{path} names {text}, but {folder} has no such photo; add it or correct the list")
        if name in found:
            raise UserError(f"{path}, line {number}: {name} stands in line {found[name]} already; remove one of them")
        found[name] = number
    if not found:
        raise UserError(f"list {path} is empty")
    return {name: files[name] for name in found}


def _listed_name(written: str) -> str | None:
    """The name of a photo that a list writes as a path below the data set; None where it leads outside."""
    relative = inside(written.removeprefix("/"))
    return None if relative is None or written.startswith("//") else stem(relative.removeprefix("JPEGImages/"))


def _in_folders(folders: Sequence[Path], what: str) -> dict[str, Path]:
    """Photos or masks of several folders by their names; the first folder that has a name gives it."""
    found: dict[str, Path] = {}
    for folder in folders:
        found = by_name(folder, find_photos(folder), what) | found
    return found


def _read_tags(
    layout: Layout,
    names: list[str],
    masks: dict[str, Path],
    listed: ClassList,
    tags: str | Path,
    columns: dict[str, str | None],
) -> tuple[list[tuple[str, ...]], tuple[str, ...]]:
    """The tags of the named photos, and sentences about what was guessed; columns: how `read_table` reads a table."""
    root, full = layout.root, listed.names
    word = str(tags)  # a recipe holds the words as paths
    if word not in ("masks", "xml") and Path(tags).suffix != ".npy":
        return _tags_of_table(layout, Path(tags), names, full, columns)
    given = next((name for name, value in columns.items() if value is not None), None)
    if given is not None:
        raise UserError(
            f"{given} {quoted(columns[given])} is for a table, but the tags of {root} come from {_said(tags)}: leave it out, "
            "or give a table of tags."
        )
    if word == "masks":
        for name in names:
            if name not in masks:
                raise UserError(f"photo {name} has no mask in {root}; add it, or take tags from a table or XML")
        with ThreadPoolExecutor() as pool:
            return list(pool.map(lambda name: _tags_of_mask(masks[name], listed), names)), ()
    if word == "xml":
        return [tags_of_xml(root / "Annotations" / f"{name}.xml", full) for name in names], ()
    stored = read_label_file(Path(tags), full, names)
    lacking = next((name for name in names if name not in stored), None)
    if lacking is not None:
        raise UserError(f"{tags} has no tags of {lacking}; take tags from XML or a table")
    return [stored[name] for name in names], ()


def _tags_of_table(
    layout: Layout, table: Path, names: list[str], full: tuple[str, ...], columns: dict[str, str | None]
) -> tuple[list[tuple[str, ...]], tuple[str, ...]]:
    rows, problems = read_table(table, classes=full, **columns)
    files: dict[str, Path] = {}
    for folder in layout.photos:
        files = find_photos(folder) | files
    images = layout.photos[0] if len(layout.photos) == 1 else layout.root
    # A row's path may begin with any of the folders: `prepare voc12 --test` adds one to a folder that has a table.
    placed = place_rows(rows, Finder(files, [images, *layout.photos]), table.name, problems)
    refuse(problems)
    row_of = {stem(file): row for file, row in placed.items()}
    found = []
    for name in names:
        if name not in row_of:
            raise UserError(f"{table} has no row for {name}; add one, with an empty cell if it has no tag")
        row = row_of[name]
        for tag in row.tags:
            if tag not in full:
                raise UserError(unknown_tag(f"{table.name}, row {row.number}", row.file, tag, full))
        found.append(row.tags)
    return found, tuple(problem.text for problem in problems if not problem.fatal)


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
