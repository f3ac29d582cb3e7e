"""The demo: ASDT on generated scenes, from pictures to a report."""

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


def demo(
    out: Path,
    *,
    seed: int = 0,
    overwrite: bool = False,
    device: str = AUTO,
    console: Console | None = None,
    say: Callable[[str], object] = print,
) -> None:
    """Train ASDT on scenes in `out`, print how each branch scores, and write the report."""
    console = console or Console()
    recipe = load_recipe(RECIPE, [f"train.seed={seed}", f"data.scenes.seed={seed}"])
    train(recipe, out, overwrite=overwrite, device=device, say=say)
    run = RunFolder(out)
    if not run.finished:
        return
    result = run.result()
    console.print(score_table(result["scores"], f"ASDT on scenes it has not seen, mIoU in %, seed {seed}"))
    say(f"{result['minutes']} minutes on {result['machine']}.")
    say(f"Look at {report(out, device=device)}, or segment photos: tagseg predict {out} PHOTOS --out MASKS")
