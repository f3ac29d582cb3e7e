"""Where a recipe's photos come from: its `data` block, and the two sets of photos it stands for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tagseg.data.scenes import write_scenes
from tagseg.data.tagged import TaggedImages, open_tagged
from tagseg.data.voc import open_voc
from tagseg.errors import UserError


class SceneSettings(BaseModel):
    """How many generated pictures, and how large."""

    model_config = ConfigDict(extra="forbid")

    train: int = Field(400, ge=1)
    val: int = Field(60, ge=1)
    size: tuple[int, int] = Field((160, 160), description="height, width")
    seed: int = 0


class DataSettings(BaseModel):
    """Where the photos, their tags and the masks used for scores come from.

    scenes: generated pictures, written to the run folder unless `root` is given. voc: the layout of PASCAL VOC.
    tagged: a folder of photos and a table of tags, or one folder per class.
    """

    model_config = ConfigDict(extra="forbid")

    format: Literal["scenes", "voc", "tagged"] = "scenes"
    root: Path | None = Field(None, description="the folder of the data set, or of the photos")
    tags: Path | None = Field(None, description="table of tags (CSV, TSV, JSONL)")
    masks: Path | None = Field(None, description="folder of masks (tagged): for scores and for method supervised")
    separator: str | None = Field(None, description="between the tags of one cell; detected when not given")
    classes: tuple[str, ...] | None = Field(None, description="the classes in order; from the data when not given")
    train: str = Field("train", description="list of the training photos (voc, scenes)")
    val: str | None = Field("val", description="list of the photos that scores are measured on (voc, scenes)")
    scenes: SceneSettings = SceneSettings()

    @model_validator(mode="after")
    def _has_root(self) -> DataSettings:
        if self.format != "scenes" and self.root is None:
            raise ValueError(f"data of format {self.format!r} needs root, the folder it lies in: --set data.root=DIR")
        return self


@dataclass(frozen=True)
class Sources:
    """The photos to train on, and those with true masks to measure scores on (none: no scores)."""

    train: TaggedImages
    val: TaggedImages | None


def open_sources(settings: DataSettings, run: Path) -> Sources:
    """The photos of a `data` block; `run` is the folder that generated scenes are written to."""
    if settings.format == "tagged":
        assert settings.root is not None
        train = open_tagged(
            settings.root,
            settings.tags,
            classes=settings.classes,
            masks=settings.masks,
            separator=settings.separator,
        )
        with_masks = tuple(photo for photo in train.photos if photo.mask is not None)
        val = replace(train, photos=with_masks) if with_masks else None
    else:
        root = settings.root
        if settings.format == "scenes":
            scenes = settings.scenes
            root = root or run / "scenes"
            write_scenes(root, train=scenes.train, val=scenes.val, size=scenes.size, seed=scenes.seed)
        assert root is not None
        train = open_voc(root, settings.train, classes=settings.classes, tags=settings.tags)
        val = open_voc(root, settings.val, classes=settings.classes, tags=settings.tags) if settings.val else None
    if not train.photos:
        raise UserError(f"{settings.root} holds no photo to train on: check data.root, data.train and data.tags.")
    return Sources(train, val)
