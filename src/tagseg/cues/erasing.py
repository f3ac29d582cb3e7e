"""What an object is, by its absence: what sticks out of a mask is painted over, and the classifier is asked again.

A CAM paints a scratch as large as one of its cells. Where the tag's probability falls once the pixels that stick out are
gone, these pixels are the object. (Ours; adversarial erasing, Wei et al., CVPR 2017, erases to find more of an object.)

Shapes: H W pixels, C classes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Photo = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Asked = Callable[[Photo], NDArray[np.float32]]  # a photo (H, W, 3) to the probability of each tag (C,)

QUANTILES = (99.5, 98.0)  # of how far pixels outside the mask stick out
SIGHT, AROUND = 1.0, 12.0  # sigma in pixels: of what is looked at, and of what it is compared with
STRONG = 0.3  # a piece counts that sticks out so much of the strongest, over its pixels
MARGIN, FILL = 4, 8.0  # pixels painted over around a piece, and the sigma of what they are painted with
FALLS = 0.5  # the tag has fallen at this share of its probability
LEAST_OUTSIDE = 50  # pixels that tell how far pixels stick out by nature


class Erased(NamedTuple):
    """The test of a photo's class: the tag's probability without the pixels against before, and the pixels.

    pixels (H, W): what was painted over, one pixel wider, within the mask.
    """

    left: float
    pixels: Mask

    @property
    def falls(self) -> bool:
        """Whether the tag falls without the pixels."""
        return self.left < FALLS


def erase(ask: Asked, photo_HW3: Photo, mask_HW: NDArray[np.uint8], k: int) -> Erased | None:
    """The test of class `k` of a mask; None where nothing sticks out of it, or nothing lies outside."""
    inside_HW = mask_HW == k
    outside_HW = (mask_HW == 0) & ~ndimage.binary_dilation(inside_HW, iterations=2)
    if outside_HW.sum() < LEAST_OUTSIDE:
        return None
    before, best = ask(photo_HW3)[k - 1], None
    for quantile in QUANTILES:
        gone_HW = sticking_out(photo_HW3, inside_HW, outside_HW, quantile)
        if not gone_HW.any():
            continue
        left = float(ask(painted_over(photo_HW3, gone_HW))[k - 1] / before)
        if best is None or left < best.left:
            best = Erased(left, ndimage.binary_dilation(gone_HW) & inside_HW)
        if left < FALLS:
            break
    return best


def sticking_out(photo_HW3: Photo, inside_HW: Mask, outside_HW: Mask, quantile: float) -> Mask:
    """The pixels of a mask whose gray differs from the neighborhood's more than a quantile, in %, of those outside do."""
    gray_HW = ndimage.gaussian_filter(photo_HW3.mean(2), SIGHT)
    far_HW = np.abs(gray_HW - ndimage.gaussian_filter(gray_HW, AROUND))
    found_HW: Mask = ndimage.binary_opening(inside_HW & (far_HW > np.percentile(far_HW[outside_HW], quantile)))
    pieces_HW, count = ndimage.label(found_HW)
    if not count:
        return found_HW
    weight = ndimage.sum(far_HW, pieces_HW, range(1, count + 1))
    return np.isin(pieces_HW, 1 + np.flatnonzero(weight >= STRONG * weight.max()))


def painted_over(photo_HW3: Photo, gone_HW: Mask) -> Photo:
    """The photo with pixels and a margin filled from around."""
    gone_HW1 = ndimage.binary_dilation(gone_HW, iterations=MARGIN)[..., None]
    kept_HW1 = (~gone_HW1).astype(float)
    sums = ndimage.gaussian_filter(photo_HW3 * kept_HW1, (FILL, FILL, 0))
    fill = sums / np.maximum(ndimage.gaussian_filter(kept_HW1, (FILL, FILL, 0)), 1e-3)
    return np.where(gone_HW1, fill, photo_HW3).astype(np.uint8)
