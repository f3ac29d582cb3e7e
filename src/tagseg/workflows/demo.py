"""The demo: a segmenter trained on generated scenes with tags alone, from pictures to a report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from tagseg.data.scenes import SCENE_CLASSES, WRITTEN, remove_unfinished, visible_files
from tagseg.data.sources import LABELED
from tagseg.devices import AUTO
from tagseg.errors import UserError
from tagseg.files import to_json, write_text
from tagseg.places import is_link, remove_empty
from tagseg.prediction.score import score_table
from tagseg.quoting import shell_line
from tagseg.recipe import load_recipe
from tagseg.refine.ahead import compiled_ahead
from tagseg.result_folder import ResultFolder
from tagseg.run_folder import MOST_ROUNDS, ChainFolder, RunFolder
from tagseg.workflows.chain import Chain, load_chain
from tagseg.workflows.chain_report import chain_minutes
from tagseg.workflows.report import report
from tagseg.workflows.run import chain_alone, run
from tagseg.workflows.train import train

CHAIN = "chain-scenes-classifier"
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
    """Train on scenes in `out`, print how each stage scores, and write and return the report; None if stopped before.

    quick: a classifier alone, whose activation maps find heads and no bodies. overwrite: replace an earlier demo in `out`;
    files that it did not write stay. Raises UserError where a person has changed masks of it.
    """
    drawn = f"data.scenes.seed={seed}"
    if quick:
        recipe = load_recipe(QUICK_RECIPE, [*QUICK, drawn, f"train.seed={seed}"])
        train(recipe, out, overwrite=overwrite, device=device, say=say)
        if not RunFolder(out).finished:
            return None
        page, stages = report(out, device=device), {"classifier": RunFolder(out)}
    else:
        chain, folder = load_chain(CHAIN, [drawn, f"seed={seed}"]), ChainFolder(out)
        _check(folder, chain)
        if overwrite and folder.record.is_file():
            with chain_alone(out):
                _renew(folder)
        with compiled_ahead(len(SCENE_CLASSES) + 1):
            page = run(chain, out, device=device, say=say)
        stages = {name: folder.stage(name) for name in chain.stages}
    results = {name: stage.result() for name, stage in stages.items()}
    (console or Console()).print(score_table(_by_stage(results), f"Scenes it has not seen, mIoU in %, seed {seed}"))
    last = list(results.values())[-1]
    minutes = last["minutes"] if quick else chain_minutes(ChainFolder(out), list(stages))
    say(f"{minutes:.1f} minutes on {last['machine']}.")
    more = (
        "the whole demo: tagseg demo"
        if quick
        else f"segment photos: tagseg predict {shell_line(out)} PHOTOS --out MASKS"
    )
    say(f"Look at {page}, or {more}")
    return page


def _check(folder: ChainFolder, chain: Chain) -> None:
    """Refuse a folder of another chain, which the demo would make anew."""
    if not folder.record.is_file():
        return
    teacher = folder.stage(chain.stages[0]).recipe
    other = {*folder.read_record()[0]} - {*chain.stages, *chain.masks, "evaluation", "report"}
    if other or (teacher.is_file() and load_recipe(teacher, stored=True).title != chain.teacher.title):
        raise UserError(f"{folder.path} holds another chain than the demo's: choose another --out.")


def _renew(folder: ChainFolder) -> None:
    """Have every stage made anew in place of what is there, and remove the scenes, which may be others."""
    known, _ = folder.read_record()
    for name in (*ChainFolder.masks(MOST_ROUNDS), ChainFolder.MARKS):
        if name in known:
            ResultFolder.check_unchanged(folder.path / name, LABELED)
    remove_unfinished(folder.scenes)
    scenes = set[Path]() if is_link(folder.scenes) else set(visible_files(folder.scenes))
    own = {path for pattern in WRITTEN for path in folder.scenes.glob(pattern)}
    others = sorted(scenes - own)
    if others:
        raise UserError(f"{others[0]} lies among the demo's scenes, which --overwrite removes: move it away.")
    for path in scenes:
        path.unlink()
    remove_empty(folder.scenes)
    stages = {name: {"inputs": "", "done": False, "anew": True} for name in known}
    write_text(folder.record, to_json({"stages": stages}))


def _by_stage(results: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Scores by protocol, then by stage and branch."""
    scores: dict[str, dict[str, Any]] = {}
    for stage, result in results.items():
        for protocol, branches in result["scores"].items():
            scores.setdefault(protocol, {}).update({f"{stage}: {name}": score for name, score in branches.items()})
    return scores
