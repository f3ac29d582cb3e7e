"""How good masks are where tags are given, by `predict.tagged_background` and the sizes a photo is read at, as a Markdown table.

    python benchmarks/tagged_background.py RUN --factors 1 0.5 0.2 --views 1 1,1.25f --every 4

RUN is a finished run whose data has true masks. Its validation photos are read, their tags used, with the CRF; masks of
training photos are not read, so what is best here may be used for `tagseg label`. A view such as 1,1.25f is two scales,
each mirrored as well.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from tagseg.prediction.maps import class_mask
from tagseg.scores import Scores
from tagseg.segmenter import load
from tagseg.workflows.opened import run_sources
from tagseg.workflows.train import machine


def main() -> None:
    """Score every factor with every view, and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    parser.add_argument("--factors", type=float, nargs="+", default=[1.0, 0.6, 0.37, 0.22, 0.14, 0.08])
    parser.add_argument("--views", nargs="+", default=["1"], help="scales, and f for mirror images")
    parser.add_argument("--every", type=int, default=1, help="read every n-th photo")
    options = parser.parse_args()
    segmenter, val = load(options.run), run_sources(options.run).val
    assert val is not None, "the run's data has no true masks"
    indices = range(0, len(val), options.every)
    print(f"`python benchmarks/tagged_background.py {' '.join(sys.argv[1:])}`; {len(indices)} photos; {machine()}\n")
    print("| views | " + " | ".join(map(str, options.factors)) + " |\n|---|" + "---:|" * len(options.factors))
    for view in options.views:
        segmenter.set(scales=view.removesuffix("f"), flip=view.endswith("f"), tagged_background=1.0)
        scores = [Scores(val.num_classes) for _ in options.factors]
        for index in indices:
            photo, truth = val.photo(index), val.mask(index)
            assert truth is not None
            plain_KHW = segmenter.probabilities(photo, torch.from_numpy(val.tag_vector(index)))
            maps = [torch.cat([factor * plain_KHW[:1], plain_KHW[1:]]) for factor in options.factors]
            refined = segmenter.refine([photo] * len(maps), [weighted / weighted.sum(0) for weighted in maps])
            for total, probability_KHW in zip(scores, refined, strict=True):
                total.add(class_mask(probability_KHW), truth)
        print(f"| {view} | " + " | ".join(f"{100 * total.miou:.1f}" for total in scores) + " |", flush=True)


if __name__ == "__main__":
    main()
