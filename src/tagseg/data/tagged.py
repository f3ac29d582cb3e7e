"""Photos with image-level tags: what every workflow reads from.

Shapes: H W pixels, C classes without background, K = C + 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tagseg.data.class_lists import CLASSES_FILE, numbers_by_name, own_list
from tagseg.data.classes import check_classes as check_classes
from tagseg.data.classes import derive_classes
from tagseg.data.classes import unknown_tag as unknown_tag
from tagseg.data.folders import PhotoFolder, by_name, find_photos, look_into, some, stem
from tagseg.data.masks import Color, present, read_mask
from tagseg.data.photo import photo_size, read_photo
from tagseg.data.rows import Finder, class_folder_rows, place_rows
from tagseg.data.tables import Problem, read_table
from tagseg.errors import UserError
from tagseg.mask_values import IGNORE


@dataclass(frozen=True)
class TaggedPhoto:
    """A photo and its tags.

    name: path below the images folder without suffix, with forward slashes; unique in its set.
    tags: class indices 1..C, ascending; may be empty.
    true: a mask that a person has looked at; it counts in full in every training, whatever the labels of the others.
    """

    name: str
    photo: Path
    tags: tuple[int, ...]
    mask: Path | None = None
    true: Path | None = None

    @property
    def file(self) -> str:
        """The photo's path below the images folder, with its suffix."""
        return self.name + self.photo.name[len(stem(self.photo.name)) :]


@dataclass(frozen=True)
class TaggedImages:
    """A set of tagged photos, some perhaps with true masks; nothing is decoded before it is asked for.

    classes: names of the classes 1..C, without background.
    mask_values: for each of the 256 values a mask may store, the run's index 0..C, 255 = ignore or 254 = refuse;
        None where masks store the run's indices already.
    mask_colors: RGB of the stored values 0, 1, ... for masks that are stored as colors; None where none are known.
    true_values: the same for masks that a person has looked at.
    places: the folders and files that it was read from, where no result may go.
    tags_from: where the tags were read, in words: a table's name, the masks, Annotations (XML), names of folders.
    notes: sentences about what was guessed, and about files that are not read.
    """

    classes: tuple[str, ...]
    photos: tuple[TaggedPhoto, ...]
    mask_values: tuple[int, ...] | None = None
    mask_colors: tuple[Color, ...] | None = None
    tags_from: str = field(default="unknown", compare=False)
    notes: tuple[str, ...] = field(default=(), compare=False)
    true_values: tuple[int, ...] | None = None
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

    def mask(self, i: int, *, size: tuple[int, int] | None = None) -> np.ndarray | None:
        """True mask of photo `i` in the run's class indices, 255 = ignore: uint8 (H, W); None where there is none.

        size: (H, W) of the photo, where that is known.
        Raises UserError when its size differs from the photo's or it holds a value that no class has.
        """
        path = self.photos[i].mask
        return None if path is None else self._read_mask(i, path, self.mask_values, self.mask_colors, size)

    def true_mask(self, i: int) -> np.ndarray | None:
        """What `mask` is, for the mask of photo `i` that a person has looked at."""
        path = self.photos[i].true
        return None if path is None else self._read_mask(i, path, self.true_values)

    def tag_vector(self, i: int) -> np.ndarray:
        """Tags of photo `i` as float32 (C,) of zeros and ones."""
        vector_C = np.zeros(len(self.classes), dtype=np.float32)
        vector_C[[tag - 1 for tag in self.photos[i].tags]] = 1
        return vector_C

    def _read_mask(
        self,
        i: int,
        path: Path,
        mask_values: tuple[int, ...] | None,
        colors: tuple[Color, ...] | None = None,
        size: tuple[int, int] | None = None,
    ) -> np.ndarray:
        stored_HW = read_mask(path, colors=colors)
        size = size or photo_size(self.photos[i].photo)
        if stored_HW.shape != size:
            raise UserError(
                f"mask {path} is {stored_HW.shape[1]} x {stored_HW.shape[0]} pixels, but its photo "
                f"{self.photos[i].photo.name} is {size[1]} x {size[0]}; masks need the photo's size"
            )
        values = np.array(mask_values or range(256), dtype=np.uint8)
        for stored in np.flatnonzero(present(stored_HW)):
            if len(self.classes) < values[stored] < IGNORE:
                raise UserError(
                    f"mask {path} holds the value {stored}, which none of the {len(self.classes)} classes has; "
                    "0 is background and 255 is ignored"
                )
        return stored_HW if mask_values is None else values[stored_HW]


