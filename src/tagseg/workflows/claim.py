"""Taking a folder of a run for one recipe and for one training at a time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tagseg.alone import Alone, held_alone
from tagseg.data.scenes import WRITTEN as SCENES
from tagseg.data.scenes import remove_unfinished
from tagseg.engine.identity import begun_with, same_listed
from tagseg.engine.settings import TrainSettings
from tagseg.errors import UserError
from tagseg.files import make_folder, remove_temporaries, write_text
from tagseg.places import entries, is_link, remove_empty
from tagseg.recipe import Recipe, load_recipe
from tagseg.run_folder import CHECKPOINT, RunFolder
from tagseg.workflows.trusted import is_sealed, seal

SHOWN = 3  # differences between recipes


@contextmanager
def claimed(
    recipe: Recipe,
    out: Path,
    *,
    overwrite: bool,
    main: bool,
    wait: Callable[[], None] = lambda: None,
    listed: Collection[str] = (),
) -> Iterator[None]:
    """Hold the run folder `out` for a recipe, or refuse it in one sentence; the `main` process of a run does both.

    With `overwrite` the run that is there is kept in `replaced` until the new one is complete, and comes back when the
    new one fails before its first checkpoint. Files that training did not write stay where they are.
    wait: returns when every process has come that far. listed: digests of the photos and tags, where they are known; what
    an earlier call with `overwrite` began with others is dropped.
    Raises UserError for a folder that another training works in, that holds something else, or cannot be written.
    """
    run = RunFolder(out)
    alone = Alone(run.lock)
    replaces = False
    try:
        _check(recipe, run, overwrite=overwrite)
        wait()  # every process has looked before one changes anything
        if main:
            make_folder(out)
            alone.take(_busy(out))
            _recover(run)
            remove_temporaries(out)
            if run.recipe.is_file() and not _learned(run):
                _remove(run)
            run.checkpoints.mkdir(exist_ok=True)  # with it a recipe.yaml is a run
            if overwrite and run.recipe.is_file() and not _goes_on(recipe, run, listed):
                _set_aside(run)
                replaces = True
            if not run.recipe.is_file() or (not run.finished and differences_to(run.recipe, recipe)):
                write_text(run.recipe, recipe.to_yaml())  # what may differ when a run is resumed is told as it is now
            seal(run)
    except BaseException as error:
        alone.release(keep=True)  # what was begun tells by that file that it is a run
        if isinstance(error, OSError):
            raise UserError(f"The run folder {out} cannot be written: {error.strerror or error}.") from error
        raise
    try:
        yield
        if main and run.finished and _replaces(run):
            _remove(RunFolder(run.replaced))
    except UserError:
        if replaces and not any(run.checkpoints.glob("step-*.json")):
            _remove(run)
            _move(run.replaced, out)
        raise
    finally:
        alone.release()


def drop_begun(out: Path) -> None:
    """Remove a training that was begun in place of the run in `replaced`; that run comes back when `out` is claimed.

    Nothing where no such training is. Raises UserError where it is at work, or the folder cannot be written.
    """
    run = RunFolder(out)
    if _replaces(run) and not is_link(run.replaced) and not run.finished:
        with held_alone(run.lock, _busy(out)):
            _recover(run)  # a kill may have left half of the old run in either place
            if _replaces(run):
                _remove(run)


def _check(recipe: Recipe, run: RunFolder, *, overwrite: bool) -> None:
    out = run.path
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file: choose another --out.")
    if not out.is_dir():
        return
    names = {pattern.partition("/")[0] for pattern in RunFolder.WRITTEN}
    for place in (*(out / name for name in sorted(names)), run.lock, run.scenes, run.start, run.replaced):
        if is_link(place):
            raise UserError(f"{place} is a link, and training writes through none: remove it, or choose another --out.")
    if not (run.holds_run() or RunFolder(run.replaced).holds_run()):
        if any(not _begun(path, run) for path in entries(out)):
            raise UserError(f"{out} is not empty and holds no run: choose another --out.")
        return
    different = refused_differences(recipe, run)
    if different and not overwrite:
        more = f" and {len(different) - SHOWN} more" if len(different) > SHOWN else ""
        raise UserError(
            f"{out} holds a run of another recipe ({'; '.join(different[:SHOWN])}{more}): choose another --out. "
            "--overwrite trains anew here and drops that run once this one is complete."
        )


def refused_differences(recipe: Recipe, run: RunFolder) -> list[str]:
    """What differs between the run in a folder and a recipe that may not go on there; nothing where none was learned yet."""
    if not _learned(run):
        return []
    different = differences_to(run.recipe if run.recipe.is_file() else RunFolder(run.replaced).recipe, recipe)
    return different if run.finished else _that_count(different)


def _learned(run: RunFolder) -> bool:
    """Whether a step was taken in a folder, by this training, the one it starts from, or the one it replaces.

    A folder that this account did not train in counts as if: its recipe may be a person's own file.
    """
    if not is_sealed(run) or run.finished or run.metrics.is_file() or any(run.checkpoints.glob(CHECKPOINT)):
        return True
    inner = [folder for folder in (run.start, run.replaced) if folder.is_dir()]
    return any(is_link(folder) or (_files(folder) and _learned(RunFolder(folder))) for folder in inner)


def _begun(path: Path, run: RunFolder) -> bool:
    """Whether a path is all that there is of a training that was killed at once."""
    return path == run.checkpoints and path.is_dir() and not entries(path)


def _replaces(run: RunFolder) -> bool:
    """Whether another run waits in `replaced`, whole or in part; a system's files alone are none."""
    return run.replaced.is_dir() and bool(_files(run.replaced))


