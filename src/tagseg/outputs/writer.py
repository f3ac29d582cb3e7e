"""What every output format offers: opened on a folder, fed photo by photo, closed.

Shapes: H W pixels, K classes with background.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from tagseg.errors import UserError

IGNORE = 255


class Writer(ABC):
    """Writes the masks of a set of photos in one format, holding no more than one photo at a time.

    out: folder of the results, made if need be. classes: the K names, the first one "background".
    Used in a `with` block: leaving it finishes the files; leaving it by an exception keeps what stands for itself (a
    mask per photo) and drops what would be half a file (one JSON or zip for all).
    """

    def __init__(self, out: Path, classes: Sequence[str]) -> None:
        if not 1 <= len(classes) <= IGNORE:
            raise UserError(f"masks of 8 bits hold 1 to {IGNORE} classes with background, not {len(classes)}")
        self.out = out
        self.classes = tuple(classes)
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"folder {out} cannot be written ({error.strerror or error}); choose another") from error

    @abstractmethod
    def add(
        self,
        name: str,
        photo: NDArray[np.uint8],
        mask: NDArray[np.uint8],
        probabilities: NDArray[np.float32] | None = None,
    ) -> None:
        """Write one photo's mask.

        name: path of the photo without suffix, forward slashes, unique. photo: uint8 (H, W, 3) RGB. mask: uint8 (H, W),
        indices of `classes` or 255 = ignore. probabilities: float32 (K, H, W) where they are known.
        """

    def close(self) -> None:  # noqa: B027 - most formats have nothing to finish
        """Finish the files."""

    def discard(self) -> None:  # noqa: B027
        """Drop unfinished files."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    def place(self, name: str, suffix: str, folder: str = "") -> Path:
        """Where the file of a photo goes, its folder made; UserError when the name leads outside."""
        path = self.out / folder / f"{safe_name(name)}{suffix}"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"folder {path.parent} cannot be written ({error.strerror or error})") from error
        return path


def safe_name(name: str) -> str:
    """The name itself; raises UserError when, read as a path on any system, it is absolute or leads upwards."""
    posix, windows = PurePosixPath(name), PureWindowsPath(name)
    if not name or "\0" in name or posix.is_absolute() or windows.drive or windows.root or ".." in windows.parts:
        raise UserError(f"the name {name!r} leads outside the folder of the results; rename the photo")
    return name
