"""Settings for a person's own photos, picked from the data's size and the machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tagseg.data.photo import photo_size
from tagseg.data.sources import DataSettings, open_sources
from tagseg.errors import UserError
from tagseg.methods import METHODS
from tagseg.recipe import Recipe, load_recipe, make_recipe
from tagseg.workflows.chain import Chain, make_chain

TEMPLATE = "-voc-animals"  # of each method: the recipes that were tuned on real photos
SECOND_STAGE = "supervised-voc-animals-segformer"
ROUNDS = 2  # of segmenters
FOREGROUND = 0.6  # its share of the segmenters' loss: pseudo masks miss more of their objects than they add
TAGGED_BACKGROUND = 0.6  # of the segmenters, for the pseudo masks of the next round; both as in chain-voc-animals-bmp

SAMPLE = 200  # photos whose sizes are looked at


def own_recipe(
    data: DataSettings,
    method: str,
    overrides: list[str],
    *,
    say: Callable[[str], Any] = print,
) -> Recipe:
    """A recipe for photos without one; what was picked and why is said, and written down as recipe.yaml.

    The crop follows the photos' size, up to 160 pixels on a CPU and 320 on a GPU. The number of steps follows their number:
    each photo is seen about ten times, within 300 to 3000 steps on a CPU; the class-teacher that a method starts from sees
    each about twice, within 200 to 1000 steps.
    """
    template = _template(method)
    fit = _Fit.to(data)
    values = fit.stage(template)
    values["title"] = f"{method} on {_name(data)}"
    values["data"] = data.model_dump(mode="json")
    if values["model"]["start"] is not None:
        values["model"]["start_train"] = fit.start_train()
    recipe = make_recipe(values, overrides, "for own photos")
    for note in fit.notes:
        say(note)
    say(fit.sentence(recipe, "Change them with --set; they are written to recipe.yaml."))
    return recipe


def own_chain(
    data: DataSettings,
    method: str,
    overrides: list[str],
    *,
    say: Callable[[str], Any] = print,
) -> Chain:
    """The whole chain for photos without one: a classifier, a method, pseudo masks, a segmenter on them, and a second round.

    Every stage is fitted to the photos as `own_recipe` does; masks in `data` are true ones, for scores alone.
    """
    template = _template(method)
    fit = _Fit.to(data)
    teacher, segmenter = fit.stage(template), fit.stage(SECOND_STAGE)
    values: dict[str, Any] = {
        "title": f"{method} on {_name(data)}, then segmenters on pseudo masks",
        "rounds": ROUNDS,
        "data": data.model_dump(mode="json"),
        "teacher": {"base": template} | teacher,
        "segmenter": {"base": SECOND_STAGE} | segmenter,
    }
    values["segmenter"]["method"]["foreground"] = FOREGROUND
    values["segmenter"]["predict"]["tagged_background"] = TAGGED_BACKGROUND
    start = teacher["model"]["start"]
    if start is not None:
        values["classifier"] = {"base": start, "train": fit.start_train()}
    chain = make_chain(values, overrides, "for own photos")
    for note in fit.notes:
        say(note)
    say(fit.sentence(chain.teacher, "Change them with --set teacher.KEY=VALUE, and so for classifier and segmenter."))
    return chain


@dataclass(frozen=True)
class _Fit:
    """What the photos and the machine ask for: photos, their median short side, crop, steps; notes on the data."""

    photos: int
    short: int
    crop: int
    steps: int
    gpu: bool
    notes: tuple[str, ...] = ()

    @classmethod
    def to(cls, data: DataSettings) -> _Fit:
        assert data.root is not None
        opened = open_sources(data, data.root).train
        photos = opened.photos
        gpu = torch.cuda.is_available()
        chosen = np.random.default_rng(0).permutation(len(photos))[:SAMPLE]
        short = int(np.median([min(photo_size(photos[i].photo)) for i in chosen]))
        crop = max(min(320 if gpu else 160, short) // 32 * 32, 64)
        steps = int(np.clip(len(photos) * 10 / 8, 300, 20000 if gpu else 3000))
        return cls(len(photos), short, crop, steps, gpu, opened.notes)

    def stage(self, recipe: str) -> dict[str, Any]:
        """The values of a recipe without its data, its crop and its length changed."""
        values = load_recipe(recipe).model_dump(mode="json", exclude={"data"})
        _scale_steps(values["method"], self.steps / values["train"]["steps"])
        values["train"] |= {"steps": self.steps, **self._sizes()}
        for name in ("checkpoint_every", "evaluate_every"):
            values["train"][name] = max(self.steps // 4, 1)
        return values

    def start_train(self) -> dict[str, Any]:
        """What changes in the training of the class-teacher that a method starts from."""
        steps = int(np.clip(self.photos * 2 / 8, 200, 5000 if self.gpu else 1000))
        return {"steps": steps, "checkpoint_every": steps, **self._sizes()}

    def sentence(self, recipe: Recipe, advice: str) -> str:
        """What was picked, and how to change it."""
        return (
            f"{self.photos} photos, median short side {self.short} px, {'a GPU' if self.gpu else 'no GPU'}: "
            f"{recipe.train.steps} steps of {recipe.train.batch_size} photos, crop {recipe.train.crop}, backbone "
            f"{recipe.model.backbone}. {advice}"
        )

    def _sizes(self) -> dict[str, int]:
        return {"crop": self.crop, "short_side": round(self.crop * 1.1)}


def own_data(
    images: Path,
    tags: Path | None,
    masks: Path | None,
    classes: tuple[str, ...] | None,
    separator: str | None = None,
    file_column: str | None = None,
    tags_column: str | None = None,
    review: Path | None = None,
) -> DataSettings:
    """The data block of a folder of photos; masks: true ones, or what method supervised learns from; review: its folder."""
    return DataSettings(
        format="tagged",
        root=images,
        tags=tags,
        masks=masks,
        classes=classes,
        separator=separator,
        file_column=file_column,
        tags_column=tags_column,
        review=review,
    )


def _name(data: DataSettings) -> str:
    assert data.root is not None
    return data.root.name


def _template(method: str) -> str:
    """The recipe that stands behind a method. Raises UserError for one that there is not."""
    if method not in METHODS:
        raise UserError(f"There is no method {method!r}: there are {', '.join(METHODS)}.")
    return SECOND_STAGE if method == "supervised" else method + TEMPLATE


def _scale_steps(method: dict[str, Any], factor: float) -> None:
    """Make what a method counts in steps fit a shorter training; in a longer one only warm-ups grow."""
    for block, key in (
        (method, "head_steps"),
        (method.get("background"), "from_step"),
        (method.get("seg_to_class"), "from_step"),
    ):
        if block and block.get(key):
            block[key] = round(block[key] * factor)
    wave = method.get("wave")
    if wave:
        wave["warmup"] = round(wave["warmup"] * factor)
        for key in ("period", "high"):
            wave[key] = round(wave[key] * min(factor, 1))
