"""Taking a run folder: for one recipe, and for one training at a time."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from tagseg.errors import UserError
from tagseg.files import remove_temporaries, write_text
from tagseg.recipe import Recipe

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
        if not overwrite and file.read_text(encoding="utf-8") != recipe.to_yaml():
            raise UserError(f"{out} holds a run of another recipe: choose another --out, or --overwrite it.")
    elif out.is_dir():
        remove_temporaries(out)
        if any(path.name != LOCK for path in out.iterdir()):
            raise UserError(f"{out} is not empty and holds no run: choose another --out.")


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
