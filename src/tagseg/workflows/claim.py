"""Taking a folder: a run's for one recipe and for one training at a time, that of results for one model."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from tagseg.errors import UserError
from tagseg.files import remove_temporaries, write_text
from tagseg.prediction.segmenter import Segmenter
from tagseg.recipe import Recipe, load_recipe

RECIPE = "recipe.yaml"
LOCK = ".in-use"  # an empty file; the lock on it ends with the process that holds it, however that ends


@contextmanager
def claimed(recipe: Recipe, out: Path, *, overwrite: bool, main: bool) -> Iterator[None]:
    """Hold the run folder `out` for a recipe, or refuse it in one sentence; the `main` process of a run does both.

    Raises UserError for a folder that another training works in, that holds something else, or cannot be written.
    """
    lock = FileLock(out / LOCK)
    try:
        _check(recipe, out, overwrite=overwrite)
        if main:
            if (out / RECIPE).is_file():
                _take(lock, out)
                if overwrite:
                    lock.release()  # an open file cannot be removed everywhere
                    shutil.rmtree(out)
            remove_temporaries(out)
            out.mkdir(parents=True, exist_ok=True)
            _take(lock, out)
            if not (out / RECIPE).is_file():
                write_text(out / RECIPE, recipe.to_yaml())
    except OSError as error:
        raise UserError(f"The run folder {out} cannot be written: {error.strerror or error}.") from error
    try:
        yield
    finally:
        if main:
            with suppress(OSError):  # where an open file cannot be removed, it stays
                (out / LOCK).unlink(missing_ok=True)
            lock.release()


def _check(recipe: Recipe, out: Path, *, overwrite: bool) -> None:
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file: choose another --out.")
    file = out / RECIPE
    if file.is_file():
        if not overwrite and _of_run(file) != recipe.to_yaml():
            raise UserError(f"{out} holds a run of another recipe: choose another --out, or --overwrite it.")
    elif out.is_dir():
        remove_temporaries(out)
        if any(path.name != LOCK for path in out.iterdir()):
            raise UserError(f"{out} is not empty and holds no run: choose another --out.")


def _of_run(file: Path) -> str | None:
    """A run's recipe with every value written out: keys that a later version added have their defaults. None: unreadable."""
    try:
        return load_recipe(file).to_yaml()
    except UserError:
        return None


def _take(lock: FileLock, out: Path) -> None:
    if not lock.is_locked:
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise UserError(
                f"Another training is at work in {out}: wait for its end, or choose another --out."
            ) from error
        except NotImplementedError:
            pass  # a file system without locks, as some clusters have: train all the same


def claim_results(marker: Path, segmenter: Segmenter, settings: list[object], *, already: int, overwrite: bool) -> None:
    """Note in the file `marker` what the results in its folder are made by, or refuse to mix them with others.

    already: results that are there. settings: what they depend on besides the model and its way of reading a photo.
    Raises UserError where there are results that something else has made and that are not to be renewed.
    """
    digest = hashlib.sha256(json.dumps([settings, segmenter.tile]).encode())
    digest.update(segmenter.settings.model_dump_json().encode())
    for name, tensor in segmenter.method.state_dict().items():
        digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    made_by = digest.hexdigest()
    if already and not overwrite and not (marker.is_file() and marker.read_text(encoding="utf-8") == made_by):
        raise UserError(
            f"{marker.parent} holds results of another model, format or setting: choose another --out, or renew them "
            "with --overwrite."
        )
    write_text(marker, made_by)
