"""The demo: a network trained on generated scenes, from pictures to a report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from tagseg.devices import AUTO
from tagseg.prediction.score import score_table
from tagseg.recipe import load_recipe
from tagseg.run_folder import RunFolder
from tagseg.workflows.report import report
from tagseg.workflows.train import train

RECIPE = "asdt-scenes"
QUICK_RECIPE = "classifier-scenes"  # nothing that numba has to compile first
QUICK = ("train.steps=60", "train.crop=128", "data.scenes.train=120", "data.scenes.val=12", "predict.crf=null")


def demo(
    out: Path,
    *,
    quick: bool = False,
    seed: int = 0,
    overwrite: bool = False,
    device: str = AUTO,
    console: Console | None = None,
    say: Callable[[str], object] = print,
) -> Path | None:
    """Train on scenes in `out`, print how each branch scores, and write and return the report; None if stopped before.

    quick: a classifier alone, whose activation maps find heads and no bodies.
    """
    console = console or Console()
    own = [f"train.seed={seed}", f"data.scenes.seed={seed}"]
    recipe = load_recipe(QUICK_RECIPE, [*QUICK, *own]) if quick else load_recipe(RECIPE, own)
    train(recipe, out, overwrite=overwrite, device=device, say=say)
    run = RunFolder(out)
    if not run.finished:
        return None
    result = run.result()
    console.print(
        score_table(result["scores"], f"{recipe.method.name} on scenes it has not seen, mIoU in %, seed {seed}")
    )
    say(f"{result['minutes']} minutes on {result['machine']}.")
    page = report(out, device=device)
    more = "the whole demo: tagseg demo" if quick else f"segment photos: tagseg predict {out} PHOTOS --out MASKS"
    say(f"Look at {page}, or {more}")
    return page
