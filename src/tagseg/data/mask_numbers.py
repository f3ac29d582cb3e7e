"""Whether the masks of a set hold the classes that its tags promise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from tagseg.data.masks import ignored_objects, present
from tagseg.data.tagged import TaggedImages
from tagseg.mask_values import IGNORE

ENOUGH = 50  # masks of photos with a tag that are looked at for its class


class MaskNumbers:
    """What the masks seen so far hold, against the tags of their photos."""

    def __init__(self, data: TaggedImages) -> None:
        self.classes = data.classes
        self.where = ", ".join(sorted({str(photo.mask.parent) for photo in data.photos if photo.mask is not None})[:2])
        self.held = np.zeros(256, bool)
        self.tagged: Counter[int] = Counter()
        self.masks = 0
        self._lock = Lock()

    def wants(self, tags: Sequence[int]) -> bool:
        """Whether a mask of a photo with these tags may tell more."""
        if not self.masks:
            return True
        return any(not self.held[tag] and self.tagged[tag] < ENOUGH for tag in tags)

    def add(self, tags: Sequence[int], mask_HW: NDArray[np.uint8] | None) -> None:
        """Count a mask in the run's numbers, and the tags of its photo; threads may do so side by side."""
        if mask_HW is None:
            return
        held = present(mask_HW)
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
            f"no mask of the {count} photo{'s' * (count > 1)} tagged {self.classes[tag - 1]} holds that class; check the "
            "order of the classes and the masks' numbers"
            for tag, count in sorted(self.tagged.items())
            if not self.held[tag]
        ]
