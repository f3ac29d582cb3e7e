"""What a model says of one photo.

Shapes: K classes with background, H W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BACKGROUND = "background"


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a model says of one photo.

    mask: (H, W) uint8, indices into `classes`. probabilities: (K, H, W) float32; None of a photo so large that they
    would take more than a gibibyte. classes: K names, the first "background". confidence: (H, W) float32, the
    probability of each pixel's class.
    """

    mask: NDArray[np.uint8]
    probabilities: NDArray[np.float32] | None
    classes: tuple[str, ...]
    confidence: NDArray[np.float32]
