"""What has to stay the same while a run goes on."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from tagseg.engine.checkpoint import Checkpoints
from tagseg.engine.settings import TrainSettings
from tagseg.errors import UserError
from tagseg.methods.method import Method
from tagseg.run_folder import RunFolder
from tagseg.weights import read_facts


def identity(method: Method, settings: TrainSettings) -> dict[str, Any]:
    """Method, classes and all settings that change what is computed, as a checkpoint holds them."""
    train = settings.model_dump(mode="json", exclude=set(TrainSettings.OPERATIONAL))
    return {"method": type(method).__name__, "classes": list(method.classes), **train}


def check_identity(out: Path, saved: dict[str, Any], given: dict[str, Any]) -> None:
    """Raises UserError where the run in `out` was begun as something else than what is to go on."""
    # settings that are younger than the run, and those that are at their default, are left out of either
    saved = TrainSettings.modern(saved)
    defaults = {name: field.default for name, field in TrainSettings.model_fields.items()}
    saved, given = ({name: of.get(name, defaults.get(name)) for name in saved | given} for of in (saved, given))
    changed = [name for name in given if name not in TrainSettings.OPERATIONAL and saved[name] != given[name]]
    if changed:
        was = ", ".join(f"{name} {saved[name]}" for name in changed)
        now = ", ".join(f"{name} {given[name]}" for name in changed)
        raise UserError(
            f"The run in {out} was begun with {was} and cannot go on with {now}: "
            "give the old values, or another --out for a new run."
        )


def check_listed(out: Path, saved: str | None, given: str | None) -> None:
    """Raises UserError where the photos, tags or masks are others than those that the run in `out` was begun with.

    None, as in checkpoints and scores from before they were kept, fits all.
    """
    if saved is not None and given is not None and not same_listed(saved, given):
        raise UserError(
            f"The run in {out} was begun with other photos, tags or masks, and would mix both: "
            "put the former back, choose another --out, or train anew with --overwrite."
        )


def same_listed(saved: str, given: str) -> bool:
    """Whether two digests of `digest_listed` are of the same; one of an earlier version says nothing of masks."""
    both = [each.split("-") for each in (saved, given)]
    return all(one == other for one, other in zip(*both, strict=False))


def begun_with(run: RunFolder) -> set[str]:
    """What stands for the photos and tags of a run, finished or not, as far as its scores and checkpoints tell."""
    told = [run.result().get("listed")] if run.finished else []
    for checkpoint in Checkpoints(run.checkpoints).all():
        with suppress(UserError):  # a damaged one is passed over, as by `resume`
            told.append((read_facts(checkpoint.path) or {}).get("listed"))
    return {listed for listed in told if listed is not None}
