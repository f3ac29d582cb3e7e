"""What every output format offers: opened on a folder, fed photo by photo, closed; and read back.

Shapes: H W pixels, K classes with background.
"""

from __future__ import annotations

import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from tagseg.data.text import IGNORE_NAME as IGNORE_NAME
from tagseg.errors import UnwritableNameError, UserError
from tagseg.files import make_folder
from tagseg.foreign import shown
from tagseg.mask_values import IGNORE
from tagseg.places import inside, safe_name

LONGEST_NAME = 255  # bytes of a file's name
LONGEST_PATH = 3000  # bytes of a photo's name with its folders; systems allow about 4000 for the whole path


@dataclass(frozen=True)
class Stored:
    """Masks read back.

    classes: the K names, empty where the format keeps none. masks: (name, mask), one at a time. tags: those that a person
    ticked, by name, known once the mask has come. names: of the masks, where they are known before. unannotated: photos of
    tasks without one, known once all masks have come.
    """

    classes: tuple[str, ...]
    masks: Iterator[tuple[str, NDArray[np.uint8]]]
    tags: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    names: Collection[str] = ()
    unannotated: Collection[str] = ()


class Writer(ABC):
    """Writes the masks of a set of photos in one format, holding no more than one photo at a time.

    out: folder of the results, made if need be. classes: the K names, the first one "background".
    needs_probabilities: whether the format holds any. separate: whether a photo's files stand for themselves, so that
    several photos may be written at the same time.
    Leaving the `with` block finishes the files. Leaving it by an exception keeps what stands for itself (a file per
    photo) and drops what would be half a file (one for all photos); an older file of that name stays as it was.
    """

    shared: ClassVar[tuple[str, ...]] = ()
    """The files of all photos together, below the folder."""
    needs_probabilities: ClassVar[bool] = False
    separate: ClassVar[bool] = False

    def __init__(self, out: Path, classes: Sequence[str]) -> None:
        self.check_classes(classes)
        self.out = out
        self.classes = tuple(classes)
        self.files = ExitStack()  # what closing must finish
        self.link = ""  # of the photo that is being written
        make_folder(out)

    def add(
        self,
        name: str,
        photo: NDArray[np.uint8],
        mask: NDArray[np.uint8],
        probabilities: NDArray[np.float32] | None = None,
        *,
        file_name: str = "",
        link: str = "",
    ) -> None:
        """Write one photo's mask.

        name: path of the photo without suffix, forward slashes, unique. photo: uint8 (H, W, 3) RGB. mask: uint8 (H, W),
        indices of `classes` or 255 = ignore. probabilities: float32 (K, H, W) where they are known. file_name: the
        photo's path with its suffix, for formats that refer to it; `<name>.jpg` where it isn't told. link: the same with
        the folder's name before it, for tools that serve the photos from the folder above; file_name where it isn't told.
        Raises UserError when the name leads outside the folder, or nothing can be written.
        """
        assert mask.dtype == np.uint8, mask.dtype
        assert photo.shape == (*mask.shape, 3), (photo.shape, mask.shape)
        assert probabilities is None or probabilities.shape == (len(self.classes), *mask.shape), probabilities.shape
        self.check_name(name)
        highest = int(mask[mask < IGNORE].max(initial=0))
        if highest >= len(self.classes):
            raise UserError(
                f"the mask of {name} holds the value {highest}, but there are {len(self.classes)} classes with background; "
                "give all classes with --classes, or correct the mask"
            )
        try:
            self.link = link or file_name or f"{name}.jpg"
            self.write(name, photo, mask, probabilities, file_name or f"{name}.jpg")
        except OSError as error:
            raise UserError(
                f"the result of {name} cannot be written to {self.out}: {error.strerror or error}"
            ) from error

    @classmethod
    def check_classes(cls, classes: Sequence[str]) -> None:
        """Raise UserError where the format cannot hold the names of the classes."""
        if not 1 <= len(classes) <= IGNORE:
            raise UserError(f"masks of 8 bits hold 1 to {IGNORE} classes with background, not {len(classes)}")
        for name in classes:
            if name == IGNORE_NAME or "\n" in name or "\r" in name or list(classes).count(name) > 1:
                raise UserError(
                    f"class {name!r} cannot be written: names are single lines, different, not {IGNORE_NAME}"
                )

    @abstractmethod
    def write(
        self,
        name: str,
        photo: NDArray[np.uint8],
        mask: NDArray[np.uint8],
        probabilities: NDArray[np.float32] | None,
        file_name: str,
    ) -> None:
        """What `add` does in this format, its arguments checked."""

    @classmethod
    def check_name(cls, name: str) -> None:
        """Raise UnwritableNameError where no result of this format can have the name."""
        safe_name(name)
        if len(os.fsencode(name)) > LONGEST_PATH:
            raise UnwritableNameError(f"the name {shown(name)} is longer than {LONGEST_PATH} bytes; shorten it")
        for path in cls.paths(name):
            longest = max(path.split("/"), key=lambda part: len(os.fsencode(part)))
            if len(os.fsencode(longest)) > LONGEST_NAME:
                raise UnwritableNameError(
                    f"the result of {shown(name)} would be called {shown(longest)}, longer than {LONGEST_NAME} bytes; "
                    "shorten the photo's name"
                )

    @classmethod
    def paths(cls, name: str) -> tuple[str, ...]:
        """The files of one photo below the folder, the last one written last; none where all photos share the files."""
        return ()

    def finish(self) -> None:  # noqa: B027 - most formats have nothing to add
        """Write what stands at the end of a format's files."""

    def close(self) -> None:
        """Finish the files."""
        try:
            self.finish()
        except BaseException as error:
            self.files.__exit__(*sys.exc_info())
            if isinstance(error, OSError):
                raise UserError(f"{self.out} cannot be written: {error.strerror or error}") from error
            raise
        self.files.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.files.__exit__(kind, error, trace)

    def place(self, relative: str) -> Path:
        """Where a file of `paths` goes, its folder made. Raises UserError where a link would lead it elsewhere."""
        path = inside(self.out, relative)
        make_folder(path.parent)
        return path


def box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """The box around the True pixels of (H, W): left, top, width, height."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1] - columns[0] + 1), int(rows[-1] - rows[0] + 1)


def present(mask: NDArray[np.uint8]) -> list[int]:
    """The values of a mask that are not background, ascending."""
    return [int(k) for k in np.flatnonzero(np.bincount(mask.ravel(), minlength=256)) if k]
