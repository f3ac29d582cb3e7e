"""How well the expected IoU of masks orders them, and how right the probabilities are, on photos with true masks.

    python benchmarks/expected_iou.py RUN PHOTOS TRUTH

Photos are read without tags. The true IoU of a photo is the mean over the classes that are in the truth or in the mask;
1 where there is none in either. ECE: expected calibration error over 15 bins of the likeliest class's probability.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr

import tagseg
from tagseg.data.folders import find_photos, stem
from tagseg.data.photo import read_mask, read_photo
from tagseg.prediction.expected import Expected

BINS, STEP = 15, 4  # every fourth pixel in either direction counts for the ECE
BAD, WORST = 0.5, 0.2


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("photos", type=Path)
    parser.add_argument("truth", type=Path)
    given = parser.parse_args()
    segmenter = tagseg.load(given.run)
    photos = {stem(name): path for name, path in find_photos(given.photos).items()}
    truths = {stem(name): path for name, path in find_photos(given.truth).items()}
    expected, true = [], []
    sure: dict[str, list[NDArray[np.float32]]] = {"before the CRF": [], "after the CRF": []}
    right: dict[str, list[NDArray[np.bool_]]] = {name: [] for name in sure}
    for name in sorted(photos.keys() & truths.keys()):
        photo, truth = read_photo(photos[name]), read_mask(truths[name])
        before = segmenter.probabilities(photo)
        (after,) = segmenter.refine([photo], [before])
        mask = after.max(0).indices.to(torch.uint8).cpu().numpy()
        expected.append(float(Expected.of(before, mask, photo).photo))
        true.append(photo_iou(mask, truth, len(segmenter.classes)))
        looked_at = (truth != 255)[::STEP, ::STEP]
        for where, probability in zip(sure, (before, after), strict=True):
            best, label = probability[:, ::STEP, ::STEP].max(0)
            sure[where].append(best.float().cpu().numpy()[looked_at])
            right[where].append(label.cpu().numpy()[looked_at] == truth[::STEP, ::STEP][looked_at])
    order, bad = np.argsort(expected, kind="stable"), np.array(true) < BAD
    worst = order[: round(WORST * len(order))]
    print(f"{len(true)} photos, {bad.sum()} of them below IoU {BAD}")
    print(f"rank correlation {spearmanr(expected, true)[0]:.3f}")
    print(f"the worst fifth holds {100 * bad[worst].sum() / max(bad.sum(), 1):.0f} % of those below {BAD}")
    print(f"mean expected {np.mean(expected):.3f}, true {np.mean(true):.3f}")
    for where in sure:
        print(f"ECE {where} {calibration_error(np.concatenate(sure[where]), np.concatenate(right[where])):.3f}")


def photo_iou(mask: NDArray[np.uint8], truth: NDArray[np.uint8], classes: int) -> float:
    """The mean IoU of the classes in mask or truth, without background; pixels of 255 are left out."""
    seen = truth != 255
    values = []
    for k in range(1, classes):
        union = (((mask == k) | (truth == k)) & seen).sum()
        if union:
            values.append((((mask == k) & (truth == k)) & seen).sum() / union)
    return float(np.mean(values)) if values else 1.0


def calibration_error(sure: NDArray[np.float32], right: NDArray[np.bool_]) -> float:
    """The mean distance between probability and frequency, bin by bin."""
    bins = np.minimum((sure * BINS).astype(int), BINS - 1)
    count, total = np.bincount(bins, minlength=BINS), len(sure)
    gap = np.abs(np.bincount(bins, sure, BINS) - np.bincount(bins, right, BINS))
    return float(gap[count > 0].sum() / total)


if __name__ == "__main__":
    main()
