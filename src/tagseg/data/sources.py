"""Where a recipe's photos come from: its `data` block, and the two sets of photos it stands for."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from tagseg.data.classes import MOST_CLASSES
from tagseg.data.folders import by_name, find_photos
from tagseg.data.mask_numbers import MaskNumbers
from tagseg.data.reviewed import Reviewed, with_review
from tagseg.data.scenes import write_scenes
from tagseg.data.tagged import TaggedImages, no_mask_fits, open_tagged, values_by_list
from tagseg.data.voc import open_voc
from tagseg.errors import UserError
from tagseg.foreign import read_text
from tagseg.settings import Count, Settings

Side = Annotated[int, Field(ge=16, le=8192)]


class SceneSettings(Settings):
    """How many generated pictures, and how large."""

    train: Count = 400
    val: Count = 60
    size: tuple[Side, Side] = Field((160, 160), description="height, width")
    seed: int = Field(0, ge=0, lt=2**63)


PLACES = ("root", "tags", "masks", "truth", "review")  # keys of a `data` block that name folders and files


class ExtraSettings(Settings):
    """More tagged photos to train on, without masks, beside the data set (ASDT's Table 3)."""

    root: Path = Field(description="folder of photos, searched recursively")
    tags: Path | None = Field(
        None,
        description="table of tags; without it tags.csv in root, else each subfolder's name is the tag of its photos",
    )


class DataSettings(Settings):
    """Where the photos, their tags and the masks used for scores come from.

    scenes: generated pictures, written to the run folder unless `root` is given. voc: the layout of PASCAL VOC.
    tagged: a folder of photos and a table of tags, or one folder per class.
    """

    LATER: ClassVar[tuple[str, ...]] = (
        "review",
        "file_column",
        "tags_column",
        "extra",
    )

    format: Literal["scenes", "voc", "tagged"] = "scenes"
    root: Path | None = Field(None, description="the folder of the data set, or of the photos")
    tags: Path | None = Field(
        None,
        description="table of tags (CSV, TSV, JSONL); of format voc also cls_labels.npy, or the words xml or masks",
    )
    masks: Path | None = Field(
        None,
        description="folder of masks for method supervised, true or pseudo, in place of the data set's own (voc, scenes); "
        "of format tagged also what scores are measured on, unless `truth` is given",
    )
    truth: Path | None = Field(
        None, description="folder of true masks (tagged) to measure scores on, where `masks` are pseudo masks"
    )
    review: Path | None = Field(
        None,
        description="folder of `tagseg review`: accepted masks count in full, rejected photos are left out, corrected tags "
        "hold",
    )
    separator: str | None = Field(None, description="between the tags of one cell; detected when not given")
    file_column: str | None = Field(None, description="the table's column of photos; found when not given")
    tags_column: str | None = Field(
        None, description="its column of tags, or several with commas; found when not given"
    )
    classes: tuple[str, ...] | None = Field(
        None, max_length=MOST_CLASSES, description="the classes in order; from the data when not given"
    )
    train: str = Field("train", description="list of the training photos (voc, scenes)")
    val: str | None = Field(
        "val",
        description="list of the photos that scores are measured on (voc, scenes); none, of every format: no scores",
    )
    scenes: SceneSettings = SceneSettings()
    extra: ExtraSettings | None = Field(None, description="a second source of tagged photos to train on")

    def places(self) -> dict[str, Path]:
        """The folders and files that are named here, by their keys; not what a run generates for itself."""
        given = {name: getattr(self, name) for name in PLACES}
        if self.extra is not None:
            given |= {"extra.root": self.extra.root, "extra.tags": self.extra.tags}
        words = () if self.format == "tagged" else ("masks", "xml")  # where a data set's own tags are
        return {name: place for name, place in given.items() if place is not None and str(place) not in words}

    def placed(self) -> DataSettings:
        """The same with absolute places."""
        places = {name: Path(os.path.abspath(place)) for name, place in self.places().items()}  # noqa: PTH100
        changes: dict[str, Any] = {name: place for name, place in places.items() if "." not in name}
        if self.extra is not None:
            more = {name: places[f"extra.{name}"] for name in ("root", "tags") if f"extra.{name}" in places}
            changes["extra"] = self.extra.model_copy(update=more)
        return self.model_copy(update=changes)

    @model_validator(mode="after")
    def _has_root(self) -> DataSettings:
        if self.format != "scenes" and self.root is None:
            raise ValueError(f"data of format {self.format!r} needs root, the folder it lies in: --set data.root=DIR")
        if self.truth is not None and self.format != "tagged":
            raise ValueError(f"truth is for format tagged: {self.format} has true masks of its own")
        return self


LABELED = ".tagseg-label"  # what `tagseg label` leaves beside its masks


@dataclass(frozen=True)
class Sources:
    """The photos to train on, and those with true masks to measure scores on (none: no scores)."""

    train: TaggedImages
    val: TaggedImages | None
    review: Reviewed | None = None


def open_sources(settings: DataSettings, run: Path) -> Sources:
    """The photos of a `data` block; `run` is the folder that generated scenes are written to."""
    table: dict[str, Any] = {  # how it is read
        "classes": settings.classes,
        "separator": settings.separator,
        "file_column": settings.file_column,
        "tags_column": settings.tags_column,
    }
    if settings.format == "tagged":
        assert settings.root is not None
        train = open_tagged(settings.root, settings.tags, masks=settings.masks, **table)
        val = _scored(settings, train)
    else:
        root = settings.root
        if settings.format == "scenes":
            scenes = settings.scenes
            root = root or run / "scenes"
            write_scenes(root, train=scenes.train, val=scenes.val, size=scenes.size, seed=scenes.seed)
        assert root is not None
        train = open_voc(root, settings.train, tags=settings.tags, **table)
        val = open_voc(root, settings.val, tags=settings.tags, **table) if settings.val else None
        val = val and _looked_at(val)
    if settings.extra is not None:
        train = with_extra(train, settings.extra)
    if settings.format != "tagged" and settings.masks is not None:
        train = with_masks(train, settings.masks)
    if settings.masks is None or not (settings.masks / LABELED).is_file():  # pseudo masks have the run's numbers
        train = _looked_at(train)
    if not train.photos:
        raise UserError(f"{settings.root} holds no photo to train on: check data.root, data.train and data.tags.")
    if settings.review is None:
        return Sources(train, val)
    train, reviewed = with_review(train, settings.review)
    return Sources(train, val, reviewed)


def with_extra(data: TaggedImages, extra: ExtraSettings) -> TaggedImages:
    """The photos of a data set and behind them those of a second source, which have names below `extra/` and no masks.

    Photos that show none of the data set's classes are left out. Raises UserError for a tag that is neither one of them
    nor in the source's own `classes.txt`.
    """
    own = extra.root / "classes.txt"
    listed = read_text(own, "a list of classes").split("\n") if own.is_file() else []
    known = (*data.classes, *(name for line in listed if (name := line.strip()) and name not in data.classes))
    table = extra.root / "tags.csv"
    tags = extra.tags or (table if table.is_file() else None)
    more = open_tagged(extra.root, tags, classes=known)
    photos = tuple(
        replace(photo, name=f"extra/{photo.name}", tags=tags_of_run)
        for photo in more.photos
        if (tags_of_run := tuple(tag for tag in photo.tags if tag <= len(data.classes)))
    )
    if not photos:
        raise UserError(f"data.extra: no photo of {extra.root} shows one of {', '.join(data.classes)}.")
    said = f"{data.tags_from}; of {extra.root.name}: {more.tags_from}"
    notes, places = (*data.notes, *more.notes), (*data.places, *more.places)
    return replace(data, photos=(*data.photos, *photos), tags_from=said, notes=notes, places=places)


def _looked_at(data: TaggedImages) -> TaggedImages:
    """The same, its masks looked at until each tag is found in one: a note about those that are not.

    Raises UserError where masks hold nothing but 0 and 255.
    """
    masks = [photo for photo in data.photos if photo.mask is not None]
    if not masks:
        return data
    numbers = MaskNumbers.of(data)
    for i, photo in enumerate(data.photos):
        if photo.mask is not None and numbers.wants(photo.tags):
            with suppress(UserError):  # a mask that cannot be used is named when it is
                numbers.add(photo.tags, data.mask(i))
    if (text := numbers.ignored_objects()) is not None:
        raise UserError(text)
    return replace(data, notes=(*data.notes, *numbers.broken_promises()))


def with_masks(data: TaggedImages, masks: Path) -> TaggedImages:
    """The same photos with the masks of a folder, named like the photos and in the run's order; None where it has none.

    Raises UserError where there is no such folder, or it has the mask of no photo.
    """
    if not masks.is_dir():
        raise UserError(f"masks folder {masks} does not exist")
    there = find_photos(masks)
    files = by_name(masks, there, "masks")
    photos = tuple(replace(photo, mask=files.get(photo.name)) for photo in data.photos)
    if all(photo.mask is None for photo in photos):
        raise UserError(no_mask_fits(masks, there, photos[0].name))
    places = (*data.places, masks)
    values, notes = values_by_list(masks, data.classes)
    return replace(
        data, photos=photos, mask_values=values, mask_colors=None, places=places, notes=(*data.notes, *notes)
    )


def _scored(settings: DataSettings, train: TaggedImages) -> TaggedImages | None:
    """The photos of a folder that have a true mask. Raises UserError as `with_masks` and `_looked_at` do."""
    if settings.val is None:
        return None
    data = train if settings.truth is None else with_masks(train, settings.truth)
    photos = tuple(photo for photo in data.photos if photo.mask is not None)
    if not photos:
        return None
    val = replace(data, photos=photos)
    return val if settings.truth is None else _looked_at(val)  # the training's own masks are looked at with it