def open_tagged(
    images: Path,
    tags: Path | None = None,
    *,
    classes: Sequence[str] | None = None,
    masks: Path | None = None,
    separator: str | None = None,
    file_column: str | None = None,
    tags_column: str | None = None,
) -> TaggedImages:
    """Open a folder of photos with a table of tags, or with one subfolder per class.

    images: folder of photos, searched recursively, through links as well.
    tags: a table that `read_table` reads, with a file and a tags column; None takes `metadata.csv` or `metadata.jsonl` in
        `images` where there is one, else each first-level subfolder's name as the tag of the photos in it. The words
        (or folders) background, none and ok mean: no tag.
    classes: the classes in the run's order; None takes the tags that occur, in alphabetical order.
    masks: folder of true masks with the photos' names, storing the run's indices (0 = background, 255 = ignore).
    separator: what separates the tags in one cell; None detects it.
    file_column, tags_column: names of the table's columns; None finds them.

    Photos without a row are left out. Raises UserError with the first problem and the number of further ones.
    """
    data, problems = collect_tagged(
        images,
        tags,
        classes=classes,
        masks=masks,
        separator=separator,
        file_column=file_column,
        tags_column=tags_column,
    )
    refuse(problems)
    if not data.photos:
        raise UserError(f"{tags or images} names no photo; add rows, or check the path")
    if not data.classes:
        raise UserError(f"none of the photos in {tags or images} has a tag, so there is no class to learn")
    return data


def refuse(problems: Sequence[Problem]) -> None:
    """Raises UserError with the first fatal problem and the number of further ones; none: does nothing."""
    fatal = [problem for problem in problems if problem.fatal]
    if fatal:
        rest = len(fatal) - 1
        more = f" ({rest} more problem{'s' * (rest > 1)}: `tagseg check` lists all)" if rest else ""
        raise UserError(fatal[0].text + more)


def collect_tagged(
    images: Path,
    tags: Path | None = None,
    *,
    classes: Sequence[str] | None = None,
    masks: Path | None = None,
    separator: str | None = None,
    file_column: str | None = None,
    tags_column: str | None = None,
    folder: PhotoFolder | None = None,
) -> tuple[TaggedImages, list[Problem]]:
    """What `open_tagged` opens, with all problems listed instead of raised; rows with problems are left out.

    folder: what lies in `images`, where that has been looked at already. UserError is raised only for what makes the rest
    unreadable: a missing folder or table, a bad list of classes.
    """
    known = None if classes is None else check_classes(classes)
    folder = folder or look_into(images)
    if masks is not None and not masks.is_dir():
        raise UserError(f"masks folder {masks} does not exist")
    tags = tags or find_table(images)
    if tags is None:
        if (images / "JPEGImages").is_dir() and (images / "ImageSets").is_dir():
            raise UserError(f"{images} has the PASCAL VOC layout, not one folder per class; set data.format=voc for it")
        source = "folder"
        rows, problems = class_folder_rows(images, folder.photos)
    else:
        source = tags.name
        rows, problems = read_table(
            tags, classes=known, separator=separator, file_column=file_column, tags_column=tags_column
        )
    placed = place_rows(rows, Finder(folder.photos, [images]), source, problems)
    if known is None:
        known = derive_classes(placed.values(), source, problems)
    index = {name: i for i, name in enumerate(known, start=1)}
    masks_there = {} if masks is None else find_photos(masks)
    mask_files = {} if masks is None else by_name(masks, masks_there, "masks", problems)
    photos: list[TaggedPhoto] = []
    for file, row in placed.items():
        unknown = [tag for tag in row.tags if tag not in index]
        for tag in unknown:
            problems.append(Problem("unknown tag", file, unknown_tag(f"{source}, row {row.number}", file, tag, known)))
        if not unknown:
            name = stem(file)
            numbers = tuple(sorted(index[tag] for tag in row.tags))
            photos.append(TaggedPhoto(name, folder.photos[file], numbers, mask_files.get(name)))
    photos.sort(key=lambda photo: photo.name)
    places = tuple(place for place in (images, tags, masks) if place is not None)
    values, told = values_by_list(masks, known)
    problems += [Problem("masks read by name", "", note, fatal=False) for note in told]
    if masks is not None and photos and all(photo.mask is None for photo in photos):
        problems.append(Problem("mask without photo", "", no_mask_fits(masks, masks_there, photos[0].name)))
    problems += folder.not_read(besides=_beside(images, tags))
    notes = tuple(problem.text for problem in problems if not problem.fatal)
    said = source if tags is not None else "names of folders"
    return TaggedImages(known, tuple(photos), values, tags_from=said, notes=notes, places=places), problems


