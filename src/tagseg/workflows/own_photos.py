"""Recipes for a person's own photos: the shipped ones that start so, fitted to the photos and the machine."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from tagseg.data.photo import photo_size
from tagseg.data.sources import DataSettings, open_sources
from tagseg.devices import AUTO, choose_device
from tagseg.engine.settings import TrainSettings
from tagseg.errors import UserError
from tagseg.methods import find_method
from tagseg.recipe import Recipe, load_recipe, make_recipe
from tagseg.shipped import about, shipped_recipes
from tagseg.workflows.chain import TEACHER, Chain, chain_values, make_chain
from tagseg.workflows.set_options import one_side, override, sides

SINGLE = "photos"  # the recipe of `tagseg train --images`
CHAIN = "photos-chain"  # the chain of `tagseg run --images`
CLASSIFIER = "photos-classifier"  # what learns the tags first
FEW_FORM = "-few"  # ends the name of what starts in its place where photos are few

SAMPLE = 200  # photos whose sizes are looked at
LEAST_STEPS = 300
FEW = 1000  # photos: so few leave time for larger crops, and for whole photos
CPU_CROP, FEW_CROP, GPU_CROP = 160, 224, 320
FINE_CROP = 128  # below it an output stride of 16 leaves too few cells
GPU_LONGER = 2  # a GPU has time for so many times the steps
READ_LARGER = (
    1.27  # than in training: so the measured recipe reads the photos of voc-animals, and whole photos are read alike
)
TOO_LARGE = 1.25  # times that size: where most photos are larger, they are read at it, else at their own
SPARE = (
    1.5  # so many times as long as most may a photo be that is read at its own size: 2 cost 14 points on voc-animals
)
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
    few = fit.few and _few_form(method)
    values = fit.stage(own_template(method, few=few), overrides, "train", few=few)
    values["title"] = f"{values['method']['name']} on {_name(data)}"
    values["data"] = data.model_dump(mode="json")
    if values["model"]["start"] is not None:
        first = fit.stage(load_recipe(CLASSIFIER))["train"]
        values["model"]["start_train"] = {
            key: first[key] for key in ("steps", "checkpoint_every", "crop", "short_side")
        }
    recipe = make_recipe(values, one_side(overrides), "for own photos")
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
    few = fit.few and _few_form(method)
    chosen = CHAIN + FEW_FORM if few else CHAIN
    values = chain_values(chosen)
    template = make_chain(values, [], chosen)
    teacher, segmenter = template.teacher, template.segmenter
    if method is not None:
        own = own_template(method, few=few)
        reading = {key: getattr(teacher.predict, key) for key in values["teacher"].get("predict", {})}
        teacher = own.model_copy(update={"predict": own.predict.model_copy(update=reading)})
    stages = {
        "teacher": fit.stage(teacher, overrides, "teacher.train", few=few),
        "segmenter": fit.stage(segmenter, overrides, "segmenter.train", few=few),
    }
    if template.from_teacher:
        stages["segmenter"]["model"]["start"] = TEACHER
    if stages["teacher"]["model"]["start"] is not None:
        stages["classifier"] = fit.stage(load_recipe(CLASSIFIER), overrides, "classifier.train")
    name = stages["teacher"]["method"]["name"]
    fitted: dict[str, Any] = {
        "title": f"{name} on {_name(data)}, then segmenters on pseudo masks",
        "rounds": template.rounds,
        "label": {"ignore_below": template.confidence, "small_marks": template.small_marks},
        "data": data.model_dump(mode="json"),
        **stages,
    }
    chain = make_chain(fitted, one_side(overrides), "for own photos")
    for note in fit.notes:
        say(note)
    larger = chain.segmenter.model.backbone
    if larger != chain.teacher.model.backbone:
        say(f"Segmenters learn the masks on backbone {larger}.")
    say(fit.sentence(chain.teacher, "Change them with --set teacher.KEY=VALUE, and so for classifier and segmenter."))
    return chain


def own_template(method: str | None, *, few: bool = False) -> Recipe:
    """The recipe that own photos start from: a method's own, or its defaults trained as the classifier is.

    few: its form for few photos.
    """
    form = FEW_FORM if few else ""
    if method is None:
        return load_recipe(SINGLE + form)
    name = _own_name(method)
    if name is not None:
        recipe = load_recipe(name + form)
        start = None if recipe.model.start is None else CLASSIFIER
        return recipe.model_copy(update={"model": recipe.model.model_copy(update={"start": start})})
    values = load_recipe(CLASSIFIER).model_dump(mode="json") | {"method": {"name": method}}
    return make_recipe(values, [], f"of method {method}")


def _own_name(method: str) -> str | None:
    try:
        return find_method(method).own_photos
    except ValueError as error:
        raise UserError(f"--method: {error}.") from error


def _few_form(method: str | None) -> bool:
    """Whether a method has a recipe that was measured on few photos."""
    name = SINGLE if method is None else _own_name(method)
    return name is not None and name + FEW_FORM in shipped_recipes()


@dataclass(frozen=True)
class _Fit:
    """What the photos and the machine ask for. short, long: the photos' median sides. notes: on the data."""

    photos: int
    short: int
    long: int
    device: torch.device
    notes: tuple[str, ...] = ()

    @classmethod
    def to(cls, data: DataSettings, device: str) -> _Fit:
        assert data.root is not None
        opened, chosen = open_sources(data, data.root).train, choose_device(device)
        photos = opened.photos
        sample = np.random.default_rng(0).permutation(len(photos))[:SAMPLE]
        short, long = np.median([sorted(photo_size(photos[i].photo)) for i in sample], axis=0)
        return cls(len(photos), int(short), int(long), chosen, opened.notes)

    @property
    def few(self) -> bool:
        """Whether photos are so few that there is time to see each of them whole."""
        return self.photos < FEW

    @property
    def gpu(self) -> bool:
        """Whether there is more than a CPU."""
        return self.device.type != "cpu"

    def stage(
        self, recipe: Recipe, overrides: Sequence[str] = (), block: str = "train", *, few: bool = False
    ) -> dict[str, Any]:
        """The values of a recipe without its data, fitted to photos and machine.

        overrides, block: what a person sets, and under which name this recipe's training stands there. few: whether the
        recipe was measured on few photos.
        """
        steps = override(overrides, f"{block}.steps") or self.steps(recipe, few)
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
            "checkpoint_every": often,
            "evaluate_every": often,
            **self.view(recipe.train, few, override(overrides, f"{block}.crop")),
        }
        values["predict"]["largest"] = self.read(recipe.train, values["train"] | sides(overrides, block))
        if (energy := values["method"].get("energy")) is not None:
            # as from the published crop to that of voc-animals: as far as before in the photo, and of the same weight
            ratio = values["train"]["crop"] / recipe.train.crop
            values["method"]["energy"] = energy | {"sxy": energy["sxy"] * ratio, "weight": energy["weight"] / ratio**4}
        if values["train"]["crop"] < FINE_CROP and recipe.model.output_stride == 16:
            values["model"]["output_stride"] = 8
        return values

    def view(self, train: TrainSettings, few: bool, given: int | None) -> dict[str, Any]:
        """How large photos are in training, and how much of them a crop shows; given: the crop, which they follow."""
        if not few:
            most = GPU_CROP if self.gpu else FEW_CROP if self.few else CPU_CROP
            crop = given or _side(min(most, self.short))
            return {"crop": crop, "short_side": round(crop * 1.1)}
        most = max(train.crop, GPU_CROP) if self.gpu else train.crop
        if train.long_side is None:  # masks: at their own size, unless that is much larger
            crop = given or _side(min(most, round(self.long * train.scale[1])))
            short = round(crop * 1.1)
            return {"crop": crop, "short_side": short if self.short > short else None}
        crop = given or _side(min(most, self.long))
        return {"crop": crop, "short_side": None, "long_side": (round(crop * train.long_side[0] / train.crop), crop)}

    def read(self, measured: TrainSettings, train: Mapping[str, Any]) -> int:
        """The most pixels that a photo is read with once all is learned; much larger than in training it is read wrong."""
        own, ratio = self.short * self.long, 1.0
        larger = (
            READ_LARGER if measured.short_side or measured.long_side else 1
        )  # else it has seen them at their own size
        if train["long_side"] is not None:
            ratio = sum(train["long_side"]) / 2 * larger / self.long
        elif train["short_side"] is not None:
            ratio = train["short_side"] * larger / self.short
        if ratio < 1 / TOO_LARGE:
            return round(own * ratio**2)
        return round(own * max(ratio, 1) ** 2 * SPARE**2)

    def steps(self, recipe: Recipe, few: bool) -> int:
        """As many as the recipe was measured with, in proportion to the photos; on a GPU more."""
        measured = about(SINGLE + (FEW_FORM if few else "")).photos or self.photos
        share = min(self.photos / measured, 1) if few else self.photos / measured
        return max(round(recipe.train.steps * share * (GPU_LONGER if self.gpu else 1)), LEAST_STEPS)

    @property
    def short_of_memory(self) -> bool:
        """Whether the device has so little memory that a step takes its photos in two parts."""
        if self.device.type == "cuda" and torch.cuda.is_available():
            return torch.cuda.get_device_properties(self.device).total_memory < SMALL_MEMORY
        return psutil.virtual_memory().total < SMALL_MEMORY

    def sentence(self, recipe: Recipe, advice: str) -> str:
        """What was picked and why, and how to change it."""
        train = recipe.train
        why = "a GPU" if self.gpu else "no GPU, few photos" if self.few else "no GPU"
        parts = f" in parts of {train.micro_batch}, as memory is short," if train.micro_batch else ""
        size = f"whole, {train.long_side[1]} px long" if train.long_side else f"crop {train.crop}"
        fine = ", output stride 8 for photos so small" if recipe.model.output_stride == 8 else ""
        pixels = recipe.predict.largest
        smaller = pixels is not None and pixels < self.short * self.long
        read = f", photos read with {pixels:,} pixels, as in training" if smaller else ""
        return (
            f"{self.photos} photos, median short side {self.short} px, {why}: {train.steps} steps of "
            f"{train.batch_size} photos,{parts} {size}, backbone {recipe.model.backbone}{fine}{read}. {advice}"
        )


def _side(length: int) -> int:
    """The largest multiple of 32 that a length holds, at least 64."""
    return max(length // 32 * 32, 64)


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


def check_beside(what: str, **given: object) -> None:
    """Raise UserError for an option of own photos, by its name, that is given beside a recipe or a chain, `what`."""
    for name, value in given.items():
        if value is not None:
            instead = f"choose another {what}" if name == "method" else f"say --set data.{name}=VALUE"
            raise UserError(f"--{name.replace('_', '-')} is for own photos, with --images: beside a {what}, {instead}.")
