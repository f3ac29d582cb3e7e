"""Whether the photos of a plan that is there are those that a command was given, with the same tags."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tagseg.errors import UserError
from tagseg.foreign import shown
from tagseg.scale.photos import Photo
from tagseg.scale.places import Place
from tagseg.scale.plan import MANIFEST

Known = Callable[[Photo], Photo | None]
"""A photo of a plan as the command has it now, with the tags that it gives it; None for one that it was not given."""


def check_given(place: Place, photos: Iterable[Photo], known: Known) -> None:
    """Raise UserError where a photo of a plan is none that the command was given, or was planned with other tags.

    Somebody else may have written the plan. known: gives a photo, or what belongs to it, as the command has it; else None.
    """
    for photo in photos:
        for each in (photo, *([] if photo.beside is None else [photo.beside])):
            if known(each) is None:
                raise UserError(
                    f"{place.url}/{MANIFEST} names {shown(each.file_name)} in {shown(each.place)}, which is none of the "
                    "photos given: give those that the plan was made of, or choose another --out."
                )
        now = known(photo)
        assert now is not None
        if _sorted(now.tags) != _sorted(photo.tags):
            raise UserError(
                f"{place.url}/{MANIFEST} has {shown(photo.file_name)} with {_in_words(photo.tags)}, not with "
                f"{_in_words(now.tags)}: give the tags of the first time, or choose another --out."
            )


def _sorted(tags: Iterable[str] | None) -> list[str] | None:
    return None if tags is None else sorted(tags)


def _in_words(tags: Iterable[str] | None) -> str:
    return "no tags" if tags is None else f"the tags {shown(', '.join(sorted(tags)))}"
