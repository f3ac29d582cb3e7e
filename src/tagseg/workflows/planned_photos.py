"""Whether the photos of a plan that is there are those that a command was given, with the same tags."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from tagseg.errors import UserError
from tagseg.foreign import shown
from tagseg.interrupt import check
from tagseg.scale.photos import Photo
from tagseg.scale.places import Place
from tagseg.scale.plan import MANIFEST, Plan, read_manifest
from tagseg.scale.work import read_record

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


def check_unchanged(place: Place, plan: Plan, shards: Iterable[int]) -> None:
    """Raise UserError where a photo of a shard that is done is another file of this machine than the one that was worked at.

    A photo that failed may have been repaired since.
    """
    records = {shard: read_record(place, plan, shard) for shard in shards}
    done = {shard: record for shard, record in records.items() if record is not None}
    spared = {shard: {*record.replaced, *(name for name, _ in record.errors)} for shard, record in done.items()}
    for shard, photo in read_manifest(place, plan) if done else ():
        if shard not in done or photo.name in spared[shard]:
            continue
        check()
        if photo.changed(done[shard].files.get(photo.name, "")):
            raise UserError(
                f"{shown(photo.file_name)} in {shown(photo.place)} has changed since its mask in {place.url} was made: put "
                "the former file back, or choose another --out."
            )


def later_photos(place: Place, plan: Plan, photos: Sequence[Photo]) -> list[str]:
    """A sentence about photos that are given and that the plan was made without; none where there are none."""
    planned = {photo.lies for _, photo in read_manifest(place, plan)}
    more = [photo.file_name for photo in photos if photo.lies not in planned]
    if not more:
        return []
    return [
        f"{place.url} holds the plan of {plan.photos} photos, made without {len(more)} that are there now, such as "
        f"{shown(more[0])}: give these alone, with another --out."
    ]


def _sorted(tags: Iterable[str] | None) -> list[str] | None:
    return None if tags is None else sorted(tags)


def _in_words(tags: Iterable[str] | None) -> str:
    return "no tags" if tags is None else f"the tags {shown(', '.join(sorted(tags)))}"
