"""What a model says of one photo.

Shapes: K classes with background, H W pixels.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

BACKGROUND = "background"


class Prediction:
    """What a model says of one photo.

    mask: (H, W) uint8, indices into `classes`. probabilities: (K, H, W) float32; None of a photo so large that they
    would take more than a gibibyte. classes: K names, the first "background". confidence: (H, W) float32, the
    probability of each pixel's class.
    """

    def __init__(
        self,
        mask: NDArray[np.uint8],
        probabilities: NDArray[np.float32] | Tensor | None,
        classes: tuple[str, ...],
        confidence: NDArray[np.float32],
    ) -> None:
        self.mask, self.classes, self.confidence = mask, classes, confidence
        self._probabilities = probabilities

    @cached_property
    def probabilities(self) -> NDArray[np.float32] | None:
        """The array; a device is asked for it only here, for it holds K times what the mask does."""
        found, self._probabilities = self._probabilities, None
        return found.float().cpu().numpy() if isinstance(found, Tensor) else found

    def __repr__(self) -> str:
        height, width = self.mask.shape
        return f"Prediction({width} x {height}, {len(self.classes) - 1} classes)"
