"""Where the time of a training step goes, as a Markdown table.

    python benchmarks/step.py --root VOC_LAYOUT_FOLDER --steps 12

Without --root, generated scenes are used. The parts are measured inside real steps: each excludes the parts it calls.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tagseg.data.augment import Augment
from tagseg.data.batches import StepBatches
from tagseg.data.sources import DataSettings, open_sources
from tagseg.engine.optim import build_optimizer
from tagseg.methods import asdt, rrm
from tagseg.methods.build import build_method
from tagseg.methods.class_teacher import ClassTeacher
from tagseg.recipe import Recipe, load_recipe
from tagseg.workflows.train import machine

# ms a step on two Xeon cores, batch 8, crop 160: the reference algorithms with pydensecrf2 and a C++ lattice
REFERENCE = {
    "data": 12, "forward": 87, "multi-scale CAM": 270, "labels": 288, "cross-entropy and energy": 22, "backward": 241,
    "optimizer": 9, "total": 933,
}  # fmt: skip


class Stopwatch:
    """Seconds by part; a part's time excludes the parts that run inside it."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._inside: list[float] = []

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, its time counted as `part`."""

        def measured(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            self._inside.append(0.0)
            try:
                return function(*args, **kwargs)
            finally:
                whole = time.perf_counter() - began
                self.seconds[part] += whole - self._inside.pop()
                if self._inside:
                    self._inside[-1] += whole

        return measured


def recipe_for(name: str, overrides: list[str], root: Path | None) -> Recipe:
    """A recipe from fresh weights, on a folder in VOC layout, or else on generated scenes."""
    recipe = load_recipe(name, [*overrides, "model.start=null"])
    data = DataSettings() if root is None else recipe.data.model_copy(update={"root": root})
    return recipe.model_copy(update={"data": data})


def set_up(recipe: Recipe, folder: Path) -> tuple[Any, StepBatches]:
    """The method that a recipe trains, and its batches; generated scenes go to the folder."""
    data, settings = open_sources(recipe.data, folder).train, recipe.train
    torch.manual_seed(0)
    method: Any = build_method(recipe.method, recipe.model, data.classes).train()
    augment = Augment.from_settings(settings, fill=method.backbone.mean)
    return method, StepBatches(data, augment, batch_size=settings.batch_size, seed=0, with_masks=method.needs_masks)


def measure(recipe: Recipe, steps: int, warmup: int = 3) -> dict[str, float]:
    """Median milliseconds of each part over some steps of a recipe."""
    with tempfile.TemporaryDirectory() as folder:
        method, batches = set_up(recipe, Path(folder))
        optimizer = build_optimizer(method, recipe.train)
        watch = Stopwatch()
        for part, name in (
            ("cross-entropy and energy", "taught"),
            ("seg-teacher's CRF", "seg_teacher_labels"),
        ):
            if hasattr(method, name):
                setattr(method, name, watch.timed(part, getattr(method, name)))
        ClassTeacher.raw_cams = watch.timed("multi-scale CAM", ClassTeacher.raw_cams)  # type: ignore[method-assign]
        rrm.reliable_labels = watch.timed("labels", rrm.reliable_labels)  # type: ignore[attr-defined]
        for module in (rrm, asdt):
            module.begin_energy = watch.timed("cross-entropy and energy", module.begin_energy)  # type: ignore[attr-defined]
        get_batch = watch.timed("data", batches.batch)
        forward = watch.timed("forward", lambda batch, step: torch.stack(list(method(batch, step).values())).sum())
        backward = watch.timed("backward", lambda loss: loss.backward())
        update = watch.timed("optimizer", optimizer.step)
        rows: list[dict[str, float]] = []
        for step in range(warmup + steps):
            watch.seconds.clear()
            optimizer.zero_grad()
            backward(forward(get_batch(step), step))
            update()
            if step >= warmup:
                rows.append(dict(watch.seconds) | {"total": sum(watch.seconds.values())})
    parts = dict.fromkeys(part for row in rows for part in row)
    return {part: 1000 * statistics.median(row[part] for row in rows if part in row) for part in parts}


def main() -> None:
    """Measure the systems at crop 160 and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", type=Path)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    names = ("rrm", "asdt", "supervised")
    columns: dict[str, dict[str, float]] = {
        "reference rrm (another machine)": {k: float(v) for k, v in REFERENCE.items()}
    }
    for name in names:
        columns[name] = measure(
            recipe_for(f"{name}-voc-animals-reference", options.overrides, options.root), options.steps
        )
    print(
        f"`python benchmarks/step.py {' '.join(sys.argv[1:])}`; {machine()}, {options.threads} threads; ms, medians\n"
    )
    print("| part | " + " | ".join(columns) + " |\n|---|" + "---:|" * len(columns))
    parts = list(dict.fromkeys(part for column in columns.values() for part in column if part != "total"))
    for part in [*parts, "total"]:
        cells = (f"{column[part]:.0f}" if part in column else "-" for column in columns.values())
        print(f"| {part} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
