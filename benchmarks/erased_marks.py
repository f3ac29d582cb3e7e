"""Masks with small marks drawn anew, scored against true masks: what `label.small_marks` of a chain does.

    python benchmarks/erased_marks.py RUN MASKS --images PHOTOS --tags TABLE --truth TRUE-MASKS --out SMALL

RUN is a Mentor or another model with a classifier, MASKS its masks of tagged photos (`tagseg label`). True masks serve the
printed scores alone.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import tagseg
from tagseg.data.photo import read_mask
from tagseg.data.tagged import TaggedImages
from tagseg.mask_values import IGNORE
from tagseg.scores import Scores
from tagseg.workflows.small_marks import small_marks


def main() -> None:
    """Draw the masks anew, and print the test of each class and the IoU before and after."""
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    parser.add_argument("masks", type=Path)
    for name in ("images", "tags", "truth", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    options = parser.parse_args()
    segmenter = tagseg.load(options.run, device="cpu")
    data = tagseg.open_tagged(options.images, options.tags, classes=segmenter.classes[1:])
    found = small_marks(segmenter, options.masks, data, options.out)
    print("| class | photos | tested | tag falls | IoU before | after |\n|---|---:|---:|---:|---:|---:|")
    before, after = (iou(folder, options.truth, data) for folder in (options.masks, options.out))
    for marked, *values in zip(found, before[1:], after[1:], strict=True):
        figures = " | ".join(f"{100 * value:.1f}" for value in values)
        print(f"| {marked.name} | {marked.photos} | {marked.tested} | {marked.falls} | {figures} |")
    print(f"Background: {100 * before[0]:.1f} before, {100 * after[0]:.1f} after.")


def iou(masks: Path, truth: Path, data: TaggedImages) -> np.ndarray:
    """The IoU of each class; pixels that a mask leaves open do not count."""
    scores = Scores(data.num_classes)
    for photo in data.photos:
        mask_HW, truth_HW = (read_mask(folder / f"{photo.name}.png") for folder in (masks, truth))
        scores.add(np.where(mask_HW == IGNORE, 0, mask_HW), np.where(mask_HW == IGNORE, IGNORE, truth_HW))
    return np.asarray(scores.iou)


if __name__ == "__main__":
    main()
