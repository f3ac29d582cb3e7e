"""How good the reliable labels of a class-teacher are under different settings, as a Markdown table.

    python benchmarks/label_quality.py RUN --try "alpha_low=2 alpha_high=8" --try "keep=0.6"

RUN is a finished run of `classifier`, `rrm` or `asdt` whose data has true masks. The labels are made on crops of its validation
photos, their tags used, as in training; masks of training photos are not read.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from tagseg.cues.cam import tagged_cam
from tagseg.cues.reliable import ReliableSettings, reliable_labels
from tagseg.data.augment import Augment
from tagseg.data.batches import StepBatches
from tagseg.scores import Scores
from tagseg.segmenter import load
from tagseg.workflows.opened import run_recipe, run_sources
from tagseg.workflows.train import machine


def main() -> None:
    """Measure the default settings and every `--try`, and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    parser.add_argument(
        "--try", action="append", default=[], dest="tries", help="settings of the labels: key=value ..."
    )
    parser.add_argument("--batches", type=int, default=16)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    method: Any = load(options.run).method
    settings, val = run_recipe(options.run).train, run_sources(options.run).val
    assert val is not None, "the run's data has no true masks"
    augment = Augment.from_settings(settings, fill=method.backbone.mean)
    batches = StepBatches(val, augment, batch_size=8, seed=options.seed, with_masks=True)
    crops = []
    with torch.inference_mode():
        for step in range(options.batches):
            batch = batches.batch(step)
            raw = method.class_teacher.raw_cams(batch.image(), method.backbone(batch.image()))
            crops.append((batch, tagged_cam(raw, batch.tag_BC, batch.size)))
    print(f"`python benchmarks/label_quality.py {' '.join(sys.argv[1:])}`; {8 * options.batches} crops; {machine()}\n")
    print(
        "| labels | covered | mIoU on them | foreground precision | recall | background precision | recall | share of foreground |"
    )
    print("|---|" + "---:|" * 7)
    for text in ["", *options.tries]:
        chosen = ReliableSettings.model_validate(
            {k: yaml.safe_load(v) for k, v in (p.split("=") for p in text.split())}
        )
        scores = Scores(val.num_classes)
        for batch, cam_BCHW in crops:
            label_BHW = reliable_labels(batch.photo_B3HW, cam_BCHW, batch.tag_BC, chosen)
            for label, truth in zip(label_BHW.numpy(), batch.mask_BHW.numpy(), strict=True):  # type: ignore[union-attr]
                scores.add(label, truth)
        print(f"| {text or 'as published'} | " + " | ".join(f"{value:.2f}" for value in _row(scores)) + " |")


def _row(scores: Scores) -> list[float]:
    """Coverage, mIoU, precision and recall of foreground and background, and the labels' share of foreground."""
    counts, open_ = scores.confusion, scores.unlabeled
    hits = np.trace(counts[1:, 1:])
    return [
        scores.coverage,
        scores.covered().miou,
        hits / counts[:, 1:].sum(),
        hits / (counts[1:].sum() + open_[1:].sum()),
        counts[0, 0] / counts[:, 0].sum(),
        counts[0, 0] / (counts[0].sum() + open_[0]),
        counts[:, 1:].sum() / counts.sum(),
    ]


if __name__ == "__main__":
    main()
