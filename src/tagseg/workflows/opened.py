"""A finished run read back: its recipe, its photos, and whether these are still the ones it learned from."""

from __future__ import annotations

from pathlib import Path

from tagseg.data.sources import Sources, open_sources
from tagseg.data.tagged import TaggedImages
from tagseg.errors import UserError
from tagseg.foreign import shown
from tagseg.recipe import Recipe, load_recipe
from tagseg.run_folder import RunFolder


def run_recipe(run: Path) -> Recipe:
    """The recipe of a run folder, its places absolute. Raises UserError where there is none."""
    file = RunFolder.of(run).recipe
    if not file.is_file():
        raise UserError(f"{run} is no run folder: it holds no {file.name}.")
    return load_recipe(file, stored=True, strict=False).placed()


def run_sources(run: Path) -> Sources:
    """The photos a run was trained and scored on.

    Raises UserError where they have moved, or where a finished run knows other classes than they have now.
    """
    folder = RunFolder.of(run)
    recipe = run_recipe(run)
    for name, place in recipe.data.places().items():
        if not place.exists():
            raise UserError(
                f"The run {run} reads its {name} from {place}, which is not there: put it back, or write its new place "
                f"as {name} into {folder.recipe}; `tagseg label` takes --images and --tags too."
            )
    sources = open_sources(recipe.data, folder.path)
    if folder.finished:
        check_run_classes(folder, sources.train)
    return sources


def check_run_classes(run: RunFolder, data: TaggedImages) -> None:
    """Raise UserError where a finished run learned other classes than the data has now, or the same in another order."""
    learned = tuple(run.result()["classes"])
    if learned == data.classes:
        return
    new = [name for name in data.classes if name not in learned]
    lost = [name for name in learned if name not in data.classes]
    what = [f"it did not learn {shown(new[0])}"] if new else []
    what += [f"{shown(lost[0])} is no longer among them"] if lost else []
    raise UserError(
        f"The photos of {run.path} have other classes than the run ({' and '.join(what) or 'their order differs'}): put "
        "the tags back that it learned from, or train a new run into another --out."
    )


def recipe_places(recipe: Recipe) -> list[Path]:
    """Every folder and file that training by a recipe reads."""
    places = list(recipe.data.places().values())
    if Path(recipe.model.weights).is_file():
        places.append(Path(recipe.model.weights))
    start = recipe.model.start
    if start is not None and Path(start).exists():
        places += RunFolder(start).places() if Path(start).is_dir() else [Path(start)]
    return places
