"""Settings for a person's own photos, picked from the data's size and the machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tagseg.data.photo import photo_size
from tagseg.data.sources import DataSettings, open_sources
from tagseg.recipe import Recipe, load_recipe, make_recipe

TEMPLATE = "-voc-animals"  # of each method: the recipes that were tuned on real photos
SAMPLE = 200  # photos whose sizes are looked at


def own_recipe(
    images: Path,
    tags: Path | None,
    masks: Path | None,
    classes: tuple[str, ...] | None,
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
    data = DataSettings(format="tagged", root=images, tags=tags, masks=masks, classes=classes)
    photos = open_sources(data, images).train.photos
    gpu = torch.cuda.is_available()
    chosen = np.random.default_rng(0).permutation(len(photos))[:SAMPLE]
    short = int(np.median([min(photo_size(photos[i].photo)) for i in chosen]))
    side = 320 if gpu else 160
    crop = max(min(side, short) // 32 * 32, 64)
    steps = int(np.clip(len(photos) * 10 / 8, 300, 20000 if gpu else 3000))

    values = load_recipe(method + TEMPLATE).model_dump(mode="json")
    values["title"] = f"{method} on {images.name}"
    values["data"] = data.model_dump(mode="json")
    _scale_steps(values["method"], steps / values["train"]["steps"])
    sizes = {"crop": crop, "short_side": round(crop * 1.1)}
    values["train"] |= {"steps": steps, **sizes}
    if values["model"]["start"] is not None:
        start_steps = int(np.clip(len(photos) * 2 / 8, 200, 5000 if gpu else 1000))
        values["model"]["start_train"] = {"steps": start_steps, "checkpoint_every": start_steps, **sizes}
    for name in ("checkpoint_every", "evaluate_every"):
        values["train"][name] = max(steps // 4, 1)
    recipe = make_recipe(values, overrides, "for own photos")
    say(
        f"{len(photos)} photos, median short side {short} px, {'a GPU' if gpu else 'no GPU'}: {recipe.train.steps} steps of "
        f"{recipe.train.batch_size} photos, crop {recipe.train.crop}, backbone {recipe.model.backbone}. "
        "Change them with --set; they are written to recipe.yaml."
    )
    return recipe


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