def values_by_list(masks: Path | None, classes: Sequence[str]) -> tuple[tuple[int, ...] | None, tuple[str, ...]]:
    """`mask_values` of a folder of masks, by the list in it, and a sentence about it; None where the order is the same.

    Raises UserError for a list that cannot be read.
    """
    values = None if masks is None else numbers_by_name(own_list(masks), classes)
    if values is None:
        return None, ()
    return values, (
        f"{masks}: its {CLASSES_FILE} has another order than the run's classes, so masks are read by name.",
    )


def tags_of_photos(
    tags: Path,
    files: Iterable[str],
    folders: Sequence[Path],
    *,
    classes: Sequence[str],
    separator: str | None = None,
    file_column: str | None = None,
    tags_column: str | None = None,
) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """The tags that a table has for some photos, by their path, and sentences about what was guessed.

    files: the photos' paths relative to `folders`. classes: the names that tags may have. Rows of other photos are passed
    over. Raises UserError as `open_tagged` does, and where the table names none of the photos.
    """
    names = list(files)
    rows, problems = read_table(
        tags, classes=classes, separator=separator, file_column=file_column, tags_column=tags_column
    )
    placed = place_rows(rows, Finder(names, folders), tags.name, problems, some=True)
    refuse(problems)
    for file, row in placed.items():
        for tag in row.tags:
            if tag not in classes:
                raise UserError(unknown_tag(f"{tags.name}, row {row.number}", file, tag, classes))
    if not placed:
        example = min(names, default="")
        raise UserError(f"{tags} names none of the photos: its file column should hold names such as {example}.")
    notes = [problem.text for problem in problems if not problem.fatal]
    return {file: row.tags for file, row in placed.items()}, notes


def find_table(images: Path) -> Path | None:
    """The table that a folder made for Hugging Face `datasets` carries inside; None where there is none."""
    names = ("metadata.csv", "metadata.jsonl")
    return next((images / name for name in names if (images / name).is_file()), None)


def no_mask_fits(masks: Path, files: Iterable[str], example: str) -> str:
    """The sentence about a folder of masks that has none of any photo."""
    there = sorted(files)
    found = f"it holds {some(there)}" if there else "it is empty"
    return f"{masks} has no mask of any photo; masks are named like their photos, such as {example}.png; {found}"


def _beside(images: Path, tags: Path | None) -> set[str]:
    """The table of tags, where it lies among the photos."""
    if tags is None or not tags.resolve().is_relative_to(images.resolve()):
        return set()
    return {tags.resolve().relative_to(images.resolve()).as_posix()}
