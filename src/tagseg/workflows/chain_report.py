"""What a chain achieved: its scores, and one page with both stages side by side on the same photos.

Shapes: H W pixels.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tagseg.data.sources import Sources
from tagseg.data.tagged import TaggedImages
from tagseg.files import write_text
from tagseg.outputs.report import (
    ClassBars,
    Example,
    Panel,
    ReportData,
    ScoreRow,
    ScoreTable,
    mask_panel,
    photo_panel,
    spread,
    write_report,
)
from tagseg.segmenter import BACKGROUND, Segmenter, load
from tagseg.workflows.chain import Chain
from tagseg.workflows.label import score_labels
from tagseg.workflows.report import final_mask, metric_rows, score_note
from tagseg.workflows.score import AFTER, percent, spread_indices
from tagseg.workflows.train import run_result

PHOTOS = 8
PROTOCOL = "without tags"


def evaluate_chain(out: Path, masks: Path, sources: Sources, chain: Chain, path: Path) -> None:
    """Write the chain's scores as JSON: every branch of both stages on the val photos, and the pseudo masks' own.

    Pseudo masks are scored on the training photos that have true masks, with the tags used; the stages without tags.
    """
    stages = {name: run_result(out / name) for name in ("teacher", "segmenter")}
    pseudo = score_labels(masks, sources.train)
    facts = {
        "title": chain.title,
        "photos": len(sources.train),
        "val_photos": 0 if sources.val is None else len(sources.val),
        "labels": "image-level tags only",
        "stage 1": stages["teacher"]["scores"],
        "stage 2": stages["segmenter"]["scores"],
        "pseudo masks, tags used, training photos": None
        if pseudo is None
        else pseudo.as_dict((BACKGROUND, *sources.train.classes)),
        "minutes": round(sum(stage["minutes"] for stage in stages.values()), 2),
    }
    write_text(path, json.dumps(facts, indent=2, ensure_ascii=False))


def chain_report(out: Path, masks: Path, sources: Sources, chain: Chain, page: Path) -> None:
    """Write the page: scores of both stages, and photos with the masks of both beside each other."""
    scores = json.loads((out / "scores.json").read_text(encoding="utf-8"))
    first, second = (run_result(out / name) for name in ("teacher", "segmenter"))
    teacher, segmenter = load(out / "teacher"), load(out / "segmenter")
    names = (f"stage 1: {chain.teacher.method.name}", "stage 2: segmenter")
    data, pseudo = sources.val or sources.train, scores["pseudo masks, tags used, training photos"]
    if sources.val is None:
        chosen = [(index, "random") for index in spread_indices(PHOTOS, chain.segmenter.train.seed, len(data))]
    else:
        index = {photo.name: i for i, photo in enumerate(data.photos)}
        chosen = [(index[name], why) for name, why in spread(second["photo_miou"], chain.segmenter.train.seed, PHOTOS)]
    tables: tuple[ScoreTable, ...] = ()
    bars, figures = None, []
    if sources.val is not None:
        stages = [(name, facts["scores"][PROTOCOL]) for name, facts in zip(names, (first, second), strict=True)]
        tables = (_table(stages),)
        figures = [(f"{percent(_final(of_stage)['miou'])} %", f"mIoU of {name}") for name, of_stage in stages]
        bars = ClassBars(
            "IoU by class", segmenter.classes, {name: tuple(_final(s)["iou"].values()) for name, s in stages}
        )
    if pseudo is not None:
        figures.append((f"{percent(pseudo['miou'])} %", "mIoU of the pseudo masks"))
    figures.append((f"{scores['minutes']:.1f}", "minutes"))
    head = getattr(chain.segmenter.method, "segmenter", "head")
    write_report(
        ReportData(
            title=chain.title or out.name,
            classes=segmenter.classes,
            lead=f"{chain.teacher.method.name} on {chain.teacher.model.backbone} learns from tags and labels its photos; the "
            f"segmenter {head} on {chain.segmenter.model.backbone} learns from those pseudo masks.",
            protocol=_protocol(sources, pseudo is not None, chain.confidence),
            figures=tuple(figures),
            tables=tables,
            bars=bars,
            rows=list(metric_rows(out / "segmenter" / "metrics.jsonl")),
            examples=tuple(
                _example((teacher, segmenter), names, data, i, why, sources.val is None) for i, why in chosen
            ),
            facts=(
                ("Classes", ", ".join(segmenter.classes[1:])),
                ("Labels used", "image-level tags only; true masks for scores alone"),
                ("Pseudo masks", str(masks)),
                ("Machine", second["machine"]),
                ("Seed", str(chain.segmenter.train.seed)),
            ),
            command=second["command"],
            recipe=f"# stage 1\n{chain.teacher.to_yaml()}\n# stage 2\n{chain.segmenter.to_yaml()}",
        ),
        page,
    )


def _protocol(sources: Sources, has_pseudo_scores: bool, confidence: float) -> str:
    ignored = f", pixels below a probability of {confidence:g} ignored" if confidence > 0 else ""
    text = f"Both stages were trained on {len(sources.train)} photos with image-level tags only{ignored}."
    if sources.val is None:
        text += " No true masks were given, so nothing is scored; the photos below are training photos, their tags not used."
    else:
        text += f" Stages are scored on {len(sources.val)} photos with true masks, none of their tags used."
    if has_pseudo_scores:
        text += " Pseudo masks are scored on the training photos, whose tags made them."
    return text


def _final(scores: dict[str, Any]) -> dict[str, Any]:
    return list(scores.values())[-1]


def _table(stages: list[tuple[str, dict[str, Any]]]) -> ScoreTable:
    rows = []
    for name, scores in stages:
        for branch in dict.fromkeys(key.removesuffix(AFTER) for key in scores):
            after = scores[branch + AFTER]["miou"] if branch + AFTER in scores else None
            rows.append(ScoreRow(f"{name}, {branch}", (scores[branch]["miou"], after)))
    return ScoreTable("mIoU of both stages, without tags", ("before CRF", "after CRF"), tuple(rows))


@torch.inference_mode()
def _example(
    segmenters: tuple[Segmenter, Segmenter],
    names: tuple[str, str],
    data: TaggedImages,
    index: int,
    why: str,
    trained: bool,
) -> Example:
    """Photo, the final mask of each stage without tags, and the truth where there is one."""
    photo, truth = data.photo(index), None if trained else data.mask(index)
    name, classes = data.photos[index].name, segmenters[0].classes
    panels: list[Panel] = [photo_panel(photo, name)]
    seen: set[int] = set()

    def show(label: str, mask: NDArray[np.uint8], note: str = "") -> None:
        panels.append(mask_panel(label, photo, mask, classes, name, note=note))
        seen.update(np.unique(mask).tolist())

    for label, segmenter in zip(names, segmenters, strict=True):
        mask = final_mask(segmenter, photo)
        show(label, mask, score_note(mask, truth, len(classes)))
    if truth is not None:
        show("truth", truth)
    told = ", ".join(classes[tag] for tag in data.photos[index].tags) or "no tag"
    return Example(name, tuple(panels), why, f"Tagged: {told}", tuple(sorted(seen - {0, 255})))
