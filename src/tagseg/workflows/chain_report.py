"""What a chain achieved: its scores, and one page with all stages side by side on the same photos.

Shapes: H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tagseg.data.sources import Sources
from tagseg.data.tagged import TaggedImages
from tagseg.files import to_json, write_text
from tagseg.foreign import read_json
from tagseg.interrupt import check
from tagseg.mask_values import BACKGROUND
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
from tagseg.prediction.load import load
from tagseg.prediction.score import AFTER, spread_indices
from tagseg.prediction.segmenter import Segmenter
from tagseg.recipe import load_recipe
from tagseg.run_folder import ChainFolder
from tagseg.scores import percent
from tagseg.workflows.chain import Chain
from tagseg.workflows.label import score_labels
from tagseg.workflows.report import score_note

PHOTOS = 8
PROTOCOL = "without tags"
PSEUDO = "pseudo masks, tags used, training photos"


def evaluate_chain(out: Path, sources: Sources, chain: Chain) -> None:
    """Write the chain's scores into its folder `out`: every branch of all stages on the val photos, the pseudo masks' own.

    Pseudo masks are scored on the training photos that have true masks, with the tags used; the stages without tags.
    """
    folder = ChainFolder(out)
    stages = [folder.stage(name).result() for name in chain.stages]
    pseudo = [score_labels(out / masks, sources.train) for masks in chain.learned]
    facts = {
        "title": chain.title,
        "photos": len(sources.train),
        "val_photos": 0 if sources.val is None else len(sources.val),
        "labels": "image-level tags only" if sources.review is None else f"image-level tags and {sources.review}",
        "tags_from": sources.train.tags_from,
        **{f"stage {number}": stage["scores"] for number, stage in enumerate(stages, 1)},
        PSEUDO: {
            f"stage {number}": scores.as_dict((BACKGROUND, *sources.train.classes))
            for number, scores in enumerate(pseudo, 1)
            if scores is not None
        },
        "minutes": round(chain_minutes(folder, chain.stages), 2),
    }
    write_text(folder.scores, to_json(facts, indent=2))


def chain_minutes(folder: ChainFolder, stages: Sequence[str]) -> float:
    """Minutes of a chain's trainings, each counted once although a run's minutes hold those of the run it starts from."""
    own: dict[str, float] = {}

    def count(name: str) -> None:
        run = folder.stage(name)
        own[name] = run.result()["minutes"]
        start = load_recipe(run.recipe, stored=True).model.start
        if start is not None and Path(start).resolve().parent == folder.path.resolve():
            begun = Path(start).name
            own[name] -= folder.stage(begun).result()["minutes"]
            count(begun)

    for name in stages:
        count(name)
    return sum(own.values())


def chain_report(out: Path, sources: Sources, chain: Chain, device: torch.device) -> None:
    """Write the page into the chain's folder `out`: scores of all stages, and photos with the masks of all beside each other."""
    folder = ChainFolder(out)
    scores = read_json(folder.scores, "the scores of a chain")
    labels = scores.get("labels", "image-level tags only")  # not told by an older version
    results = [folder.stage(name).result() for name in chain.stages]
    segmenters = [load(out / name, device=device) for name in chain.stages]
    names = [f"stage {n}: {'segmenter' if n > 1 else chain.teacher.method.name}" for n in range(1, len(results) + 1)]
    last, classes = results[-1], segmenters[0].classes
    data, pseudo = sources.val or sources.train, scores[PSEUDO]
    if sources.val is None:
        chosen = [(index, "random") for index in spread_indices(PHOTOS, chain.segmenter.train.seed, len(data))]
    else:
        index = {photo.name: i for i, photo in enumerate(data.photos)}
        chosen = [(index[name], why) for name, why in spread(last["photo_miou"], chain.segmenter.train.seed, PHOTOS)]
    tables: tuple[ScoreTable, ...] = ()
    bars, figures = None, []
    if sources.val is not None:
        stages = [(name, facts["scores"][PROTOCOL]) for name, facts in zip(names, results, strict=True)]
        tables = (_table(stages),)
        last_first = reversed(stages)  # the first figure stands out on the page
        figures = [(f"{percent(_final(of_stage)['miou'])} %", f"mIoU of {name}") for name, of_stage in last_first]
        bars = ClassBars(
            "IoU by class", classes, {name: tuple(_final(s)["iou"].get(c) for c in classes) for name, s in stages}
        )
    figures += [(f"{percent(of_stage['miou'])} %", f"mIoU of {name}'s masks") for name, of_stage in pseudo.items()]
    figures.append((f"{scores['minutes']:.1f}", "minutes"))
    head = getattr(chain.segmenter.method, "decoder", "head")
    again = "; the next one from the masks of the one before" if chain.rounds > 1 else ""
    write_report(
        ReportData(
            title=chain.title or out.name,
            classes=classes,
            lead=f"{chain.teacher.method.name} on {chain.teacher.model.backbone} learns from tags and labels its photos; the "
            f"segmenter {head} on {chain.segmenter.model.backbone} learns from those pseudo masks{again}.",
            protocol=_protocol(sources, labels, bool(pseudo), chain.confidence),
            figures=tuple(figures),
            tables=tables,
            bars=bars,
            rows=list(folder.stage(chain.stages[-1]).metric_rows()),
            examples=tuple(_example(segmenters, names, data, i, why, sources.val is None) for i, why in chosen),
            facts=(
                ("Classes", ", ".join(classes[1:])),
                ("Labels used", f"{labels}; true masks of val for scores alone"),
                ("Tags from", sources.train.tags_from),
                ("Pseudo masks", ", ".join(str(out / masks) for masks in chain.learned)),
                ("Machine", last["machine"]),
                ("Seed", str(chain.segmenter.train.seed)),
            ),
            command=last["command"],
            recipe=f"# stage 1\n{chain.teacher.to_yaml()}\n# stage 2\n{chain.segmenter.to_yaml()}",
        ),
        folder.report,
    )


def _protocol(sources: Sources, labels: str, has_pseudo_scores: bool, confidence: float) -> str:
    ignored = f", pixels below a probability of {confidence:g} ignored" if confidence > 0 else ""
    text = f"All stages were trained on {len(sources.train)} photos with {labels}{ignored}."
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
    return ScoreTable("mIoU of all stages, without tags", ("before CRF", "after CRF"), tuple(rows))


def _example(
    segmenters: Sequence[Segmenter],
    names: Sequence[str],
    data: TaggedImages,
    index: int,
    why: str,
    trained: bool,
) -> Example:
    """Photo, the final mask of each stage without tags, and the truth where there is one."""
    check()
    photo, truth = data.photo(index), None if trained else data.mask(index)
    name, classes = data.photos[index].name, segmenters[0].classes
    panels: list[Panel] = [photo_panel(photo, name)]
    seen: set[int] = set()

    def show(label: str, mask: NDArray[np.uint8], note: str = "") -> None:
        panels.append(mask_panel(label, photo, mask, classes, name, note=note))
        seen.update(np.unique(mask).tolist())

    for label, segmenter in zip(names, segmenters, strict=True):
        mask = segmenter.predict(photo).mask
        show(label, mask, score_note(mask, truth, len(classes)))
    if truth is not None:
        show("truth", truth)
    told = ", ".join(classes[tag] for tag in data.photos[index].tags) or "no tag"
    return Example(name, tuple(panels), why, f"Tagged: {told}", tuple(sorted(seen - {0, 255})))
