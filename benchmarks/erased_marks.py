"""Whether a class is of small marks: what sticks out of its masks is painted over, and the classifier is asked again.

    python benchmarks/erased_marks.py RUN MASKS --images PHOTOS --tags TABLE --out SMALL [--truth TRUE-MASKS]

RUN is a Mentor, MASKS its masks of tagged photos (`tagseg label`). A CAM paints a scratch as large as one of its cells.
Where the tag's probability falls below half once the pixels that stick out are gone, these pixels are the object. A class
whose tag falls so in half of its photos is one of marks: in SMALL its masks are these pixels, and 255 in its other photos.
True masks serve the printed scores alone.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

import tagseg
from tagseg.data.palette import write_mask
from tagseg.data.photo import read_mask, read_photo
from tagseg.mask_values import IGNORE
from tagseg.methods.mentor import Mentor
from tagseg.places import check_output
from tagseg.scores import Scores

Mask = NDArray[np.bool_]
QUANTILES = (99.5, 98.0)  # of how far pixels outside the mask stick out
SIGHT, AROUND = 1.0, 12.0  # sigma in pixels: of what is looked at, and of what it is compared with
STRONG = 0.3  # a piece counts that sticks out so much of the strongest, over its pixels
MARGIN, FILL = 4, 8.0  # pixels painted over around a piece, and the sigma of what they are painted with
FALLS = 0.5


class Erased(NamedTuple):
    """falls: the tag's probability after painting over, against before. pixels: what was painted over, one pixel wider."""

    falls: float
    pixels: Mask


def sticking_out(photo_HW3: NDArray[np.uint8], inside_HW: Mask, outside_HW: Mask, quantile: float) -> Mask:
    """The pixels of a mask whose gray differs from the neighborhood's more than a quantile of those outside differ."""
    gray_HW = ndimage.gaussian_filter(photo_HW3.mean(2), SIGHT)
    far_HW = np.abs(gray_HW - ndimage.gaussian_filter(gray_HW, AROUND))
    found_HW = ndimage.binary_opening(inside_HW & (far_HW > np.percentile(far_HW[outside_HW], quantile)))
    pieces_HW, count = ndimage.label(found_HW)
    if not count:
        return found_HW
    weight = ndimage.sum(far_HW, pieces_HW, range(1, count + 1))
    return np.isin(pieces_HW, 1 + np.flatnonzero(weight >= STRONG * weight.max()))


def painted_over(photo_HW3: NDArray[np.uint8], gone_HW: Mask) -> NDArray[np.uint8]:
    """The photo with pixels and a margin filled from around."""
    gone_HW1 = ndimage.binary_dilation(gone_HW, iterations=MARGIN)[..., None]
    kept_HW1 = (~gone_HW1).astype(float)
    sums = ndimage.gaussian_filter(photo_HW3 * kept_HW1, (FILL, FILL, 0))
    fill = sums / np.maximum(ndimage.gaussian_filter(kept_HW1, (FILL, FILL, 0)), 1e-3)
    return np.where(gone_HW1, fill, photo_HW3).astype(np.uint8)


@torch.no_grad()
def tag_probabilities(method: Mentor, photo_HW3: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The classifier's word on each class (C,)."""
    image_13HW = torch.from_numpy(photo_HW3.copy()).permute(2, 0, 1)[None].float() / 255
    return method.tag_logits(method.backbone.stages(image_13HW)[-1]).sigmoid()[0].numpy()


def erase(method: Mentor, photo_HW3: NDArray[np.uint8], mask_HW: NDArray[np.uint8], k: int) -> Erased | None:
    """The test of one photo's class; None where nothing sticks out, or nothing lies outside."""
    inside_HW = mask_HW == k
    outside_HW = (mask_HW == 0) & ~ndimage.binary_dilation(inside_HW, iterations=2)
    if outside_HW.sum() < 50:
        return None
    before, best = tag_probabilities(method, photo_HW3)[k - 1], None
    for quantile in QUANTILES:
        gone_HW = sticking_out(photo_HW3, inside_HW, outside_HW, quantile)
        if gone_HW.any():
            falls = float(tag_probabilities(method, painted_over(photo_HW3, gone_HW))[k - 1] / before)
            if best is None or falls < best.falls:
                best = Erased(falls, ndimage.binary_dilation(gone_HW) & inside_HW)
            if falls < FALLS:
                break
    return best


def main() -> None:
    """Test every tagged photo, write the masks, and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    parser.add_argument("masks", type=Path)
    for name in ("images", "tags", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--truth", type=Path)
    options = parser.parse_args()
    given = (options.run, options.masks, options.images, options.tags, options.truth)
    check_output(options.out, [place for place in given if place is not None])
    assert not options.out.exists() or not any(options.out.iterdir()), (
        f"{options.out} is not empty: choose another --out"
    )
    segmenter = tagseg.load(options.run, device="cpu")
    method = segmenter.method
    assert isinstance(method, Mentor), "RUN is no Mentor"
    data = tagseg.open_tagged(options.images, options.tags, classes=segmenter.classes[1:])
    masks = {photo.name: read_mask(options.masks / f"{photo.name}.png") for photo in data.photos}
    tests: dict[tuple[str, int], Erased | None] = {}
    for photo in data.photos:
        for k in photo.tags:
            if (masks[photo.name] == k).any():
                tests[photo.name, k] = erase(method, read_photo(photo.photo), masks[photo.name], k)
    print("| class | photos | tested | tag falls |\n|---|---:|---:|---:|")
    marks = set()
    for k, name in enumerate(segmenter.classes[1:], start=1):
        tagged = sum(k in photo.tags for photo in data.photos)
        found = [test for (_, other), test in tests.items() if other == k and test is not None]
        falls = sum(test.falls < FALLS for test in found)
        marks |= {k} if falls >= tagged / 2 else set()
        print(f"| {name} | {tagged} | {len(found)} | {falls} |")
    options.out.mkdir(parents=True, exist_ok=True)
    scores = [Scores(len(segmenter.classes)) for _ in range(2)]
    for photo in data.photos:
        small_HW = masks[photo.name].copy()
        for k in marks & set(photo.tags):
            test = tests.get((photo.name, k))
            holds = test is not None and test.falls < FALLS
            small_HW[small_HW == k] = 0 if holds else IGNORE
            if holds:
                assert test is not None
                small_HW[test.pixels] = k
        write_mask(options.out / f"{photo.name}.png", small_HW)
        if options.truth is not None:
            truth_HW = read_mask(options.truth / f"{photo.name}.png")
            for total, mask_HW in zip(scores, (masks[photo.name], small_HW), strict=True):
                total.add(np.where(mask_HW == IGNORE, 0, mask_HW), np.where(mask_HW == IGNORE, IGNORE, truth_HW))
    if options.truth is not None:
        for name, total in zip(("before", "after"), scores, strict=True):
            print(name, " ".join(f"{100 * value:.1f}" for value in total.iou))


if __name__ == "__main__":
    main()
