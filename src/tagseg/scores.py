"""Scores of masks against true masks, all from one confusion matrix over all photos.

Shapes: H W pixels, K classes with background.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tagseg.mask_values import IGNORE

BOUNDARY_SHARE = 0.02  # of the photo's diagonal: the band in which Boundary IoU compares (its authors' value)


class Scores:
    """Counts from which every score follows; they add up over photos and over processes (`merge`), so the scores are exact.

    Pixels whose truth is 255 are left out everywhere. A predicted 255 ("no label", as pseudo masks may hold) counts as
    a missed pixel of its true class and as a false alarm of none: a gap never counts as right. `covered()` gives the
    scores on the labeled pixels alone, `coverage` says how many those are.

    num_classes: K, with background. boundary: whether to keep Boundary IoU too (some milliseconds a photo).
    """

    def __init__(self, num_classes: int, *, boundary: bool = False) -> None:
        if not 1 <= num_classes <= IGNORE:
            raise ValueError(f"masks of 8 bits hold 1 to {IGNORE} classes, not {num_classes}")
        self.num_classes = num_classes
        self.photos = 0
        # Rows: truth, columns: prediction.
        self.confusion: NDArray[np.int64] = np.zeros((num_classes, num_classes), dtype=np.int64)
        self.unlabeled: NDArray[np.int64] = np.zeros(num_classes, dtype=np.int64)  # by true class, predicted 255
        # Per class: pixels in both boundary bands, and in either.
        self.boundary: NDArray[np.int64] | None = np.zeros((2, num_classes), dtype=np.int64) if boundary else None

    def add(self, prediction: NDArray[np.uint8], truth: NDArray[np.uint8]) -> None:
        """Count one photo: two uint8 masks (H, W) of values 0..K-1 or 255.

        Raises ValueError when the sizes differ or a mask holds another value; nothing is counted then.
        """
        if prediction.shape != truth.shape:
            raise ValueError(f"the prediction is {prediction.shape}, the truth {truth.shape}")
        pair_HW = truth.astype(np.intp) * 256 + prediction
        counts = np.bincount(pair_HW.ravel(), minlength=256 * 256).reshape(256, 256)
        k = self.num_classes
        for name, axis in (("prediction", 0), ("truth", 1)):
            wrong = np.flatnonzero(counts.sum(axis=axis)[k:IGNORE])
            if wrong.size:
                raise ValueError(f"the {name} holds the value {k + wrong[0]}, but there are {k} classes")
        self.confusion += counts[:k, :k]
        self.unlabeled += counts[:k, IGNORE]
        self.photos += 1
        if self.boundary is not None:
            self.boundary += _boundary_counts(prediction, truth, k)

    def merge(self, other: Scores) -> None:
        """Add the counts of other photos, of the same classes."""
        self._set(self._counts() + other._counts())

    def covered(self) -> Scores:
        """The scores on the pixels that the prediction labels, leaving out those it gives as 255 (no Boundary IoU)."""
        result = Scores(self.num_classes)
        result.confusion, result.photos = self.confusion.copy(), self.photos
        return result

    @property
    def iou(self) -> NDArray[np.float64]:
        """Intersection over union of each class (K,) in [0, 1]; nan where neither truth nor prediction has it."""
        hits = np.diagonal(self.confusion)
        return _ratio(hits, self._true_pixels + self.confusion.sum(axis=0) - hits)

    @property
    def miou(self) -> float:
        """Mean of `iou` over the classes that occur, background among them; nan when none does."""
        return _mean(self.iou)

    @property
    def pixel_accuracy(self) -> float:
        """Share of the pixels with the right class; nan without pixels."""
        return float(_ratio(np.trace(self.confusion), self._true_pixels.sum()))

    @property
    def coverage(self) -> float:
        """Share of the pixels that the prediction labels (does not give as 255); nan without pixels."""
        return float(_ratio(self.confusion.sum(), self._true_pixels.sum()))

    @property
    def precision(self) -> NDArray[np.float64]:
        """Share of the pixels predicted as a class that belong to it (K,); nan where it is never predicted."""
        return _ratio(np.diagonal(self.confusion), self.confusion.sum(axis=0))

    @property
    def recall(self) -> NDArray[np.float64]:
        """Share of a class's pixels that are found (K,); nan where the truth never has it."""
        return _ratio(np.diagonal(self.confusion), self._true_pixels)

    @property
    def boundary_iou(self) -> NDArray[np.float64]:
        """Boundary IoU of each class (K,), nan where it has no boundary (Cheng et al., CVPR 2021, equation 3).

        IoU of the pixels of each mask that lie within 2 % of the photo's diagonal of the mask's contour, counted over
        all photos before dividing; the photo's frame is a contour, as in the authors' code. Pixels whose truth is 255
        belong to no mask, so their rim is a contour on both sides.
        """
        if self.boundary is None:
            raise ValueError("Boundary IoU was not counted: make Scores(num_classes, boundary=True)")
        return _ratio(self.boundary[0], self.boundary[1])

    @property
    def boundary_miou(self) -> float:
        """Mean of `boundary_iou` over the classes that occur; nan when none does."""
        return _mean(self.boundary_iou)

    def as_dict(self, classes: Sequence[str], *, confusion: bool = False) -> dict[str, Any]:
        """The scores in percent as plain numbers, None where undefined; `classes` are the K names, background first.

        confusion: whether to add the counts themselves: `confusion` (rows truth, columns prediction) and `unlabeled`.
        """
        if len(classes) != self.num_classes:
            raise ValueError(f"{len(classes)} names for {self.num_classes} classes")

        def by_class(values: NDArray[np.float64]) -> dict[str, float | None]:
            return {name: in_percent(value) for name, value in zip(classes, values, strict=True)}

        result: dict[str, Any] = {
            "miou": in_percent(self.miou),
            "pixel_accuracy": in_percent(self.pixel_accuracy),
            "coverage": in_percent(self.coverage),
            "photos": self.photos,
            "iou": by_class(self.iou),
            "precision": by_class(self.precision),
            "recall": by_class(self.recall),
        }
        if self.boundary is not None:
            result["boundary_miou"] = in_percent(self.boundary_miou)
            result["boundary_iou"] = by_class(self.boundary_iou)
        if confusion:
            result["confusion"] = self.confusion.tolist()
            result["unlabeled"] = self.unlabeled.tolist()
        return result

    @property
    def _true_pixels(self) -> NDArray[np.int64]:
        return self.confusion.sum(axis=1) + self.unlabeled

    def _counts(self) -> NDArray[np.int64]:
        parts = [np.array([self.photos]), self.unlabeled, self.confusion.ravel()]
        if self.boundary is not None:
            parts.append(self.boundary.ravel())
        return np.concatenate(parts).astype(np.int64)

    def _set(self, counts: NDArray[np.int64]) -> None:
        k = self.num_classes
        self.photos = int(counts[0])
        self.unlabeled = counts[1 : k + 1].copy()
        self.confusion = counts[k + 1 : k + 1 + k * k].reshape(k, k).copy()
        if self.boundary is not None:
            self.boundary = counts[k + 1 + k * k :].reshape(2, k).copy()


