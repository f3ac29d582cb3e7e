"""Which photo each mask of another tool or format belongs to.

Shapes: H W pixels.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tagseg.data.folders import stem
from tagseg.data.named_photos import meant_photo, photos_by_name
from tagseg.data.photo import photo_size
from tagseg.errors import UserError
from tagseg.places import ignores_case


class PhotosOfMasks:
    """The photos that masks find by their names, each photo one mask at most.

    images: their folder; without it a mask keeps its own name. out: where the names become files. names: of masks that are
    still to come, where they are known: a photo's mask is the one of its very name, if there is one.
    """

    def __init__(self, images: Path | None, out: Path, names: Collection[str] = ()) -> None:
        self.images, self.names = images, frozenset(names)
        self.photos = None if images is None else photos_by_name(images)
        self.fold = ignores_case(out)
        self.taken: dict[str, str] = {}

    def name_of(self, written: str, mask_HW: NDArray[np.uint8]) -> str:
        """The name of a mask's photo. Raises UserError where it belongs to none, to one of two, or to one with a mask."""
        name: str | None = written
        if self.photos is not None:
            name = meant_photo(written, self.photos)
            if name is None:
                raise UserError(
                    f"{written} is the name of no photo; rename the mask, or give the folder of the photos that it belongs to"
                )
            if name != written and name in self.names:
                raise UserError(f"{written} is a second mask of {name}, which has the mask {name}; keep one of the two")
            if len(found := self.photos[name]) > 1:
                raise UserError(
                    f"{written} has two photos, {found[0].name} and {found[1].name}, in {self.images}; rename or move one"
                )
            height, width = photo_size(found[0])
            if mask_HW.shape != (height, width):
                raise UserError(
                    f"{written} has {mask_HW.shape[1]} x {mask_HW.shape[0]} pixels, but its photo {width} x {height}"
                )
        assert name is not None
        if (first := self.taken.get(self._key(name))) is not None:
            raise UserError(f"{written} is a second mask of {name}, which has the mask {first}; keep one of the two")
        return name

    def take(self, name: str, written: str) -> None:
        """Note that a photo has its mask."""
        self.taken[self._key(name)] = written

    def path(self, name: str) -> Path:
        """The photo of a name that `name_of` gave."""
        assert self.photos is not None
        return self.photos[name][0]

    def file_name(self, name: str) -> str:
        """The photo's path below its folder, with its suffix."""
        file = f"{name}.jpg" if self.photos is None else self.path(name).name
        return name + file[len(stem(file)) :]

    def link(self, name: str) -> str:
        """The same with the folder's name before it; "" where there is no folder."""
        return "" if self.images is None else f"{self.images.resolve().name}/{self.file_name(name)}"

    def _key(self, name: str) -> str:
        return name.casefold() if self.fold else name
