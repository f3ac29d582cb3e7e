"""Pseudo masks for tagged photos: prediction with the photos' tags, so that absent classes cannot appear."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tagseg.allocator import freed_memory_kept
from tagseg.data.class_lists import CLASSES_FILE, write_class_list
from tagseg.data.palette import write_mask
from tagseg.data.paths import held
from tagseg.data.photo import read_mask
from tagseg.data.sources import LABELED
from tagseg.data.tagged import TaggedImages
from tagseg.errors import UserError
from tagseg.files import make_folder, to_json, write_text
from tagseg.interrupt import Interruption, check
from tagseg.mask_values import BACKGROUND, IGNORE
from tagseg.outputs.confidence import CONFIDENCES, confidence_table
from tagseg.outputs.masks import PaletteMasks
from tagseg.places import check_output
from tagseg.prediction.made_by import made_by
from tagseg.prediction.segmenter import Request, Segmenter
from tagseg.prediction.work import Behind, ahead
from tagseg.progress import tracked
from tagseg.result_folder import ResultFolder
from tagseg.run_folder import RunFolder
from tagseg.scores import Scores
from tagseg.workflows.digests import made_from
from tagseg.workflows.opened import run_sources

MARKER = LABELED  # beside the masks: what they were made by
BESIDE = (CONFIDENCES, CLASSES_FILE)  # the masks; each call writes them anew


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
    already are passed over, so an interrupted run goes on; masks of other tags, or of a photo that has changed, are made
    anew. `confidence.csv` beside the masks holds a row of `Sureness` for each photo.
    Raises UserError, at the end, when photos could not be read; and before anything is written, for a class the model
    doesn't know; for an `out` that cannot be written, or is, holds or lies inside what the photos, tags or model come
    from; for one with masks of another model or other settings unless `overwrite` is given; and for one with files that
    tagseg did not write, or that would be lost although a person has changed them.
    """
    known = segmenter.method.classes
    unknown = [name for name in data.classes if name not in known]
    if unknown:
        raise UserError(
            f"The photos have the tag {unknown[0]!r}, which the model does not know; it knows {', '.join(known)}."
        )
    check_share("--ignore-below", confidence)
    check_output(out, [*data.places, *segmenter.places])
    for photo in data.photos:
        PaletteMasks.check_name(photo.name)
    names = [_file(photo.name) for photo in data.photos]
    by = made_by(segmenter, [confidence] if tags else [confidence, "no tags"])
    told = [[data.classes[tag - 1] for tag in photo.tags] if tags else None for photo in data.photos]
    sources = {name: made_from([p.photo], own) for name, p, own in zip(names, data.photos, told, strict=True)}
    results = ResultFolder.claim(out, MARKER, by, names, overwrite=overwrite, rewritten=BESIDE, made_from=sources)
    todo = [index for index, name in enumerate(names) if not results.has(name)]
    written, problems = 0, list[str]()
    waiting: deque[int] = deque()

    def read(index: int) -> NDArray[np.uint8] | UserError:
        try:
            return data.photo(index)
        except UserError as error:
            return error

    def requests() -> Iterator[Request]:
        for index, photo in zip(todo, ahead(read, todo, segmenter.device), strict=True):
            check()
            if isinstance(photo, UserError):
                problems.append(str(photo))
                continue
            waiting.append(index)
            own = told[index]
            yield photo, None if own is None else tuple(own)

    def write(name: str, mask: NDArray[np.uint8]) -> None:
        results.begin([name])
        make_folder((out / name).parent)
        write_mask(out / name, mask)
        results.wrote([name])

    with (
        Interruption(),
        freed_memory_kept(),
        results.rewriting(),
        confidence_table(out / CONFIDENCES, lambda name: results.has(_file(name))) as add_row,
        Behind(segmenter.device, together=True) as behind,
    ):
        write_class_list(out, segmenter.classes)
        predictions = segmenter.predict_many(requests())
        for prediction in tracked(predictions, "Labeling", len(todo)):
            index = waiting.popleft()
            name = data.photos[index].name
            # before the mask: where a mask is, there is a row for it
            add_row(name, prediction.sureness)
            mask = np.where(prediction.confidence >= confidence, prediction.mask, np.uint8(IGNORE))
            behind(partial(write, names[index], mask))
            written += 1
    if problems:
        raise UserError(f"{len(problems)} of {len(todo)} photos were not labeled; the first: {problems[0]}")
    return written


def check_share(option: str, value: float) -> None:
    """Raise UserError for an option's number that should lie from 0 to 1 and does not."""
    if not 0 <= value <= 1:
        raise UserError(f"{option} should be a number from 0 to 1, not {value}.")


def plan_labels(segmenter: Segmenter, data: TaggedImages, out: Path) -> str:
    """What `label` would do, in a sentence."""
    there = sum((out / _file(photo.name)).is_file() for photo in data.photos)
    return (
        f"{len(data)} photos would get masks of {', '.join(segmenter.classes)} in {out}, where {there} of them are already. "
        "Nothing was written."
    )


def label_run(
    segmenter: Segmenter,
    run: Path,
    out: Path,
    *,
    confidence: float = 0.0,
    tags: bool = True,
    overwrite: bool = False,
    places: Sequence[str] = (),
) -> tuple[int, int, Scores | None]:
    """`label` with the model of a run for the photos it was trained on: masks written now, photos, the masks' scores.

    Scores only for a run that learned from tags and whose photos have true masks; they go to `pseudo_masks.json` in its
    folder too, where `compare` finds them. places: where the photos are, as `run_sources` takes it.
    """
    data = run_sources(run, places).train
    written = label(segmenter, data, out, confidence=confidence, tags=tags, overwrite=overwrite)
    scores = None if segmenter.method.needs_masks else score_labels(out, data)
    if scores is not None:
        facts = {
            "masks": str(out),
            "confidence": confidence,
            **({} if tags else {"tags": "not used"}),
            **scores.as_dict((BACKGROUND, *data.classes)),
        }
        write_text(RunFolder.of(run).pseudo_scores, to_json(facts, indent=2))
    return written, len(data), scores


def score_labels(masks: Path, data: TaggedImages) -> Scores | None:
    """Scores of a folder of masks on those photos that have a true mask; None where no photo has one."""
    scores, known = Scores(data.num_classes), dict[Path, bool]()
    for index, photo in enumerate(data.photos):
        truth = data.mask(index)
        if truth is not None:
            file = held(masks / _file(photo.name), masks, known)
            add_mask(scores, file, read_mask(file), truth)
    return scores if scores.photos else None


def add_mask(scores: Scores, file: Path, mask: NDArray[np.uint8], truth: NDArray[np.uint8]) -> None:
    """Count one photo. Raises UserError that names the mask's file where the two do not fit."""
    try:
        scores.add(mask, truth)
    except ValueError as error:
        raise UserError(f"{file}: {error}; write masks of the same photos and classes.") from error


def _file(name: str) -> str:
    """Where the mask of a photo goes, below the folder of masks."""
    return f"{name}.png"