def _goes_on(recipe: Recipe, run: RunFolder, listed: Collection[str]) -> bool:
    """Whether the folder holds what an earlier call with --overwrite began, of the same photos and tags, and did not end."""
    if not _replaces(run) or run.finished or _that_count(differences_to(run.recipe, recipe)):
        return False
    told = begun_with(run) | begun_with(RunFolder(run.start))
    return not listed or all(any(same_listed(each, one) for one in listed) for each in told)


def _that_count(differences: list[str]) -> list[str]:
    """Differences between recipes without those that a run may be resumed with."""
    free = {f"train.{key}" for key in TrainSettings.OPERATIONAL}
    return [each for each in differences if each.partition(":")[0] not in free]


def differences_to(stored: Path, recipe: Recipe) -> list[str]:
    """What differs between a recipe in a file and the one given, as `differences` says it."""
    try:
        return differences(load_recipe(stored, stored=True).placed(), recipe)
    except UserError as error:  # of another version
        return [str(error)]


def same_but_for_places(stored: Path, recipe: Recipe) -> bool:
    """Whether the recipe in a file is the one given, wherever the data of either, or the chain that it is a stage of, lie.

    It may differ besides in what a run can be resumed with.
    """
    places = {f"data.{name}" for name in recipe.data.places()}
    if _starts_from_the_same_stage(stored, recipe):
        places.add("model.start")
    different = _that_count(differences_to(stored, recipe))
    return {difference.partition(":")[0] for difference in different} <= places


def _starts_from_the_same_stage(stored: Path, recipe: Recipe) -> bool:
    """Whether both start from the stage of one name beside the run: another path, where the chain's folder was moved."""
    start, chain = recipe.model.start, stored.absolute().parent.parent
    if start is None or Path(start).absolute().parent != chain:
        return False
    try:
        before = load_recipe(stored, stored=True).model.start
    except UserError:  # of another version
        return False
    return before is not None and Path(before).name == Path(start).name


def differences(there: Recipe, here: Recipe) -> list[str]:
    """What differs between a stored recipe and the one given, as "train.steps: 2 there, 3 here"."""
    # a title is what a run is called, not what it computes
    old, new = (dict(_flat(recipe.model_dump(mode="json", exclude={"title"}))) for recipe in (there, here))
    return [
        f"{key}: {old.get(key, 'not set')} there, {new.get(key, 'not set')} here"
        for key in dict.fromkeys((*old, *new))
        if old.get(key) != new.get(key)
    ]


def _flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _files(folder: Path) -> list[Path]:
    """What training wrote in a run's folder, by name, relative to it; what lies beside that is someone else's."""
    run = RunFolder(folder)
    found = [path for pattern in RunFolder.WRITTEN[:-1] for path in sorted(folder.glob(pattern))]
    if run.start.is_dir():
        found += [run.start / file for file in _files(run.start)]
        found += [RunFolder(run.start).lock]
    if (run.scenes / SCENES[0]).is_file():
        found += [path for pattern in SCENES for path in sorted(run.scenes.glob(pattern))]
    found.append(run.recipe)
    return [path.relative_to(folder) for path in found if path.is_file() and not is_link(path)]


def _set_aside(run: RunFolder) -> None:
    """Move the run into `replaced`; where a run waits there already, the one begun in its place is dropped."""
    if _replaces(run):
        _remove(run)
    else:
        _move(run.path, run.replaced)


def _recover(run: RunFolder) -> None:
    """After a kill in the middle of an overwriting: the old run is back, or whole in `replaced`, or no longer needed."""
    old = RunFolder(run.replaced)
    if not run.replaced.is_dir():  # an empty one goes too
        return
    if not (old.recipe.is_file() and run.recipe.is_file()):  # the recipe goes last: not all had been moved
        _move(run.replaced, run.path)
    elif run.finished:
        _remove(old)


def _move(source: Path, target: Path) -> None:
    for file in _files(source):
        (target / file).parent.mkdir(parents=True, exist_ok=True)
        (source / file).replace(target / file)
    _remove_empty_folders(source)


def _remove(run: RunFolder) -> None:
    for file in _files(run.path):
        (run.path / file).unlink(missing_ok=True)
    _remove_empty_folders(run.path)


def _remove_empty_folders(folder: Path) -> None:
    run = RunFolder(folder)
    for scenes in (run.scenes, RunFolder(run.start).scenes):
        remove_unfinished(scenes)
    for inner in (run.checkpoints, run.events, run.start, run.scenes):
        remove_empty(inner)
    if run.path.name == run.replaced.name and not any(folder.iterdir()):
        folder.rmdir()


def _busy(out: Path) -> str:
    return f"Another training is at work in {out}: wait for its end, or choose another --out."
