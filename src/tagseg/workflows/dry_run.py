"""What a training or a chain would do, and how long it would take here, without doing it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tagseg.data.scenes import SCENE_CLASSES
from tagseg.data.sources import open_sources
from tagseg.devices import AUTO, choose_device
from tagseg.methods.build import check_weights
from tagseg.places import check_output, entries
from tagseg.progress import clock_text
from tagseg.recipe import Recipe, start_recipe
from tagseg.reproduce.cost import measure, training_seconds
from tagseg.run_folder import ChainFolder, RunFolder
from tagseg.shipped import shipped_recipes
from tagseg.workflows.chain import Chain
from tagseg.workflows.claim import refused_differences
from tagseg.workflows.opened import recipe_places


def plan_training(recipe: Recipe, out: Path, *, device: str = AUTO) -> list[str]:
    """Sentences on what `train` would do: photos, stages, time and memory, and what lies in `out`."""
    check_output(out, recipe_places(recipe))
    start = recipe.model.start
    first = [start_recipe(recipe, start)] if start in shipped_recipes() and start is not None else []
    return [*_lines(recipe, [*first, recipe], device), _there(recipe, out), "Nothing was written."]


def plan_chain(chain: Chain, out: Path, *, device: str = AUTO) -> list[str]:
    """Sentences on what `run` would do."""
    first = [] if chain.classifier is None else [chain.classifier]
    recipes = [*first, chain.teacher, *[chain.segmenter] * chain.rounds]
    check_output(out, [place for recipe in recipes for place in recipe_places(recipe)])
    if ChainFolder(out).record.is_file():
        there = f"{out} holds a chain; stages that are done of the same inputs are kept."
    else:
        there = (
            f"{out} is not empty and holds no chain: it would be refused." if _holds(out) else f"{out} would be made."
        )
    return [*_lines(chain.teacher, recipes, device), there, "Nothing was written."]


def _lines(recipe: Recipe, recipes: Sequence[Recipe], device: str) -> list[str]:
    kind = choose_device(device)
    if recipe.data.format == "scenes":
        classes, photos = len(SCENE_CLASSES), f"{recipe.data.scenes.train} generated pictures"
    else:
        data = open_sources(recipe.data, Path()).train
        classes, photos = len(data.classes), f"{len(data)} photos, classes: {', '.join(data.classes)}"
    lines, whole = [f"{photos}; on {kind}."], 0.0
    seconds: dict[str, float] = {}
    for number, each in enumerate(recipes, 1):
        if not each.model.weights.startswith("hub"):  # what would be fetched is not fetched
            check_weights(each.method, each.model)
        key = each.to_yaml()
        if key not in seconds:
            seconds[key] = training_seconds(each, classes, str(kind))
        whole += seconds[key]
        lines.append(
            f"Stage {number} of {len(recipes)}: {each.method.name} on {each.model.backbone}, {each.train.steps} steps of "
            f"{each.train.batch_size} photos, crop {each.train.crop}: about {clock_text(seconds[key])}."
        )
    memory = measure(recipes[-1], classes, device=str(kind)).memory
    lines.append(f"About {clock_text(whole)} for all steps, without scores and masks; a step takes {memory:.1f} GiB.")
    return lines


def _there(recipe: Recipe, out: Path) -> str:
    run = RunFolder(out)
    if not run.holds_run():
        return f"{out} is not empty and holds no run: it would be refused." if _holds(out) else f"{out} would be made."
    different = refused_differences(recipe.placed(), run)
    if different:
        return f"{out} holds a run of another recipe ({'; '.join(different[:3])}): it would be refused without --overwrite."
    return f"{out} holds this run, finished." if run.finished else f"{out} holds this run, begun: it would go on."


def _holds(out: Path) -> bool:
    """Whether anything is there that would be in the way."""
    return out.exists() and (not out.is_dir() or bool(entries(out)))
