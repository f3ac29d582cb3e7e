"""Photos with image-level tags: what every workflow reads from.

Shapes: H W pixels, C classes without background, K = C + 1.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tagseg.data.folders import class_folder_rows, find_photos, place_rows, stem
from tagseg.data.photo import photo_size, read_mask, read_photo
from tagseg.data.tables import NO_TAG, Problem, Row, read_table
from tagseg.errors import UserError

IGNORE = 255
UNKNOWN = 254  # in `mask_values`: a stored value that no class has


@dataclass(frozen=True)
class TaggedPhoto:
    """A photo and its tags.

    name: path below the images folder without suffix, with forward slashes; unique in its set.
    tags: class indices 1..C, ascending; may be empty.
    """

    name: str
    photo: Path
    tags: tuple[int, ...]
    mask: Path | None = None


@dataclass(frozen=True)
class TaggedImages:
    """A set of tagged photos, some perhaps with true masks; nothing is decoded before it is asked for.

    classes: names of the classes 1..C, without background.
    mask_values: for each of the 256 values a mask may store, the run's index 0..C, 255 = ignore or 254 = refuse;
        None where masks store the run's indices already.
    places: the folders and files that it was read from, where no result may go.
    """

    classes: tuple[str, ...]
    photos: tuple[TaggedPhoto, ...]
    mask_values: tuple[int, ...] | None = None
    places: tuple[Path, ...] = field(default=(), compare=False)

    def __len__(self) -> int:
        return len(self.photos)

    @property
    def num_classes(self) -> int:
        """K: the classes and background."""
        return len(self.classes) + 1

    def photo(self, i: int, *, min_side: int | None = None) -> np.ndarray:
        """Photo `i` as RGB: uint8 (H, W, 3), a large JPEG perhaps reduced to no less than `min_side` a side.

        Raises UserError naming a broken file.
        """
        return read_photo(self.photos[i].photo, min_side=min_side)

    def mask(self, i: int) -> np.ndarray | None:
        """True mask of photo `i` in the run's class indices, 255 = ignore: uint8 (H, W); None where there is none.

        Raises UserError when its size differs from the photo's or it holds a value that no class has.
        """
        path = self.photos[i].mask
        if path is None:
            return None
        stored_HW = read_mask(path)
        size = photo_size(self.photos[i].photo)
        if stored_HW.shape != size:
            raise UserError(
                f"mask {path} is {stored_HW.shape[1]} x {stored_HW.shape[0]} pixels, but its photo "
                f"{self.photos[i].photo.name} is {size[1]} x {size[0]}; masks need the photo's size"
            )
        values = np.array(self.mask_values or range(256), dtype=np.uint8)
        for stored in np.flatnonzero(np.bincount(stored_HW.ravel(), minlength=256)):
            if len(self.classes) < values[stored] < IGNORE:
                raise UserError(
                    f"mask {path} holds the value {stored}, which none of the {len(self.classes)} classes has; "
                    "0 is background and 255 is ignored"
                )
        return values[stored_HW]

    def tag_vector(self, i: int) -> np.ndarray:
        """Tags of photo `i` as float32 (C,) of zeros and ones."""
        vector_C = np.zeros(len(self.classes), dtype=np.float32)
        vector_C[[tag - 1 for tag in self.photos[i].tags]] = 1
        return vector_C


def open_tagged(
    images: Path,
    tags: Path | None = None,
    *,
    classes: Sequence[str] | None = None,
    masks: Path | None = None,
    separator: str | None = None,
) -> TaggedImages:
    """Open a folder of photos with a table of tags, or with one subfolder per class.

    images: folder of photos, searched recursively.
    tags: CSV, TSV or JSON Lines with a file and a tags column; None takes `metadata.csv` or `metadata.jsonl` in
        `images` where there is one, else each first-level subfolder's name as the tag of the photos in it. The words
        (or folders) background, none and ok mean: no tag.
    classes: the classes in the run's order; None takes the tags that occur, in alphabetical order.
    masks: folder of true masks with the photos' names, storing the run's indices (0 = background, 255 = ignore).
    separator: what separates the tags in one cell; None detects it.

    Photos without a row are left out. Raises UserError with the first problem and the number of further ones.
    """
    data, problems = collect_tagged(images, tags, classes=classes, masks=masks, separator=separator)
    if problems:
        rest = len(problems) - 1
        more = f" ({rest} more problem{'s' * (rest > 1)}: `tagseg check` lists all)" if rest else ""
        raise UserError(problems[0].text + more)
    if not data.photos:
        raise UserError(f"{tags or images} names no photo; add rows, or check the path")
    if not data.classes:
        raise UserError(f"none of the photos in {tags or images} has a tag, so there is no class to learn")
    return data


def collect_tagged(
    images: Path,
    tags: Path | None = None,
    *,
    classes: Sequence[str] | None = None,
    masks: Path | None = None,
    separator: str | None = None,
) -> tuple[TaggedImages, list[Problem]]:
    """What `open_tagged` opens, with all problems listed instead of raised; rows with problems are left out.

    UserError is raised only for what makes the rest unreadable: a missing folder or table, a bad list of classes.
    """
    known = None if classes is None else check_classes(classes)
    files = find_photos(images)
    if masks is not None and not masks.is_dir():
        raise UserError(f"masks folder {masks} does not exist")
    if tags is None:
        tags = next((images / name for name in ("metadata.csv", "metadata.jsonl") if (images / name).is_file()), None)
    if tags is None:
        if (images / "JPEGImages").is_dir() and (images / "ImageSets").is_dir():
            raise UserError(f"{images} has the PASCAL VOC layout, not one folder per class; set data.format=voc for it")
        source = "folder"
        rows, problems = class_folder_rows(images, files)
    else:
        source = tags.name
        rows, problems = read_table(tags, classes=known, separator=separator)
    placed = place_rows(rows, files, images, source, problems)
    if known is None:
        known = _derive_classes(placed.values(), source, problems)
    index = {name: i for i, name in enumerate(known, start=1)}
    mask_files = {} if masks is None else {stem(name): path for name, path in find_photos(masks).items()}
    photos: list[TaggedPhoto] = []
    for file, row in placed.items():
        unknown = [tag for tag in row.tags if tag not in index]
        for tag in unknown:
            problems.append(Problem("unknown tag", file, unknown_tag(f"{source}, row {row.number}", file, tag, known)))
        if not unknown:
            name = stem(file)
            numbers = tuple(sorted(index[tag] for tag in row.tags))
            photos.append(TaggedPhoto(name, files[file], numbers, mask_files.get(name)))
    photos.sort(key=lambda photo: photo.name)
    places = tuple(place for place in (images, tags, masks) if place is not None)
    return TaggedImages(known, tuple(photos), places=places), problems


def unknown_tag(where: str, file: str, tag: str, known: Sequence[str]) -> str:
    """The sentence about a tag that is no class, with the nearest class."""
    by_lower = {name.lower(): name for name in known}
    near = difflib.get_close_matches(tag.lower(), list(by_lower), n=1, cutoff=0.0)
    hint = f"; did you mean {by_lower[near[0]]!r}?" if near else ""
    return f"{where}: {file} has the tag {tag!r}, which is not among the classes{hint}"


def check_classes(classes: Iterable[str]) -> tuple[str, ...]:
    """The classes as a tuple; raises UserError when a name is empty, doubled or a word for "no tag"."""
    names = tuple(classes)
    for name in names:
        if not name.strip() or name != name.strip():
            raise UserError(f"class name {name!r} is empty or has spaces around it; correct the list of classes")
        if name.lower() in NO_TAG:
            raise UserError(f"{name!r} means a photo without tags and cannot be a class; leave it out of the classes")
        if names.count(name) > 1:
            raise UserError(f"class {name!r} stands twice in the list of classes")
    if len(names) >= UNKNOWN:
        raise UserError(f"there are {len(names)} classes, but masks hold at most {UNKNOWN - 1}")
    return names


def _derive_classes(rows: Iterable[Row], source: str, problems: list[Problem]) -> tuple[str, ...]:
    first: dict[str, Row] = {}
    for row in rows:
        for tag in row.tags:
            first.setdefault(tag, row)
    by_lower: dict[str, str] = {}
    for tag, row in first.items():
        other = by_lower.setdefault(tag.lower(), tag)
        if other != tag:
            text = (
                f"{source}, row {row.number}: {row.file} has the tag {tag!r}, but row {first[other].number} writes "
                f"{other!r}; spell a class in one way"
            )
            problems.append(Problem("unknown tag", row.file, text))
    return check_classes(sorted(first))
