"""Pseudo masks for tagged photos: prediction with the photos' tags, so that absent classes cannot appear."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from io import StringIO
from pathlib import Path
from typing import TextIO

import numpy as np
from rich.progress import track

from tagseg.data.photo import read_mask
from tagseg.data.sources import LABELLED
from tagseg.data.tagged import TaggedImages
from tagseg.engine.interrupt import Interruption, check
from tagseg.errors import UserError
from tagseg.files import make_folder, write_text
from tagseg.methods.supervised import read_confidence
from tagseg.outputs.palette import write_mask
from tagseg.prediction.prediction import BACKGROUND
from tagseg.prediction.segmenter import Request, Segmenter
from tagseg.prediction.work import Behind, ahead
from tagseg.scores import Scores
from tagseg.workflows.claim import claim_results
from tagseg.workflows.train import run_sources

IGNORE = 255
CONFIDENCES = "confidence.csv"
MARKER = LABELLED  # beside the masks: what they were made by
SCORES = "pseudo_masks.json"  # in the run's folder


def label(
    segmenter: Segmenter,
    data: TaggedImages,
    out: Path,
    *,
    confidence: float = 0.0,
    tags: bool = True,
    overwrite: bool = False,
) -> int:
    """Write one palette PNG a photo to `out`, named like the photo, and return how many were written now.

    The masks are predictions with the photos' tags: absent classes cannot appear, and a photo without tags is all
    background. tags: without them every class competes, as in the pseudo masks of the released RRM and ASDT.
    0 is background, 255 a pixel whose likeliest class has a probability below `confidence`. Photos that have their mask
    already are passed over, so an interrupted run goes on. `confidence.csv` beside the masks holds, for each photo, the
    mean over its pixels of the likeliest class's probability: the weight that `supervised.confidence` gives the photo.
    Raises UserError for a class the model doesn't know, for a folder that cannot be written, and for one with masks of
    another model or other settings unless `overwrite` is given.
    """
    known = segmenter.method.classes
    unknown = [name for name in data.classes if name not in known]
    if unknown:
        raise UserError(
            f"The photos have the tag {unknown[0]!r}, which the model does not know; it knows {', '.join(known)}."
        )
    make_folder(out)
    todo = [i for i, photo in enumerate(data.photos) if overwrite or not mask_path(out, photo.name).is_file()]
    already = len(data.photos) - len(todo)
    made_by: list[object] = [confidence] if tags else [confidence, "no tags"]
    claim_results(out / MARKER, segmenter, made_by, already=already, overwrite=overwrite)
    written = 0

    def requests() -> Iterator[Request]:
        for index, photo in zip(todo, ahead(data.photo, todo, segmenter.device), strict=True):
            check()
            told = tuple(data.classes[tag - 1] for tag in data.photos[index].tags)
            yield photo, told if tags else None

    with (
        Interruption(),
        _confidence_table(out / CONFIDENCES, overwrite) as add_confidence,
        Behind(segmenter.device, together=True) as behind,
    ):
        predictions = zip(todo, segmenter.predict_many(requests()), strict=True)
        for index, prediction in track(predictions, "Labelling", total=len(todo), disable=len(todo) < 9):
            name = data.photos[index].name
            # before the mask: where a mask is, there is a row for it
            add_confidence({name: float(prediction.confidence.mean(dtype=np.float64))})
            mask = np.where(prediction.confidence >= confidence, prediction.mask, np.uint8(IGNORE))
            path = mask_path(out, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            behind(partial(write_mask, path, mask))
            written += 1
    return written


def label_run(
    segmenter: Segmenter, run: Path, out: Path, *, confidence: float = 0.0, tags: bool = True, overwrite: bool = False
) -> tuple[int, int, Scores | None]:
    """`label` with the model of a run for the photos it was trained on: masks written now, photos, the masks' scores.

    Scores only for a run that learned from tags and whose photos have true masks; they go to `pseudo_masks.json` in its
    folder too, where `compare` finds them.
    """
    data = run_sources(run).train
    written = label(segmenter, data, out, confidence=confidence, tags=tags, overwrite=overwrite)
    scores = None if segmenter.method.needs_masks else score_labels(out, data)
    if scores is not None:
        facts = {
            "masks": str(out),
            "confidence": confidence,
            **({} if tags else {"tags": "not used"}),
            **scores.as_dict((BACKGROUND, *data.classes)),
        }
        write_text(run / SCORES, json.dumps(facts, indent=2, ensure_ascii=False))
    return written, len(data), scores


def score_labels(masks: Path, data: TaggedImages) -> Scores | None:
    """Scores of a folder of masks on those photos that have a true mask; None where no photo has one."""
    scores = Scores(data.num_classes)
    for index, photo in enumerate(data.photos):
        truth = data.mask(index)
        if truth is not None:
            scores.add(read_mask(mask_path(masks, photo.name)), truth)
    return scores if scores.photos else None


@contextmanager
def _confidence_table(path: Path, overwrite: bool) -> Iterator[Callable[[dict[str, float]], None]]:
    """What adds rows to the table of confidences while masks are written; at the end it is sorted, a row a photo."""
    if path.is_file() and not overwrite:
        # A kill may have torn the last row; its photo has no mask yet and comes again.
        write_text(path, path.read_text(encoding="utf-8").rpartition("\n")[0] + "\n")
    else:
        write_text(path, "file,confidence\n")

    def add(confidences: dict[str, float]) -> None:
        try:
            with path.open("a", encoding="utf-8", newline="") as file:
                _write_rows(file, confidences)
        except OSError as error:
            raise UserError(
                f"{path} cannot be written: {error.strerror or error}; the masks so far are whole."
            ) from error

    yield add
    text = StringIO()
    text.write("file,confidence\n")
    _write_rows(text, dict(sorted(read_confidence(path).items())))
    write_text(path, text.getvalue())


def _write_rows(file: TextIO, confidences: dict[str, float]) -> None:
    csv.writer(file, lineterminator="\n").writerows((name, f"{value:.4f}") for name, value in confidences.items())


def mask_path(out: Path, name: str) -> Path:
    """Where the mask of a photo goes."""
    return out / f"{name}.png"