def _boundary_counts(prediction: NDArray[np.uint8], truth: NDArray[np.uint8], num_classes: int) -> NDArray[np.int64]:
    """Pixels in both and in either of the two boundary bands, per class: (2, K)."""
    distance = max(1, round(BOUNDARY_SHARE * float(np.hypot(*truth.shape))))
    counts = np.zeros((2, num_classes), dtype=np.int64)
    valid_HW = truth != IGNORE
    present = np.bincount(truth.ravel(), minlength=256) + np.bincount(prediction[valid_HW], minlength=256)
    for k in np.flatnonzero(present[:num_classes]):
        band_HW = _band((prediction == k) & valid_HW, distance)
        true_band_HW = _band(truth == k, distance)
        counts[0, k] = np.count_nonzero(band_HW & true_band_HW)
        counts[1, k] = np.count_nonzero(band_HW | true_band_HW)
    return counts


def _band(mask_HW: NDArray[np.bool_], distance: int) -> NDArray[np.bool_]:
    """The mask less its erosion by a square of 2 * distance + 1; what lies outside the photo is outside the mask."""
    core_HW = mask_HW
    width = 2 * distance + 1
    for axis in (0, 1):  # a square is separable: all of the window's row, then all of its column
        pad = [(0, 0), (0, 0)]
        pad[axis] = (distance + 1, distance)
        sums = np.cumsum(np.pad(core_HW, pad), axis=axis, dtype=np.int32)
        size = mask_HW.shape[axis]
        core_HW = sums.take(range(width, width + size), axis) - sums.take(range(size), axis) == width
    return mask_HW & ~core_HW


def _ratio(part: Any, whole: Any) -> NDArray[np.float64]:
    part, whole = np.asarray(part, dtype=np.float64), np.asarray(whole, dtype=np.float64)
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)


def _mean(values: NDArray[np.float64]) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def in_percent(value: float) -> float | None:
    """A share in percent as a plain number; None where it is undefined."""
    return round(100 * float(value), 4) if np.isfinite(value) else None


def percent(score: float | None) -> str:
    """A score with one decimal; a dash where there is none, as when every true pixel is ignored."""
    return "-" if score is None else f"{score:.1f}"
