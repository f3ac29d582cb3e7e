"""Collect what a finished run's report shows, and write it.

Shapes: C tags, H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tagseg.data.sources import DataSettings
from tagseg.data.tagged import TaggedImages
from tagseg.devices import AUTO
from tagseg.interrupt import check
from tagseg.outputs.report import (
    ClassBars,
    Example,
    Panel,
    ReportData,
    branch_table,
    heat_panel,
    mask_panel,
    photo_panel,
    spread,
    write_report,
)
from tagseg.prediction.load import load
from tagseg.prediction.maps import as_image, branch_maps, class_mask, reduced
from tagseg.prediction.score import AFTER, spread_indices
from tagseg.prediction.segmenter import WHOLE, Segmenter
from tagseg.prediction.settings import PredictSettings
from tagseg.recipe import Recipe
from tagseg.resize import resize
from tagseg.run_folder import RunFolder
from tagseg.scores import Scores, percent
from tagseg.workflows.opened import run_recipe, run_sources

PHOTOS = 8


def report(
    run: Path, *, device: str | torch.device = AUTO, places: Sequence[str] = (), given: DataSettings | None = None
) -> Path:
    """Write the page of a finished run into its folder and return its path; of a chain, that of its last stage.

    places, given: where the photos are, as `run_sources` takes it.
    Raises UserError where the run isn't finished, and as `run_sources`.
    """
    folder = RunFolder.of(run)
    facts = folder.result()
    recipe, sources = run_recipe(folder.path), run_sources(folder.path, places, given=given)
    segmenter = load(folder.path, device=device)
    write_report(_collect(folder, facts, recipe, segmenter, sources.train, sources.val), folder.report)
    return folder.report


def _collect(
    run: RunFolder,
    facts: dict[str, Any],
    recipe: Recipe,
    segmenter: Segmenter,
    train: TaggedImages,
    val: TaggedImages | None,
) -> ReportData:
    classes = segmenter.classes
    scores: dict[str, Any] = facts["scores"].get("without tags", {})
    last = list(scores)[-1] if scores else ""
    photos = int(facts.get("photos", len(train)))  # older runs did not keep it
    protocol = f"Trained on {photos} photos with {facts['labels']}."
    protocol += "" if photos == len(train) else f" The data hold {len(train)} photos to train on now."
    if val is None:
        shown, chosen = train, [(index, "random") for index in spread_indices(PHOTOS, recipe.train.seed, len(train))]
        protocol += (
            " No true masks were given, so nothing is scored; the photos below are training photos, their tags used."
        )
    else:
        shown = val
        index = {photo.name: i for i, photo in enumerate(val.photos)}
        chosen = [
            (index[name], why) for name, why in spread(facts["photo_miou"], recipe.train.seed, PHOTOS) if name in index
        ]
        same = (
            " These photos were trained on." if {p.name for p in val.photos} <= {p.name for p in train.photos} else ""
        )
        scored = scores[last].get("photos", len(val)) if scores else len(val)
        same += "" if scored == len(val) else f" The data hold {len(val)} such photos now."
        protocol += (
            f" Scores are of {scored} photos with true masks, none of their tags used, from one confusion matrix over all "
            f"pixels, background included.{reading(recipe.predict)}{same}"
        )
    figures: list[tuple[str, str]] = []
    bars = None
    if scores:
        figures.append((f"{percent(scores[last]['miou'])} %", f"mIoU of {last}"))
        before = last.removesuffix(AFTER)
        series = {
            name: tuple(scores[name]["iou"].get(c) for c in classes)
            for name in dict.fromkeys((before, last))
            if name in scores
        }
        bars = ClassBars("IoU by class", classes, series)
    figures += [(f"{facts['minutes']:.1f}", "minutes"), (f"{facts['peak_memory_gib']:.1f} GiB", "peak memory")]
    return ReportData(
        title=recipe.title or run.path.name,
        classes=classes,
        lead=f"{recipe.method.name} on {recipe.model.backbone}, {recipe.train.steps} steps of {recipe.train.batch_size} photos.",
        protocol=protocol,
        figures=tuple(figures),
        tables=(branch_table("mIoU of every branch, without tags", scores, meanings=segmenter.method.meanings),)
        if scores
        else (),
        bars=bars,
        rows=list(run.metric_rows()),
        examples=tuple(_example(segmenter, shown, i, why, tags=val is None) for i, why in chosen),
        facts=(
            ("Classes", ", ".join(classes[1:])),
            ("Labels used", facts["labels"]),
            ("Tags from", facts.get("tags_from", "not recorded")),
            ("Machine", facts["machine"]),
            ("Seed", str(recipe.train.seed)),
            ("Licence of the start weights", segmenter.method.backbone.license or "see recipe"),
        ),
        command=facts["command"],
        recipe=recipe.to_yaml(),
    )


@torch.inference_mode()
def _example(segmenter: Segmenter, data: TaggedImages, index: int, why: str, *, tags: bool) -> Example:
    """Photo, the CAM's heat, the branches that the method has drawn, the final mask, and the truth where there is one."""
    check()
    photo, truth = data.photo(index), data.mask(index)
    name, classes, method = data.photos[index].name, segmenter.classes, segmenter.method
    told = tuple(classes[tag] for tag in data.photos[index].tags)
    small = reduced(photo, WHOLE * segmenter.tile**2)
    photo_1HW3, size = torch.from_numpy(small)[None], (photo.shape[0], photo.shape[1])
    branches = branch_maps(method, photo_1HW3, segmenter.tag_vector(told)[None] if tags else None)
    panels: list[Panel] = [photo_panel(photo, name)]
    if method.cam_name:
        cam_1Chw = method.cams(as_image(photo_1HW3, segmenter.device))
        heat_hw = (resize(cam_1Chw, size)[0].cpu() * segmenter.tag_vector(told)[:, None, None]).amax(0).clamp(0, 1)
        panels.append(heat_panel(method.cam_name, photo, heat_hw.numpy(), name))
    for key in [key for key in method.drawn if key in branches] or list(branches)[-1:]:
        mask, label = class_mask(resize(branches[key], size)[0]), method.meanings.get(key, key).partition(":")[0]
        panels.append(mask_panel(label, photo, mask, classes, name, note=score_note(mask, truth, len(classes))))
    final = segmenter.predict(photo, tags=told if tags else None).mask
    panels.append(mask_panel("final mask", photo, final, classes, name, note=score_note(final, truth, len(classes))))
    seen = set(np.unique(final).tolist())
    if truth is not None:
        panels.append(mask_panel("truth", photo, truth, classes, name))
        seen |= set(np.unique(truth).tolist())
    caption = f"Tagged: {', '.join(told) or 'no tag'}"
    return Example(name, tuple(panels), why, caption, tuple(sorted(seen - {0, 255})))


def reading(settings: PredictSettings) -> str:
    """A sentence on how the last branch read its photos, and the others."""
    if settings.single_scale and settings.largest is None:
        return " Photos are read once, at their own size."
    if settings.single_scale:
        return f" Photos are read once, at their own size, and with {settings.largest:,} pixels where they have more."
    ways = [f"scales {', '.join(f'{scale:g}' for scale in settings.scales)} merged by {settings.merge}"]
    ways += ["mirrored too"] if settings.flip else []
    ways += [f"long side {settings.long_side}"] if settings.long_side else []
    ways += [f"short side {settings.short_side}"] if settings.short_side else []
    ways += [settings.precision] if settings.precision != "fp32" else []
    return f" The last branch reads photos as the recipe's predict block says: {'; '.join(ways)}. The other rows read once."


def score_note(mask: NDArray[np.uint8], truth: NDArray[np.uint8] | None, num_classes: int) -> str:
    """A mask's mIoU in words, nothing where there is no truth."""
    if truth is None:
        return ""
    own = Scores(num_classes)
    own.add(mask, truth)
    return f"mIoU {100 * own.miou:.0f} %" if np.isfinite(own.miou) else ""
