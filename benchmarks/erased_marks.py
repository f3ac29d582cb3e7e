"""Masks with small marks drawn anew, scored against true masks: what `label.small_marks` of a chain does.

    python benchmarks/erased_marks.py RUN MASKS --images PHOTOS --tags TABLE --truth TRUE-MASKS --out SMALL

RUN is a Mentor or another model with a classifier, MASKS its masks of tagged photos (`tagseg label`). True masks serve the
printed scores alone.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import tagseg
from tagseg.workflows.label import score_labels
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
    data = tagseg.open_tagged(options.images, options.tags, classes=segmenter.classes[1:], masks=options.truth)
    found = small_marks(segmenter, options.masks, data, options.out)
    print("| class | photos | tested | tag falls | IoU before | after |\n|---|---:|---:|---:|---:|---:|")
    scores = (score_labels(options.masks, data), score_labels(options.out, data))
    assert scores[0] is not None
    assert scores[1] is not None
    before, after = (each.covered().iou for each in scores if each is not None)  # pixels left open do not count
    for marked, *values in zip(found, before[1:], after[1:], strict=True):
        figures = " | ".join(f"{100 * value:.1f}" for value in values)
        print(f"| {marked.name} | {marked.photos} | {marked.tested} | {marked.falls} | {figures} |")
    print(f"Background: {100 * before[0]:.1f} before, {100 * after[0]:.1f} after.")


if __name__ == "__main__":
    main()
