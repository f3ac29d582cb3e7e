"""How good masks of enlarged photos are by the size that the model reads them at, as a Markdown table.

    python benchmarks/reading_size.py RUN --enlarge 4 --sides 224 336 --every 16

RUN is a finished run whose data has true masks. Its validation photos and their masks are enlarged, as a camera of more
pixels would have taken them, and read at several shorter sides; 0 stands for their own size. No tags are used.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

from tagseg.prediction.settings import PredictSettings
from tagseg.scores import Scores
from tagseg.segmenter import load
from tagseg.workflows.opened import run_sources
from tagseg.workflows.train import machine


def main() -> None:
    """Score every side, and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    parser.add_argument("--enlarge", type=int, default=4, help="how many times")
    parser.add_argument("--sides", type=int, nargs="+", default=[176, 224, 280, 336, 448, 0])
    parser.add_argument("--every", type=int, default=1, help="read every n-th photo")
    options = parser.parse_args()
    segmenter, val = load(options.run), run_sources(options.run).val
    assert val is not None, "the run's data has no true masks"
    given, factor, indices = segmenter.settings, options.enlarge, range(0, len(val), options.every)
    print(f"`python benchmarks/reading_size.py {' '.join(sys.argv[1:])}`; {len(indices)} photos; {machine()}\n")
    print("| read at shorter side | before the CRF | after it | seconds of CPU a photo |\n|---|---:|---:|---:|")
    for side in options.sides:
        sizes = {"short_side": side or None, "long_side": None, "largest": None}
        segmenter.settings = PredictSettings.model_validate(given.model_dump() | sizes)
        before, after, begin = Scores(val.num_classes), Scores(val.num_classes), time.process_time()
        for index in indices:
            photo, truth = val.photo(index), val.mask(index)
            assert truth is not None
            size = photo.shape[1] * factor, photo.shape[0] * factor
            large = np.asarray(Image.fromarray(photo).resize(size, Image.Resampling.BICUBIC))
            large_truth = np.kron(truth, np.ones((factor, factor), np.uint8))
            for total, crf in ((before, False), (after, True)):
                total.add(segmenter.predict(large, crf=crf).mask, large_truth)
        seconds = (time.process_time() - begin) / len(indices)
        print(
            f"| {side or 'own size'} | {100 * before.miou:.1f} | {100 * after.miou:.1f} | {seconds:.1f} |", flush=True
        )


if __name__ == "__main__":
    main()
