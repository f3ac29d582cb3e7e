"""The demo: ASDT on generated scenes, from pictures to a report."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from tagseg.devices import AUTO
from tagseg.prediction.score import score_table
from tagseg.recipe import load_recipe
from tagseg.workflows.report import report
from tagseg.workflows.train import finished, run_result, train

RECIPE = "asdt-scenes"


def demo(
    out: Path, *, seed: int = 0, overwrite: bool = False, device: str = AUTO, console: Console | None = None
) -> None:
    """Train ASDT on scenes in `out`, print how each branch scores, and write the report."""
    console = console or Console()
    recipe = load_recipe(RECIPE, [f"train.seed={seed}", f"data.scenes.seed={seed}"])
    train(recipe, out, overwrite=overwrite, device=device, say=console.print)
    if not finished(out):
        return
    result = run_result(out)
    console.print(score_table(result["scores"], f"ASDT on scenes it has not seen, mIoU in %, seed {seed}"))
    console.print(f"{result['minutes']} minutes on {result['machine']}.")
    console.print(f"Look at {report(out, device=device)}, or segment photos: tagseg predict {out} PHOTOS --out MASKS")
