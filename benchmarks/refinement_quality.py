"""How good the CAM's masks are after PAR and after VARM, by iterations and background score, as a Markdown table.

    python benchmarks/refinement_quality.py RUN --iterations 10 30 --background 0.35 0.45 --every 4

RUN is a finished run of `tscd` or `bmp` whose data has true masks. Its validation photos are read, their tags used; no CRF.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import torch

from tagseg.cues.cam_labels import refined_cam
from tagseg.prediction.maps import as_image, class_mask
from tagseg.refine import PixelAdaptive
from tagseg.scores import Scores
from tagseg.segmenter import load
from tagseg.workflows.opened import run_sources
from tagseg.workflows.train import machine


def main() -> None:
    """Score the CAM, and PAR and VARM at every number of iterations, and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    parser.add_argument("--iterations", type=int, nargs="+", default=[10, 30])
    parser.add_argument("--background", type=float, nargs="+", default=[0.35, 0.45, 0.55])
    parser.add_argument("--scale", type=float, default=0.5, help="size at which maps are refined, against the photo")
    parser.add_argument("--every", type=int, default=1, help="read every n-th photo")
    options = parser.parse_args()
    method: Any = load(options.run, device="cpu").method
    val = run_sources(options.run).val
    assert val is not None, "the run's data has no true masks"
    refiners: dict[str, PixelAdaptive | None] = {"none": None}
    for count in options.iterations:
        refiners |= {f"PAR, {count}": PixelAdaptive("par", count), f"VARM, {count}": PixelAdaptive("varm", count)}
    scores = {(name, level): Scores(val.num_classes) for name in refiners for level in options.background}
    indices = range(0, len(val), options.every)
    with torch.inference_mode():
        for index in indices:
            image_13HW = as_image(torch.from_numpy(val.photo(index))[None], torch.device("cpu"))
            tag_1C = torch.from_numpy(val.tag_vector(index))[None]
            cam_1CHW, truth = method.view_cams(image_13HW), val.mask(index)
            assert truth is not None
            for (name, level), total in scores.items():
                masks = refined_cam(image_13HW, cam_1CHW, tag_1C, refiners[name], level, options.scale)
                total.add(class_mask(masks[0]), truth)
    print(f"`python benchmarks/refinement_quality.py {' '.join(sys.argv[1:])}`; {len(indices)} photos; {machine()}\n")
    print("| refinement, iterations | " + " | ".join(map(str, options.background)) + " |")
    print("|---|" + "---:|" * len(options.background))
    for name in refiners:
        print(
            f"| {name} | " + " | ".join(f"{100 * scores[name, level].miou:.1f}" for level in options.background) + " |"
        )


if __name__ == "__main__":
    main()
