"""A training step of TSCD and BMP, and the same step without one of its parts, as a Markdown table.

    python benchmarks/step_parts.py --root VOC_LAYOUT_FOLDER --steps 6

Without --root, generated scenes are used. All variants take turns within every repeat, on the same batches.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from step import recipe_for, set_up
from tagseg.data.batch import Batch
from tagseg.workflows.train import machine

WITHOUT: dict[str, dict[str, list[str]]] = {
    "tscd-voc-animals": {
        "refinement of the labels (VARM)": ["method.labels.refine=none"],
        "correspondence (SCD) and its second view": ["method.correspondence.weight=0"],
        "dense energy": ["method.energy_weight=0"],
        "the CAM's other scales and mirror images": ["method.cam_scales=[1.0]", "method.cam_flip=false"],
    },
    "bmp-voc-animals": {
        "refinement of the labels (PAR)": ["method.labels.refine=none"],
        "object-aware decoding": ["method.object_aware=false"],
        "background-aware labels (the CAM's own instead)": ["method.background_aware.from_step=null"],
        "the CAM's supervision of the segmentation": ["method.class_to_seg.weight=0"],
        "the segmentation's supervision of the CAM": ["method.seg_to_class.weight=0"],
        "other scales and mirror images": ["method.cam_scales=[1.0]", "method.cam_flip=false"],
    },
}
LATE = 10**6  # a step at which every part is on


def one_step(method: Any, batch: Batch) -> float:
    began = time.perf_counter()
    torch.stack(list(method(batch, LATE).values())).sum().backward()
    method.zero_grad()
    return time.perf_counter() - began


def measure(name: str, root: Path | None, steps: int) -> dict[str, float]:
    """Median milliseconds of a step, whole and without each part."""
    recipes = {"": recipe_for(name, [], root)}
    recipes |= {part: recipe_for(name, changes, root) for part, changes in WITHOUT[name].items()}
    with tempfile.TemporaryDirectory() as folder:
        ready = {part: set_up(recipe, Path(folder)) for part, recipe in recipes.items()}
        batches = ready[""][1]
        rows = []
        for step in range(steps + 1):
            batch = batches.batch(step)
            rows.append({part: one_step(method, batch) for part, (method, _) in ready.items()})
    return {part: 1000 * statistics.median(row[part] for row in rows[1:]) for part in recipes}


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", type=Path)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(
        f"`python benchmarks/step_parts.py {' '.join(sys.argv[1:])}`; {machine()}, {options.threads} threads; ms, medians"
    )
    for name in WITHOUT:
        times = measure(name, options.root, options.steps)
        print(f"\n| {name}, a step | ms | the part's share |\n|---|---:|---:|")
        print(f"| whole | {times['']:.0f} | |")
        for part in WITHOUT[name]:
            print(f"| without {part} | {times[part]:.0f} | {1 - times[part] / times['']:.0%} |")


if __name__ == "__main__":
    main()
