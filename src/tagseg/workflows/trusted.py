"""Places that a recipe names, and whether a person gave them: those of someone else's recipe or run are not followed.

Training leaves a seal beside the recipe of its run, made with a key that only this account can read. A run that bears it
was trained here, from places that a person gave; the seal of another account, or of a changed recipe, is none.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from tagseg.data.paths import held
from tagseg.errors import UserError
from tagseg.files import write_text
from tagseg.foreign import read_bytes, read_text
from tagseg.quoting import shell_line
from tagseg.recipe import Recipe, load_recipe
from tagseg.run_folder import RunFolder
from tagseg.shipped import shipped_chains, shipped_recipes
from tagseg.workflows.chain import Chain, load_chain

KEY_BYTES = 32


def seal(run: RunFolder) -> None:
    """Note that a person gave the places of a run's recipe; where no key can be kept, there is no seal."""
    if not is_sealed(run):
        with suppress(OSError, UserError):
            write_text(run.seal, _seal(run, _key(make=True)))


def is_sealed(run: RunFolder) -> bool:
    """Whether a run's recipe is as training on this account left it, both in the run's folder and not linked from another."""
    try:
        held(run.recipe, run.path)
        held(run.seal, run.path)
        return hmac.compare_digest(read_text(run.seal, "a seal"), _seal(run, _key()))
    except (OSError, UserError, TypeError):
        return False


def given_recipe(name: str, overrides: Sequence[str] = ()) -> Recipe:
    """`load_recipe` of what a person wants to train.

    Raises UserError where a file names a place that lies neither in its own folder nor in the working directory, unless an
    override names that place too, or the file is the recipe of a run that was trained on this account.
    """
    recipe = load_recipe(name, list(overrides))
    if name not in shipped_recipes():
        _check_file(name, [recipe], overrides)
    return recipe


def given_chain(name: str, overrides: Sequence[str] = ()) -> Chain:
    """`load_chain` of what a person wants to run. Raises UserError as `given_recipe`."""
    chain = load_chain(name, list(overrides))
    if name not in shipped_chains():
        stages = [stage for stage in (chain.classifier, chain.teacher, chain.segmenter) if stage is not None]
        _check_file(name, stages, overrides)
    return chain


def _check_file(name: str, recipes: Iterable[Recipe], overrides: Sequence[str]) -> None:
    file = Path(name)
    run = RunFolder(file.parent)
    if run.recipe.is_file() and run.recipe.samefile(file) and is_sealed(run):
        return
    for recipe in recipes:
        start = {} if recipe.model.start is None else {"model.start": Path(recipe.model.start)}
        places = _data_places(recipe) | {"model.weights": Path(recipe.model.weights)} | start
        _check_places(places, name, overrides, [file.parent, Path.cwd()])


def followed_recipe(run: RunFolder, overrides: Sequence[str] = ()) -> Recipe:
    """A run's recipe, its places absolute, to read its photos by. overrides: texts such as "data.root=photos".

    Raises UserError where the recipe was not trained on this account and a place lies outside of the run's folder that no
    override names.
    """
    wrong = [text for text in overrides if not text.startswith("data.")]
    if wrong:
        raise UserError(f"--set {wrong[0]}: of a finished run only places can be given, such as data.root=DIR.")
    recipe = load_recipe(run.recipe, list(overrides), stored=True, strict=False).placed()
    if not is_sealed(run):
        _check_places(_data_places(recipe), str(run.recipe), overrides, [run.path])
    return recipe


def _data_places(recipe: Recipe) -> dict[str, Path]:
    return {f"data.{key}": place for key, place in recipe.data.places().items()}


def _check_places(places: dict[str, Path], name: str, overrides: Sequence[str], inside: Iterable[Path]) -> None:
    """Raise UserError where a place lies outside of some folders, links resolved, and no override names it."""
    named = {text.partition("=")[0].strip() for text in overrides}
    allowed = [Path(os.path.realpath(folder)) for folder in inside]
    strange = {
        key: place
        for key, place in places.items()
        if not any(each == key or each.endswith(f".{key}") for each in named)
        and not any(Path(os.path.realpath(place)).is_relative_to(folder) for folder in allowed)
    }
    if strange:
        key, place = next(iter(strange.items()))
        words = " ".join(f"--set {shell_line(f'{key}={place}')}" for key, place in strange.items())
        raise UserError(
            f"{name} reads {key} from {place}, which nobody on this account is known to have chosen: to have it read, add {words}"
        )


def _seal(run: RunFolder, key: bytes) -> str:
    return hmac.new(key, read_bytes(run.recipe, "a recipe"), hashlib.sha256).hexdigest()


def _key(*, make: bool = False) -> bytes:
    """The account's key. Raises OSError where there is none or it cannot be made."""
    try:
        state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    except RuntimeError as error:  # an account without a home, as in containers
        raise OSError(str(error)) from error
    path = Path(state) / "tagseg" / "key"
    if make and not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (
            suppress(FileExistsError),
            open(path, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file,
        ):
            file.write(secrets.token_bytes(KEY_BYTES))
    key = path.read_bytes()
    if len(key) != KEY_BYTES:
        raise OSError(f"{path} is no key")
    return key
