"""Collect what a finished run's report shows, and write it.

Shapes: C tags, H W pixels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from tagseg.data.tagged import TaggedImages
from tagseg.inference import class_mask
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
from tagseg.recipe import Recipe
from tagseg.run_folder import RunFolder
from tagseg.scores import Scores
from tagseg.segmenter import Segmenter, load
from tagseg.workflows.opened import run_recipe, run_sources
from tagseg.workflows.score import AFTER, branch_probabilities, image_and_tags, percent, spread_indices

PHOTOS = 8
NAMES = {"P_st": "seg-teacher", "P_s": "student"}


def report(run: Path) -> Path:
    """Write the page of a finished run into its folder and return its path; of a chain, that of its last stage.

    Raises UserError where the run isn't finished, or its photos have moved or have other classes now.
    """
    folder = RunFolder.of(run)
    facts = folder.result()
    recipe, sources = run_recipe(folder.path), run_sources(folder.path)
    segmenter = load(folder.path)
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
    protocol = f"Trained on {len(train)} photos with {facts['labels']}."
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
        protocol += (
            f" Scores are of {len(val)} photos with true masks, none of their tags used, single scale, from one confusion "
            f"matrix over all pixels, background included.{same}"
        )
    figures: list[tuple[str, str]] = []
    bars = None
    if scores:
        figures.append((f"{percent(scores[last]['miou'])} %", f"mIoU of {last}"))
        before = last.removesuffix(AFTER)
        series = {name: tuple(scores[name]["iou"].values()) for name in dict.fromkeys((before, last))}
        bars = ClassBars("IoU by class", classes, series)
    figures += [(f"{facts['minutes']:.1f}", "minutes"), (f"{facts['peak_memory_gib']:.1f} GiB", "peak memory")]
    return ReportData(
        title=recipe.title or run.path.name,
        classes=classes,
        lead=f"{recipe.method.name} on {recipe.model.backbone}, {recipe.train.steps} steps of {recipe.train.batch_size} photos.",
        protocol=protocol,
        figures=tuple(figures),
        tables=(branch_table("mIoU of every branch, without tags", scores),) if scores else (),
        bars=bars,
        rows=list(run.metric_rows()),
        examples=tuple(_example(segmenter, shown, i, why, tags=val is None) for i, why in chosen),
        facts=(
            ("Classes", ", ".join(classes[1:])),
            ("Labels used", facts["labels"]),
            ("Tags from", facts.get("tags_from", "not recorded")),
            ("Machine", facts["machine"]),
            ("Seed", str(recipe.train.seed)),
            ("Licence of the start weights", segmenter.method.backbone.licence or "see recipe"),
        ),
        command=facts["command"],
        recipe=recipe.to_yaml(),
    )


@torch.inference_mode()
def _example(segmenter: Segmenter, data: TaggedImages, index: int, why: str, *, tags: bool) -> Example:
    """Photo, class-teacher's heat, each segmentation branch, the final mask, and the truth where there is one."""
    photo, truth = data.photo(index), data.mask(index)
    name, classes, method = data.photos[index].name, segmenter.classes, segmenter.method
    tag_C = data.tag_vector(index) if tags else None
    branches = branch_probabilities(method, photo, tag_C)
    panels: list[Panel] = [photo_panel(photo, name)]
    if "P_ct" in branches:
        panels.append(heat_panel("class-teacher", photo, _heat(segmenter, photo, data.tag_vector(index)), name))
    for key, label in NAMES.items():
        if key in branches:
            mask = class_mask(branches[key])
            panels.append(mask_panel(label, photo, mask, classes, name, note=score_note(mask, truth, len(classes))))
    final = final_mask(segmenter, photo, tag_C)
    panels.append(mask_panel("final mask", photo, final, classes, name, note=score_note(final, truth, len(classes))))
    seen = set(np.unique(final).tolist())
    if truth is not None:
        panels.append(mask_panel("truth", photo, truth, classes, name))
        seen |= set(np.unique(truth).tolist())
    told = ", ".join(classes[tag] for tag in data.photos[index].tags) or "no tag"
    return Example(name, tuple(panels), why, f"Tagged: {told}", tuple(sorted(seen - {0, 255})))


def _heat(segmenter: Segmenter, photo: NDArray[np.uint8], tag_C: NDArray[np.float32]) -> NDArray[np.floating]:
    """The largest CAM of the photo's tags, (H, W) in [0, 1]."""
    image_13HW, _ = image_and_tags(segmenter.method, photo, None)
    cam_CHW = F.interpolate(segmenter.method.cams(image_13HW), photo.shape[:2], mode="bilinear", align_corners=False)[0]
    return (cam_CHW.cpu() * torch.from_numpy(tag_C)[:, None, None]).amax(0).clamp(0, 1).numpy()


def final_mask(
    segmenter: Segmenter, photo: NDArray[np.uint8], tag_C: NDArray[np.float32] | None = None
) -> NDArray[np.uint8]:
    """The model's mask of a photo after the CRF, (H, W) uint8."""
    tag = None if tag_C is None else torch.from_numpy(tag_C)
    return class_mask(segmenter.refine([photo], [segmenter.probabilities(photo, tag)])[0])


def score_note(mask: NDArray[np.uint8], truth: NDArray[np.uint8] | None, num_classes: int) -> str:
    """A mask's mIoU in words, nothing where there is no truth."""
    if truth is None:
        return ""
    own = Scores(num_classes)
    own.add(mask, truth)
    return f"mIoU {100 * own.miou:.0f} %" if np.isfinite(own.miou) else ""
