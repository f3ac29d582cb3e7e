"""Recipes for a person's own photos: the shipped ones that start so, fitted to the photos and the machine."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from tagseg.data.photo import photo_size
from tagseg.data.sources import DataSettings, open_sources
from tagseg.devices import AUTO, choose_device
from tagseg.errors import UserError
from tagseg.methods import find_method
from tagseg.recipe import Recipe, load_recipe, make_recipe
from tagseg.shipped import about
from tagseg.workflows.chain import Chain, chain_values, make_chain

SINGLE = "photos"  # the recipe of `tagseg train --images`
CHAIN = "photos-chain"  # the chain of `tagseg run --images`
CLASSIFIER = "photos-classifier"  # what learns the tags first

SAMPLE = 200  # photos whose sizes are looked at
LEAST_STEPS = 300
FEW = 1000  # photos: so few leave a CPU time for larger crops
CPU_CROP, FEW_CROP, GPU_CROP = 160, 224, 320
FINE_CROP = 128  # below it an output stride of 16 leaves too few cells
GPU_LONGER = 2  # a GPU has time for so many times the steps
SMALL_MEMORY = 6 * 2**30  # bytes: below it a step takes its photos in two parts


def own_recipe(
    data: DataSettings,
    method: str | None,
    overrides: list[str],
    *,
    device: str = AUTO,
    say: Callable[[str], Any] = print,
) -> Recipe:
    """A recipe for photos without one; what was picked and why is said, and written down as recipe.yaml.

    method: one of METHODS, or `module:Class`; None: the best that was measured. Crop, shorter side and output stride
    follow the photos' size and the machine; steps follow the photos' number and what the recipe was measured with.
    Raises UserError for a method that there is not.
    """
    fit = _Fit.to(data, device)
    template = own_template(method)
    values = fit.stage(template, _override(overrides, "train.steps"))
    values["title"] = f"{values['method']['name']} on {_name(data)}"
    values["data"] = data.model_dump(mode="json")
    if values["model"]["start"] is not None:
        first = fit.stage(load_recipe(CLASSIFIER))["train"]
        values["model"]["start_train"] = {
            key: first[key] for key in ("steps", "checkpoint_every", "crop", "short_side")
        }
    recipe = make_recipe(values, overrides, "for own photos")
    for note in fit.notes:
        say(note)
    say(fit.sentence(recipe, "Change them with --set; they are written to recipe.yaml."))
    return recipe


def own_chain(
    data: DataSettings,
    method: str | None,
    overrides: list[str],
    *,
    device: str = AUTO,
    say: Callable[[str], Any] = print,
) -> Chain:
    """The whole chain for photos without one: a classifier, a method, pseudo masks, a segmenter on them, and a second round.

    Every stage is fitted to the photos as `own_recipe` does; masks in `data` are true ones, for scores alone.
    """
    fit = _Fit.to(data, device)
    values = chain_values(CHAIN)
    template = make_chain(values, [], CHAIN)
    teacher, segmenter = template.teacher, template.segmenter
    if method is not None:
        own = own_template(method)
        reading = {key: getattr(teacher.predict, key) for key in values["teacher"].get("predict", {})}
        teacher = own.model_copy(update={"predict": own.predict.model_copy(update=reading)})
    stages = {
        "teacher": fit.stage(teacher, _override(overrides, "teacher.train.steps")),
        "segmenter": fit.stage(segmenter, _override(overrides, "segmenter.train.steps")),
    }
    if stages["teacher"]["model"]["start"] is not None:
        stages["classifier"] = fit.stage(load_recipe(CLASSIFIER), _override(overrides, "classifier.train.steps"))
    name = stages["teacher"]["method"]["name"]
    fitted: dict[str, Any] = {
        "title": f"{name} on {_name(data)}, then segmenters on pseudo masks",
        "rounds": template.rounds,
        "data": data.model_dump(mode="json"),
        **stages,
    }
    chain = make_chain(fitted, overrides, "for own photos")
    for note in fit.notes:
        say(note)
    say(fit.sentence(chain.teacher, "Change them with --set teacher.KEY=VALUE, and so for classifier and segmenter."))
    return chain


def own_template(method: str | None) -> Recipe:
    """The recipe that own photos start from: a method's own, or its defaults trained as the classifier is."""
    if method is None:
        return load_recipe(SINGLE)
    try:
        name = find_method(method).own_photos
    except ValueError as error:
        raise UserError(f"--method: {error}.") from error
    if name is not None:
        recipe = load_recipe(name)
        start = None if recipe.model.start is None else CLASSIFIER
        return recipe.model_copy(update={"model": recipe.model.model_copy(update={"start": start})})
    values = load_recipe(CLASSIFIER).model_dump(mode="json") | {"method": {"name": method}}
    return make_recipe(values, [], f"of method {method}")


