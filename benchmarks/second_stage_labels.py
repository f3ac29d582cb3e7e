"""What labels for a second stage are worth before anything is trained on them, as a Markdown table.

    python benchmarks/second_stage_labels.py FIRST SECOND ... --images PHOTOS --tags TABLE --truth TRUE-MASKS --every 2

Every model labels the photos with their tags, in its own way of reading a photo, after its own CRF. Then the labels of the first
are changed in the ways that others published: left out where they flip once a class's probabilities are scaled (URN),
corrected where the second is sure (ADELE), merged with the others' labels. Photos should be ones that no model learned from.
With --out the first's labels without those that flip are written too, as masks to train on (`tagseg train --masks`).
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import tagseg
from tagseg.data.palette import write_mask
from tagseg.mask_values import IGNORE
from tagseg.prediction.maps import class_mask
from tagseg.scores import Scores
from tagseg.segmenter import Segmenter
from tagseg.workflows.train import machine

EXPONENTS = (0.15, 0.2, 0.25, 4.0, 5.0, 6.0)  # URN's
CERTAIN = 0.05  # a pixel of less certainty counts little in URN
SURE = 0.8  # ADELE corrects where a prediction is surer


def main() -> None:
    """Score every kind of labels, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", help="finished runs; labels of the first are changed")
    for name in ("images", "tags", "truth"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--every", type=int, default=1, help="read every n-th photo")
    parser.add_argument("--out", type=Path, help="empty or new folder for masks of the first, 255 where labels flip")
    given = parser.parse_args()
    if given.out and given.out.exists() and any(given.out.iterdir()):
        parser.error(f"{given.out} is not empty: choose another --out.")
    models = [tagseg.load(run, device="cpu") for run in given.runs]
    data = tagseg.open_tagged(given.images, given.tags, classes=models[0].classes[1:], masks=given.truth)
    kinds: dict[str, Scores] = defaultdict(lambda: Scores(data.num_classes))
    wrong: dict[str, list[int]] = defaultdict(lambda: [0, 0])  # pixels of a kind, and how many of them are wrong
    for index in range(0, len(data), given.every):
        photo, truth_HW = data.photo(index), data.mask(index)
        assert truth_HW is not None
        plain = [model.probabilities(photo, torch.from_numpy(data.tag_vector(index))) for model in models]
        refined = [model.refine([photo], [each])[0] for model, each in zip(models, plain, strict=True)]
        masks = [class_mask(each) for each in refined]
        for run, mask_HW in zip(given.runs, masks, strict=True):
            kinds[run].add(mask_HW, truth_HW)
        first_HW, seen_HW = masks[0], truth_HW != IGNORE
        flips_HW = response_flips(models[0], photo, plain[0])
        for name, where_HW in (("labels that flip", flips_HW), ("labels that stay", ~flips_HW)):
            wrong[name][0] += int((where_HW & seen_HW).sum())
            wrong[name][1] += int((where_HW & seen_HW & (first_HW != truth_HW)).sum())
        stays_HW = np.where(flips_HW, IGNORE, first_HW).astype(np.uint8)
        kinds["first, flips left out (URN)"].add(stays_HW, truth_HW)
        if given.out:
            path = given.out / f"{data.photos[index].name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_mask(path, stays_HW)
        if len(models) == 1:
            continue
        sure_HW = refined[1].amax(0).numpy() > SURE
        kinds["first, corrected where the second is sure (ADELE)"].add(np.where(sure_HW, masks[1], first_HW), truth_HW)
        (mean_KHW,) = models[0].refine([photo], [torch.stack(plain).mean(0)])
        kinds["mean of all probabilities, CRF"].add(class_mask(mean_KHW), truth_HW)
        agree_HW = np.all([mask_HW == first_HW for mask_HW in masks], axis=0)
        kinds["first, where all agree"].add(np.where(agree_HW, first_HW, IGNORE).astype(np.uint8), truth_HW)
        for run, mask_HW in zip(given.runs[1:], masks[1:], strict=True):
            missed_HW = seen_HW & (first_HW != truth_HW)
            wrong[f"labels of the first that are wrong, by {run}"][0] += int(missed_HW.sum())
            wrong[f"labels of the first that are wrong, by {run}"][1] += int((missed_HW & (mask_HW != truth_HW)).sum())
    print("| labels | mIoU | pixels labeled, % | mIoU of those |\n|---|---:|---:|---:|")
    for name, score in kinds.items():
        print(f"| {name} | {100 * score.miou:.1f} | {100 * score.coverage:.1f} | {100 * score.covered().miou:.1f} |")
    print("\n| pixels | number | wrong, % |\n|---|---:|---:|")
    for name, (count, false) in wrong.items():
        print(f"| {name} | {count} | {100 * false / max(count, 1):.1f} |")
    print(f"\n{len(range(0, len(data), given.every))} photos; {machine()}")


def response_flips(model: Segmenter, photo: NDArray[np.uint8], plain_KHW: Tensor) -> NDArray[np.bool_]:
    """Where a class comes and goes as its probabilities are raised to the exponents before the CRF: (H, W).

    URN's uncertainty: the largest variance of a class's binary masks, stretched to 0..1 over the photo.
    """
    variance_HW = torch.zeros(plain_KHW.shape[1:])
    for k in [k for k in range(len(plain_KHW)) if plain_KHW[k].max() > 0]:
        scaled = [torch.cat([plain_KHW[:k], plain_KHW[k : k + 1] ** n, plain_KHW[k + 1 :]]) for n in EXPONENTS]
        answers = model.refine([photo] * len(scaled), [each / each.sum(0) for each in scaled])
        is_k = torch.stack([(each.argmax(0) == k).float() for each in answers])
        variance_HW = torch.maximum(variance_HW, is_k.var(0, unbiased=False))
    return ((1 - variance_HW / variance_HW.max().clamp(min=1e-6)) <= CERTAIN).numpy()


if __name__ == "__main__":
    main()
