"""What a model says of one photo.

Shapes: K classes with background, H W pixels.
"""

from __future__ import annotations

from functools import cached_property
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from tagseg.data.given import GivenPhoto, as_photo
from tagseg.data.palette import DISPLAY, overlay, write_mask
from tagseg.errors import UserError
from tagseg.outputs.confidence import Sureness


class Prediction:
    """What a model says of one photo.

    mask: (H, W) uint8, indices into `classes`. probabilities: (K, H, W) float32; None of a photo so large that they
    would take more than a gibibyte. classes: K names, the first "background". confidence: (H, W) float32, the
    probability of each pixel's class. Both are those after the dense CRF, which makes them surer than they are right.
    """

    def __init__(
        self,
        mask: NDArray[np.uint8],
        probabilities: NDArray[np.float32] | Tensor | None,
        classes: tuple[str, ...],
        confidence: NDArray[np.float32],
        expected_iou: Tensor | None = None,
    ) -> None:
        self.mask, self.classes, self.confidence = mask, classes, confidence
        self._probabilities, self._expected_iou = probabilities, expected_iou

    @cached_property
    def expected_iou(self) -> float | None:
        """How good the mask is likely to be: the mean IoU of its objects, 0 to 1; None of a photo read tile by tile.

        From the probabilities before the CRF, how much the CRF changed, and whether the mask ends at edges of the photo; no
        true mask is needed.
        """
        return None if self._expected_iou is None else round(float(self._expected_iou), 4)

    @cached_property
    def probabilities(self) -> NDArray[np.float32] | None:
        """The array; a device is asked for it only here, for it holds K times what the mask does."""
        found, self._probabilities = self._probabilities, None
        return found.float().cpu().numpy() if isinstance(found, Tensor) else found

    @property
    def sureness(self) -> Sureness:
        """The photo's row of `confidence.csv`: the mean confidence over the pixels, and the expected IoU."""
        return Sureness(float(self.confidence.mean(dtype=np.float64)), self.expected_iou)

    def __repr__(self) -> str:
        height, width = self.mask.shape
        counts = np.bincount(self.mask.ravel(), minlength=256)
        named = ((name, 100 * counts[i] / self.mask.size) for i, name in enumerate(self.classes) if counts[i])
        shares = ", ".join(f"{name} {share:.0f} %" for name, share in sorted(named, key=lambda found: -found[1]))
        return f"Prediction({width} x {height}: {shares})"

    def save(self, path: str | Path) -> None:
        """Write the mask as a palette PNG: its values are indices into `classes`. Raises UserError where it cannot be."""
        write_mask(Path(path), self.mask)

    def overlay(self, photo: GivenPhoto) -> Image.Image:
        """The photo, given as to `Segmenter.predict`, with the classes' colors over it.

        Raises UserError for a photo of another size.
        """
        image = as_photo(photo)
        if image.shape[:2] != self.mask.shape:
            raise UserError(f"The photo is {image.shape[:2]} and the mask {self.mask.shape}: give the photo predicted.")
        return Image.fromarray(overlay(image, self.mask))

    def _repr_png_(self) -> bytes:
        """What a notebook shows: the mask in the classes' colors."""
        buffer = BytesIO()
        Image.fromarray(DISPLAY[self.mask]).save(buffer, "PNG")
        return buffer.getvalue()
