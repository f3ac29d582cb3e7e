"""One picture a photo: palette masks and overlays."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tagseg.data.folders import find_photos, stem
from tagseg.data.photo import read_mask
from tagseg.outputs.palette import overlay, replacing, write_mask
from tagseg.outputs.writer import Writer


class PaletteMasks(Writer):
    """`<name>.png`: a palette PNG that stores the class indices, 255 = ignore, in the photo's size."""

    def add(
        self,
        name: str,
        photo: NDArray[np.uint8],
        mask: NDArray[np.uint8],
        probabilities: NDArray[np.float32] | None = None,
    ) -> None:
        """Write one mask."""
        write_mask(self.place(name, ".png"), mask)


class Overlays(Writer):
    """`<name>.jpg`: the photo with the classes' colours over it, for looking at."""

    suffix = ".jpg"
    settings: ClassVar[dict[str, Any]] = {"format": "JPEG", "quality": 90}

    def add(
        self,
        name: str,
        photo: NDArray[np.uint8],
        mask: NDArray[np.uint8],
        probabilities: NDArray[np.float32] | None = None,
    ) -> None:
        """Write one overlay."""
        with replacing(self.place(name, self.suffix)) as temporary:
            Image.fromarray(overlay(photo, mask)).save(temporary, **self.settings)


class OverlaysPNG(Overlays):
    """`<name>.png`: as Overlays, without the losses of JPEG."""

    suffix = ".png"
    settings: ClassVar[dict[str, Any]] = {"format": "PNG"}


def read_masks(folder: Path) -> dict[str, NDArray[np.uint8]]:
    """The masks that PaletteMasks wrote, by name."""
    return {stem(file): read_mask(path) for file, path in find_photos(folder).items()}
