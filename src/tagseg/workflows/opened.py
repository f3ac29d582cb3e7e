"""A finished run read back: its recipe, its photos, and whether these are still the ones it learned from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from tagseg.data.paths import held
from tagseg.data.sources import DataSettings, Sources, open_sources
from tagseg.data.tagged import TaggedImages
from tagseg.errors import UserError
from tagseg.foreign import shown
from tagseg.recipe import Recipe, load_recipe
from tagseg.run_folder import RunFolder
from tagseg.workflows.trusted import followed_recipe, is_sealed


def open_together(data: DataSettings, out: Path, main: bool, wait: Callable[[], None]) -> Sources:
    """The photos, for each of several processes: generated scenes are written by the main one alone, before the others look."""
    sources = open_sources(data, out) if main else None
    wait()
    return sources or open_sources(data, out)


def run_recipe(run: Path) -> Recipe:
    """The recipe of a run folder, its places absolute. Raises UserError where there is none."""
    file = RunFolder.of(run).recipe
    if not file.is_file():
        raise UserError(f"{run} is no run folder: it holds no {file.name}.")
    return load_recipe(file, stored=True, strict=False).placed()


def run_sources(run: Path, places: Sequence[str] = (), *, given: DataSettings | None = None) -> Sources:
    """The photos a run was trained and scored on.

    places: where they are now, as texts "data.root=DIR". given: in place of the run's own recipe, the places that a person
    has given for it.
    Raises UserError where they have moved, where a finished run knows other classes than they have now, and where someone
    else's run names places that `places` does not.
    """
    folder = RunFolder.of(run)
    run_recipe(run)  # said first, where there is none
    data = given.placed() if given is not None else followed_recipe(folder, places).data
    for name, place in data.places().items():
        if not place.exists():
            raise UserError(
                f"The run {run} reads its {name} from {place}, which is not there: put it back, or give its new place with "
                f"--set data.{name}=PLACE."
            )
    sources = open_sources(data, folder.path)
    if given is None and not is_sealed(folder):
        _refuse_links(sources, folder.path)
    if folder.finished:
        check_run_classes(folder, sources.train)
    return sources


def _refuse_links(sources: Sources, run: Path) -> None:
    """Raise UserError where photos or masks in the folder of someone else's run are links that lead outside of it."""
    known: dict[Path, bool] = {}
    for data in (sources.train, sources.val):
        for photo in () if data is None else data.photos:
            for path in (photo.photo, photo.mask, photo.true):
                if path is not None and path.absolute().is_relative_to(run.absolute()):
                    held(path, run, known)


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
