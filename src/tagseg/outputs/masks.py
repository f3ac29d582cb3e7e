"""One picture a photo: palette masks, overlays, and folders of images and masks.

Shapes: H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tagseg.data.class_lists import CLASSES_FILE, read_class_list
from tagseg.data.folders import find_masks
from tagseg.data.palette import overlay, write_mask
from tagseg.data.paths import held
from tagseg.data.photo import read_mask
from tagseg.files import replacing
from tagseg.foreign import read_text
from tagseg.mask_values import BACKGROUND
from tagseg.outputs.writer import Stored, Writer
from tagseg.result_folder import ResultFolder


class PaletteMasks(Writer):
    """`<name>.png`: a palette PNG that stores the class indices, 255 = ignore, in the photo's size."""

    separate = True

    def write(
        self,
        name: str,
        photo: NDArray[np.uint8],
        mask: NDArray[np.uint8],
        probabilities: NDArray[np.float32] | None,
        file_name: str,
    ) -> None:
        """Write one mask."""
        write_mask(self.place(*self.paths(name)), mask)

    @classmethod
    def paths(cls, name: str) -> tuple[str, ...]:
        """The mask."""
        return (f"{name}.png",)


class Overlays(Writer):
    """`<name>.jpg`: the photo with the classes' colors over it, for looking at."""

    separate = True
    suffix: ClassVar[str] = ".jpg"
    settings: ClassVar[dict[str, Any]] = {"format": "JPEG", "quality": 90}

    def write(
        self,
        name: str,
        photo: NDArray[np.uint8],
        mask: NDArray[np.uint8],
        probabilities: NDArray[np.float32] | None,
        file_name: str,
    ) -> None:
        """Write one overlay."""
        with replacing(self.place(*self.paths(name))) as temporary:
            Image.fromarray(overlay(photo, mask)).save(temporary, **self.settings)

    @classmethod
    def paths(cls, name: str) -> tuple[str, ...]:
        """The overlay."""
        return (f"{name}{cls.suffix}",)


class OverlaysPNG(Overlays):
    """`<name>.png`: as Overlays, without the losses of JPEG."""

    suffix: ClassVar[str] = ".png"
    settings: ClassVar[dict[str, Any]] = {"format": "PNG"}


class ImagesAndMasks(Writer):
    """`images/<name>.png`, `masks/<name>.png` and `classes.txt`, a class a line, line 1 = index 0 = background."""

    shared = (CLASSES_FILE,)

    def __init__(self, out: Path, classes: Sequence[str]) -> None:
        super().__init__(out, classes)
        temporary = self.files.enter_context(replacing(out / CLASSES_FILE))
        temporary.write_text("".join(f"{name}\n" for name in classes), encoding="utf-8", newline="\n")

    def write(
        self,
        name: str,
        photo: NDArray[np.uint8],
        mask: NDArray[np.uint8],
        probabilities: NDArray[np.float32] | None,
        file_name: str,
    ) -> None:
        """Write one photo, lossless, then its mask."""
        image_file, mask_file = self.paths(name)
        with replacing(self.place(image_file)) as temporary:
            Image.fromarray(photo).save(temporary, format="PNG")
        write_mask(self.place(mask_file), mask)

    @classmethod
    def paths(cls, name: str) -> tuple[str, ...]:
        """The photo, then the mask."""
        return f"images/{name}.png", f"masks/{name}.png"


def list_beside(kind: type[Writer], out: Path, marker: str) -> tuple[str, ...]:
    """`classes.txt`, where palette masks are to have it beside them; nothing where a person's own lies there."""
    return (CLASSES_FILE,) if kind is PaletteMasks and not ResultFolder.is_foreign(out, marker, CLASSES_FILE) else ()


def read_masks(out: Path) -> Stored:
    """The masks that PaletteMasks wrote."""
    return _read(out, ())


def read_folders(out: Path) -> Stored:
    """The masks that ImagesAndMasks wrote."""
    path = held(out / CLASSES_FILE, out)
    text = read_text(path, "a list of classes").removesuffix("\n")
    classes = tuple(text.split("\n")) if text else ()
    if classes and classes[0] != BACKGROUND:  # another tool's
        classes = (BACKGROUND, *read_class_list(path))
    return _read(held(out / "masks", out), classes)


def _read(folder: Path, classes: tuple[str, ...]) -> Stored:
    files = find_masks(folder)
    return Stored(classes, ((name, read_mask(path)) for name, path in files.items()), names=files.keys())
