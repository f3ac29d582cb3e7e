"""Whether the masks of a set hold the classes that its tags promise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from tagseg.data.classes import check_classes, derive_classes
from tagseg.data.folders import stem
from tagseg.data.masks import ignored_objects, present
from tagseg.data.rows import Finder, place_rows
from tagseg.data.tables import read_table
from tagseg.data.tagged import TaggedImages, refuse, unknown_tag
from tagseg.errors import UserError
from tagseg.mask_values import IGNORE

_CHECK = "check the order of the classes and the masks' numbers"
ENOUGH = 50  # masks of photos with a tag that are looked at for its class


class MaskNumbers:
    """What the masks seen so far hold, against the tags of their photos."""

    def __init__(self, classes: Sequence[str], where: str) -> None:
        self.classes, self.where = classes, where
        self.held = np.zeros(256, bool)
        self.tagged: Counter[int] = Counter()
        self.masks = 0
        self._lock = Lock()

    @classmethod
    def of(cls, data: TaggedImages) -> MaskNumbers:
        """To count the masks of tagged photos."""
        folders = sorted({str(photo.mask.parent) for photo in data.photos if photo.mask is not None})
        return cls(data.classes, ", ".join(folders[:2]))

    def wants(self, tags: Sequence[int]) -> bool:
        """Whether a mask of a photo with these tags may tell more."""
        if not self.masks:
            return True
        return any(not self.held[tag] and self.tagged[tag] < ENOUGH for tag in tags)

    def add(self, tags: Sequence[int], mask_HW: NDArray[np.uint8] | None) -> None:
        """Count a mask in the run's numbers, and the tags of its photo; threads may do so side by side."""
        if mask_HW is not None:
            self.add_held(tags, present(mask_HW))

    def add_held(self, tags: Sequence[int], held: NDArray[np.bool_]) -> None:
        """The same for a mask of which only the numbers that it holds are known, as bool (256,)."""
        with self._lock:
            self.masks += 1
            self.held |= held
            self.tagged.update(tags)

    def ignored_objects(self) -> str | None:
        """A sentence where all masks hold only 0 and 255 although their photos have tags."""
        if self.held[IGNORE] and not self.held[1:IGNORE].any() and self.tagged:
            return ignored_objects(self.where)
        return None

    def broken_promises(self) -> list[str]:
        """A sentence for each class that photos with masks are tagged with and none of these masks holds."""
        return [
            f"no mask of the {count} photo{'s' * (count > 1)} tagged {self.classes[tag - 1]} holds that class; {_CHECK}"
            for tag, count in sorted(self.tagged.items())
            if not self.held[tag]
        ]


def no_mask_holds(classes: Sequence[str], folder: Path) -> str:
    """A sentence about classes that were named and that no mask of a folder holds."""
    return f"no mask of {folder} holds {', '.join(classes)}; where one should, {_CHECK}"


@dataclass(frozen=True)
class TagTable:
    """A table of tags and how it is read, as `open_tagged` takes it."""

    file: Path
    separator: str | None = None
    file_column: str | None = None
    tags_column: str | None = None
    classes: Sequence[str] | None = None  # None: the tags that occur

    def of_masks(
        self, names: Iterable[str], folders: Sequence[Path], classes: Sequence[str] | None = None
    ) -> tuple[tuple[str, ...], dict[str, tuple[int, ...]]]:
        """The classes in order, and the tags as their numbers (1..C) of each mask that the table has a row for.

        names: of the masks, without suffixes; rows may name the photos. folders: those that a row's path may begin with,
        the masks' own first. classes: in place of the table's own.
        Raises UserError as `open_tagged` does, and where no row is of a mask.
        """
        classes = self.classes if classes is None else classes
        known = None if classes is None else check_classes(classes)
        rows, problems = read_table(
            self.file,
            classes=known,
            separator=self.separator,
            file_column=self.file_column,
            tags_column=self.tags_column,
        )
        rows = [replace(row, file=stem(row.file)) for row in rows]
        placed = place_rows(rows, Finder(names, folders), self.file.name, problems, some=True)
        refuse(problems)
        if not placed:
            where = f" in {folders[0]}" if folders else ""
            raise UserError(f"{self.file} names none of the masks{where}: its rows should be called as the masks are.")
        if known is None:
            known = derive_classes(placed.values(), self.file.name, problems)
            refuse(problems)
        index = {name: i for i, name in enumerate(known, start=1)}
        for name, row in placed.items():
            for tag in row.tags:
                if tag not in index:
                    raise UserError(unknown_tag(f"{self.file.name}, row {row.number}", name, tag, known))
        return known, {name: tuple(index[tag] for tag in row.tags) for name, row in placed.items()}
