"""Whether a photo is still the picture that a person looked at: by its file, else by how it looks.

Shapes: H W pixels.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tagseg.data.photo import photo_size, read_photo
from tagseg.errors import UserError
from tagseg.files import is_marked, mark

SIDE = 24  # of the small gray picture that a photo is known by
ALIKE = 8  # gray values: no cell differs by more after a photo was saved anew as JPEG, and some does between two photos


def mark_photo(path: Path) -> list[object]:
    """What a photo is known again by, as JSON holds it: size and time and SHA-256 of its file, H, W, and a small gray picture.

    Of a photo that cannot be read the file alone is known.
    """
    try:
        return [*mark(path), *photo_size(path), base64.b64encode(_look(path).tobytes()).decode()]
    except UserError:
        return mark(path)


def is_same_photo(path: Path, known: Sequence[object]) -> bool:
    """Whether a photo is still the one of `mark_photo`: its file, or one of its size that looks the same; gone ones are."""
    if not path.is_file() or is_marked(path, known[:3]):
        return True
    try:
        height, width, look = known[3:]
        before = np.frombuffer(base64.b64decode(str(look)), np.uint8)
        if [height, width] != list(photo_size(path)) or before.size != SIDE**2:
            return False
        return int(np.abs(_look(path).ravel().astype(int) - before).max()) <= ALIKE
    except (ValueError, UserError):  # nothing more is known of it, or it cannot be read any more
        return False


def _look(path: Path) -> NDArray[np.uint8]:
    small = Image.fromarray(read_photo(path, min_side=4 * SIDE)).convert("L")
    return np.asarray(small.resize((SIDE, SIDE), Image.Resampling.BOX))
