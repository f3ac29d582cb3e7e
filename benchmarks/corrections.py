"""Whether correcting masks pays: a simulated person paints true masks over some, and a segmenter learns from all.

    python benchmarks/corrections.py RUN MASKS --images PHOTOS --tags TABLE --truth TRUE --val VAL --val-truth VAL-TRUE \
        --out FOLDER --set train.steps=100

RUN is a finished run, MASKS its masks of the photos (`tagseg label`, or a chain's). The person corrects 0, 10, 30 and 100
photos: those that `tagseg review` proposes, or photos drawn at random (`--ways` leaves one of both out). Each segmenter
starts from RUN. First comes a table of how good the masks are that would be learned from, more numbers and more draws;
`--seeds` alone ends there. The same call goes on where it was stopped; `FOLDER/scores.json` holds what was measured. Masks
learned from are scored where they are sure.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import tagseg
from tagseg.data.folders import find_photos, stem
from tagseg.data.photo import read_mask, read_photo
from tagseg.files import to_json, write_text
from tagseg.mask_values import IGNORE
from tagseg.review.proposals import ModelProposals
from tagseg.review.session import Session
from tagseg.scores import Scores
from tagseg.workflows.evaluate import holds_class
from tagseg.workflows.review import open_review

WAYS = ("proposed", "random")
CURVE = (0, 10, 30, 45, 60, 80, 100)  # corrections of the table that trains nothing
DRAWS = 30  # of random orders in that table


def main() -> None:
    """Correct, train and score by every way, number and seed, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("masks", type=Path)
    for name in ("images", "tags", "truth", "val", "val-truth", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--counts", type=int, nargs="+", default=[0, 10, 30, 100])
    parser.add_argument("--ways", choices=WAYS, nargs="+", default=WAYS)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--set", action="append", default=[], dest="settings")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    kept = given.out / "scores.json"
    scores = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
    looked = open_review(given.run, given.out / "looked", images=given.images, tags=given.tags)
    for index in range(len(looked.photos)):
        looked.look(index)
    masks = Masks(given, looked)
    print(masks.curve([index for index, _ in looked.order(CURVE[-1])]), flush=True)
    for seed in given.seeds:
        orders = {
            "proposed": [index for index, _ in looked.order(max(given.counts), seed=seed)],
            "random": np.random.default_rng(seed).permutation(len(looked.photos)).tolist(),
        }
        for count in given.counts:
            for way in given.ways:
                name = named(way, count, seed)
                if name not in scores:
                    scores[name] = measure(given, looked, masks, orders[way][:count], name, seed)
                    write_text(kept, to_json(scores, indent=2))
                    print(name, scores[name], flush=True)
    looked.close()
    if not given.seeds:
        return
    print("| corrected |" + "".join(f" {way}: masks learned from | mIoU | classes alone |" for way in given.ways))
    print("|---:|" + "---:|" * 3 * len(given.ways))
    for count in given.counts:
        cells = []
        for way in given.ways:
            runs = [scores[named(way, count, seed)] for seed in given.seeds]
            cells += [spread([run[key] for run in runs]) for key in ("masks", "miou", "classes")]
        print(f"| {count} | {' | '.join(cells)} |")


def named(way: str, count: int, seed: int) -> str:
    """A training's key; without corrections both ways are one."""
    return f"{way if count else WAYS[0]}-{count}-{seed}"


def spread(values: list[float]) -> str:
    """The mean of seeds and their range."""
    return f"{statistics.mean(values):.1f} ({min(values):.1f} to {max(values):.1f})"


class Masks:
    """The masks that are learned from, photo by photo: as they are, and as a person corrects them."""

    def __init__(self, given: argparse.Namespace, looked: Session) -> None:
        self.classes = len(looked.proposals.classes)
        self.made, self.true = [], []
        for photo in looked.photos:
            true_HW = read_mask(given.truth / f"{photo.name}.png")
            mask_HW = read_mask(given.masks / f"{photo.name}.png")
            self.made.append(self._scores(mask_HW, np.where(mask_HW == IGNORE, IGNORE, true_HW)))
            self.true.append(self._scores(true_HW, true_HW))

    def miou(self, corrected: list[int]) -> float:
        """Of all of them, some corrected, in %; where a mask says nothing it does not count."""
        whole, chosen = Scores(self.classes), set(corrected)
        for index, made in enumerate(self.made):
            whole.merge(self.true[index] if index in chosen else made)
        return 100 * whole.miou

    def curve(self, proposed: list[int]) -> str:
        """A Markdown table: the mIoU by number of corrections, proposed ones and the mean of random ones."""
        drawn = [np.random.default_rng(seed).permutation(len(self.made)).tolist() for seed in range(DRAWS)]
        lines = [f"| corrected | proposed | random, mean of {DRAWS} |", "|---:|---:|---:|"]
        for count in CURVE:
            random = statistics.mean(self.miou(order[:count]) for order in drawn)
            lines.append(f"| {count} | {self.miou(proposed[:count]):.1f} | {random:.1f} |")
        return "\n".join(lines)

    def _scores(self, mask_HW: NDArray[np.uint8], true_HW: NDArray[np.uint8]) -> Scores:
        scores = Scores(self.classes)
        scores.add(mask_HW, true_HW)
        return scores


def measure(
    given: argparse.Namespace, looked: Session, masks: Masks, corrected: list[int], name: str, seed: int
) -> dict[str, float | int]:
    """Train on masks of which some are corrected; the mIoU of these and on the validation photos, corrections with objects."""
    review = given.out / f"review-{name}"
    objects = 0
    if corrected:
        proposals = looked.proposals
        assert isinstance(proposals, ModelProposals)
        person = Session(review, looked.photos, proposals)
        for index in corrected:
            true_HW = read_mask(given.truth / f"{looked.photos[index].name}.png")
            objects += holds_class(true_HW)
            person.paint(index, true_HW, np.ones_like(true_HW), None)
            person.decide(index, "accepted", None)
        person.close()
    run = tagseg.train(
        out=given.out / f"run-{name}",
        images=given.images,
        tags=given.tags,
        masks=given.masks,
        review=review if corrected else None,
        method="supervised",
        settings=[
            f"model.start={given.run}",
            "method.tag_weight=1",
            "data.val=null",
            f"train.seed={seed}",
            *given.settings,
        ],
        say=lambda text: None,
    )
    iou = scored(run, given.val, given.val_truth)
    return {
        "masks": masks.miou(corrected),
        "miou": 100 * float(iou.mean()),
        "classes": 100 * float(iou[1:].mean()),
        "with objects": objects,
    }


def scored(run: Path, photos: Path, truth: Path) -> np.ndarray:
    """The IoU of background and of each class, no tags used, after the CRF."""
    segmenter = tagseg.load(run)
    scores = Scores(len(segmenter.classes))
    for file, path in find_photos(photos).items():
        scores.add(segmenter.predict(read_photo(path)).mask, read_mask(truth / f"{stem(file)}.png"))
    return np.asarray(scores.iou)


if __name__ == "__main__":
    main()
