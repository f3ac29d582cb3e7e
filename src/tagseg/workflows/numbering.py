"""Which class a number in scored masks means, where a list beside the masks says so.

Shapes: H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tagseg.data.class_lists import disagree, numbers_by_name
from tagseg.errors import UserError
from tagseg.mask_values import UNKNOWN


@dataclass(frozen=True)
class Numbering:
    """The numbers of a folder's masks as those of the classes that are scored.

    own: the classes 1, 2, ... by the list beside the masks, empty without one. scored: those that are scored. Lists that
    share no name, or give no class another number, leave the masks as they are.
    """

    own: tuple[str, ...]
    scored: tuple[str, ...]

    def __call__(self, path: Path, mask_HW: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The mask of a file in the scored classes. Raises UserError where it shows another class of its list."""
        values = numbers_by_name(self.own, self.scored)
        if values is None:
            return mask_HW
        found_HW = np.array(values, dtype=np.uint8)[mask_HW]
        if (found_HW == UNKNOWN).any():
            k = int(mask_HW[found_HW == UNKNOWN].min()) - 1
            shown = f"the class {self.own[k]}" if k < len(self.own) else f"the value {k + 1}"
            raise UserError(
                f"mask {path} holds {shown}, which is not among the classes that are scored: {', '.join(self.scored)}; "
                "name all classes, or correct the mask"
            )
        return found_HW


def check_order(given: Sequence[str], listed: Sequence[str], folder: Path) -> None:
    """Raise UserError where classes are given in another order than the list beside the masks of a folder has."""
    if disagree(given, listed):
        raise UserError(f"{folder} has a list of classes beside it, {', '.join(listed)}: leave --classes out.")