def _override(overrides: list[str], key: str) -> int | None:
    """The steps that `--set` asks for: warm-ups and the like then follow them; what is no number is refused later."""
    given = [text for name, _, text in (each.partition("=") for each in overrides) if name == key]
    return int(given[-1]) if given and given[-1].isdecimal() and int(given[-1]) > 0 else None


@dataclass(frozen=True)
class _Fit:
    """What the photos and the machine ask for. short: the photos' median short side. notes: on the data."""

    photos: int
    short: int
    crop: int
    device: torch.device
    notes: tuple[str, ...] = ()

    @classmethod
    def to(cls, data: DataSettings, device: str) -> _Fit:
        assert data.root is not None
        opened, chosen = open_sources(data, data.root).train, choose_device(device)
        photos = opened.photos
        sample = np.random.default_rng(0).permutation(len(photos))[:SAMPLE]
        short = int(np.median([min(photo_size(photos[i].photo)) for i in sample]))
        most = GPU_CROP if chosen.type != "cpu" else FEW_CROP if len(photos) < FEW else CPU_CROP
        crop = max(min(most, short) // 32 * 32, 64)
        return cls(len(photos), short, crop, chosen, opened.notes)

    def stage(self, recipe: Recipe, steps: int | None = None) -> dict[str, Any]:
        """The values of a recipe without its data, fitted to photos and machine. steps: where they are given."""
        steps = steps or self.steps(recipe)
        values = recipe.model_dump(mode="json", exclude={"data"})
        values["title"] = ""
        values["method"] = recipe.method.scaled(steps / recipe.train.steps).model_dump(mode="json")
        batch = min(recipe.train.batch_size, self.photos)
        often = max(steps // 4, 1)
        values["train"] |= {
            "steps": steps,
            "warmup_steps": min(recipe.train.warmup_steps, steps // 5),
            "batch_size": batch,
            "micro_batch": (batch + 1) // 2 if self.short_of_memory else recipe.train.micro_batch,
            "crop": self.crop,
            "short_side": round(self.crop * 1.1),
            "checkpoint_every": often,
            "evaluate_every": often,
        }
        if self.crop < FINE_CROP and recipe.model.output_stride == 16:
            values["model"]["output_stride"] = 8
        return values

    def steps(self, recipe: Recipe) -> int:
        """As many as the recipe was measured with, in proportion to the photos; on a GPU more."""
        measured = about(CLASSIFIER).photos or self.photos
        steps = recipe.train.steps * (GPU_LONGER if self.device.type != "cpu" else 1)
        return max(round(steps * self.photos / measured), LEAST_STEPS)

    @property
    def short_of_memory(self) -> bool:
        """Whether the device has so little memory that a step takes its photos in two parts."""
        if self.device.type == "cuda" and torch.cuda.is_available():
            return torch.cuda.get_device_properties(self.device).total_memory < SMALL_MEMORY
        return psutil.virtual_memory().total < SMALL_MEMORY

    def sentence(self, recipe: Recipe, advice: str) -> str:
        """What was picked and why, and how to change it."""
        gpu = self.device.type != "cpu"
        why = "a GPU" if gpu else "no GPU, few photos" if self.photos < FEW else "no GPU"
        parts = f" in parts of {recipe.train.micro_batch}, as memory is short," if recipe.train.micro_batch else ""
        fine = ", output stride 8 for photos so small" if recipe.model.output_stride == 8 else ""
        return (
            f"{self.photos} photos, median short side {self.short} px, {why}: {recipe.train.steps} steps of "
            f"{recipe.train.batch_size} photos,{parts} crop {recipe.train.crop}, backbone {recipe.model.backbone}{fine}. "
            f"{advice}"
        )


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


def with_review(settings: Sequence[str] | None, review: Path | None) -> list[str]:
    """Overrides of a recipe, such as "train.steps=100", with the folder of a review."""
    return [*(settings or []), *([] if review is None else [f"data.review={json.dumps(str(review))}"])]
