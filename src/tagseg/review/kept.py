"""Masks that a person accepted or painted, as files that agree with the journal of the review.

Shapes: H W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tagseg.data.palette import write_mask
from tagseg.data.review_journal import MASKS, REPLACED, TOUCHED, place
from tagseg.errors import UserError
from tagseg.files import replacing


@contextmanager
def written(
    folder: Path, name: str, mask: NDArray[np.uint8] | None, touched: NDArray[np.uint8] | None = None
) -> Iterator[None]:
    """Write a photo's mask and its painted pixels (H, W), None: not that one; the block then writes the journal.

    Where the block fails, what was there before is put back. After a kill between the two the journal knows nothing of
    the deed, so the page sends it again. The other way round, the journal would promise a mask that nobody ever writes.
    """
    before: list[tuple[Path, bytes | None]] = []
    try:
        for kind, plane_HW in ((MASKS, mask), (TOUCHED, touched)):
            if plane_HW is not None:
                path = place(folder, kind, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                before.append((path, path.read_bytes() if path.is_file() else None))
                if kind == MASKS:
                    write_mask(path, plane_HW, durable=True)  # as the journal is
                    continue
                with replacing(path) as temporary:
                    Image.fromarray(plane_HW * np.uint8(255)).convert("1").save(temporary, format="PNG")
        yield
    except BaseException:
        for path, content in before:
            with suppress(OSError, UserError):
                _put_back(path, content)
        raise


def put_aside(folder: Path, name: str) -> None:
    """Move the mask of a photo that is another picture by now to where nothing takes it for this one's."""
    kept, aside = place(folder, MASKS, name), place(folder, REPLACED, name)
    if kept.is_file():
        aside.parent.mkdir(parents=True, exist_ok=True)
        kept.replace(aside)
    place(folder, TOUCHED, name).unlink(missing_ok=True)


def _put_back(path: Path, content: bytes | None) -> None:
    if content is None:
        path.unlink(missing_ok=True)
        return
    with replacing(path) as temporary:
        temporary.write_bytes(content)
