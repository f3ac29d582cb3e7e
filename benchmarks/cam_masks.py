"""How good the masks of a classifier's CAM are by background score and refinement, as a Markdown table.

    python benchmarks/cam_masks.py RUN --scores 0.4 --scores 0.5 --scores 0.35,0.55

RUN is a finished run of `classifier` whose data has true masks (a chain's stage will do). The validation photos are read
with their tags; mIoU in % before and after the CRF. Several scores together: the mean of their masks counts.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import tagseg
from tagseg.cues.cam_labels import CamMaskSettings
from tagseg.data.tagged import TaggedImages
from tagseg.methods.classifier import Classifier
from tagseg.prediction.segmenter import Segmenter
from tagseg.scores import Scores
from tagseg.workflows.opened import run_sources
from tagseg.workflows.train import machine


def main() -> None:
    """Score the masks of every choice of scores, with and without PAR, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--scores", action="append", default=[], help="background scores, such as 0.35,0.55")
    given = parser.parse_args()
    segmenter, val = tagseg.load(given.run, device="cpu"), run_sources(given.run).val
    if val is None or not isinstance(segmenter.method, Classifier):
        parser.error(f"{given.run} is no classifier's run with true masks.")
    print(f"`python benchmarks/cam_masks.py {' '.join(sys.argv[1:])}`; {len(val)} photos; {machine()}\n")
    print("| background score | CAM | CAM, CRF | CAM+PAR | CAM+PAR, CRF |\n|---|---:|---:|---:|---:|", flush=True)
    for text in given.scores or ["0.35,0.55"]:
        chosen, cells = tuple(map(float, text.split(","))), []
        for refine in ("none", "par"):
            read = CamMaskSettings(refine=refine, background_scores=chosen)
            segmenter.method.settings = segmenter.method.settings.model_copy(update={"cam_mask": read})
            cells += [f"{100 * score(segmenter, val, crf):.1f}" for crf in (False, True)]
        print(f"| {' and '.join(map(str, chosen))} | {' | '.join(cells)} |", flush=True)


def score(segmenter: Segmenter, val: TaggedImages, crf: bool) -> float:
    """The mIoU of the masks of tagged photos."""
    scores = Scores(val.num_classes)
    for index, photo in enumerate(val.photos):
        true_HW, tags = val.mask(index), [val.classes[tag - 1] for tag in photo.tags]
        assert true_HW is not None
        scores.add(segmenter.predict(val.photo(index), tags=tags, crf=crf).mask, true_HW)
    return scores.miou


if __name__ == "__main__":
    main()
