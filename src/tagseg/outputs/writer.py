"""What every output format offers: opened on a folder, fed photo by photo, closed; and read back.

Shapes: H W pixels, K classes with background.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import TracebackType
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from tagseg.errors import UserError

IGNORE = 255
IGNORE_NAME = "(ignore)"  # the label of ignored pixels in formats that know labels by name only


@dataclass(frozen=True)
class Stored:
    """Masks read back. classes: the K names, empty where the format keeps none. masks: (name, mask), one at a time."""

    classes: tuple[str, ...]
    masks: Iterator[tuple[str, NDArray[np.uint8]]]


class Writer(ABC):
    """Writes the masks of a set of photos in one format, holding no more than one photo at a time.

    out: folder of the results, made if need be. classes: the K names, the first one "background".
    needs_probabilities: whether the format holds any. separate: whether a photo's files stand for themselves, so that
    several photos may be written at the same time.
    Leaving the `with` block finishes the files. Leaving it by an exception keeps what stands for itself (a file per
    photo) and drops what would be half a file (one for all photos); an older file of that name stays as it was.
    """

    needs_probabilities: ClassVar[bool] = False
    separate: ClassVar[bool] = False

    def __init__(self, out: Path, classes: Sequence[str]) -> None:
        if not 1 <= len(classes) <= IGNORE:
            raise UserError(f"masks of 8 bits hold 1 to {IGNORE} classes with background, not {len(classes)}")
        for name in classes:
            if name == IGNORE_NAME or "\n" in name or "\r" in name or list(classes).count(name) > 1:
                raise UserError(
                    f"class {name!r} cannot be written: names are single lines, different, not {IGNORE_NAME}"
                )
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
        safe_name(name)
        highest = int(mask[mask < IGNORE].max(initial=0))
        if highest >= len(self.classes):
            raise ValueError(f"the mask of {name} holds the value {highest}, but there are {len(self.classes)} classes")
        try:
            self.link = link or file_name or f"{name}.jpg"
            self.write(name, photo, mask, probabilities, file_name or f"{name}.jpg")
        except OSError as error:
            raise UserError(
                f"the result of {name} cannot be written to {self.out}: {error.strerror or error}"
            ) from error

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

    def has(self, name: str) -> bool:
        """Whether a finished result of this photo is there already; False in formats with one file for all photos."""
        return False

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

    def place(self, name: str, suffix: str, folder: str = "") -> Path:
        """Where the file of a photo goes, its folder made."""
        path = self.out / folder / f"{safe_name(name)}{suffix}"
        make_folder(path.parent)
        return path


def make_folder(folder: Path) -> None:
    """Make a folder and those above it; UserError when that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"folder {folder} cannot be written ({error.strerror or error}); choose another") from error


def safe_name(name: str) -> str:
    """The name itself; raises UserError when, read as a path on any system, it is absolute or leads upwards."""
    posix, windows = PurePosixPath(name), PureWindowsPath(name)
    if not name or "\0" in name or posix.is_absolute() or windows.drive or windows.root or ".." in windows.parts:
        raise UserError(f"the name {name!r} leads outside the folder of the results; rename it")
    return name


def box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """The box around the True pixels of (H, W): left, top, width, height."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1] - columns[0] + 1), int(rows[-1] - rows[0] + 1)


def present(mask: NDArray[np.uint8]) -> list[int]:
    """The values of a mask that are not background, ascending."""
    return [int(k) for k in np.flatnonzero(np.bincount(mask.ravel(), minlength=256)) if k]
