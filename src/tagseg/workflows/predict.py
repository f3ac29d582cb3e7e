"""Masks of new photos: without tags, or with the tags that are given for them."""

from __future__ import annotations

import unicodedata
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from tagseg.data.folders import stem
from tagseg.data.inputs import Inputs, PhotoInput, open_inputs
from tagseg.data.photo import PIXEL_CAP
from tagseg.data.tables import read_table
from tagseg.engine.interrupt import Interruption, check
from tagseg.errors import UserError
from tagseg.outputs import OUTPUTS, Writer
from tagseg.outputs.label_studio import LabelStudioBrush
from tagseg.outputs.writer import safe_name
from tagseg.prediction.segmenter import Request, Segmenter
from tagseg.workflows.claim import claim_results
from tagseg.workflows.label import make_folder

MARKER = ".tagseg-predict"  # in the folder of results: what they were made by


@dataclass
class Predicted:
    """What was done. problems: a sentence about each photo that was not. notes: sentences about the way it was done."""

    done: int = 0
    already: int = 0
    tagged: int = 0
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def predict(
    segmenter: Segmenter,
    images: str | Path | Sequence[str | Path],
    out: Path,
    *,
    format: str = "png",
    crf: bool = True,
    tags: Path | None = None,
    pixel_cap: int = PIXEL_CAP,
    photo_url: str | None = None,
    overwrite: bool = False,
) -> Predicted:
    """Segment photos and write the results in a format of OUTPUTS.

    images: what `open_inputs` reads, one or several. tags: a table of tags, used for the photos that it names and no
    others. pixel_cap: the largest photo that is read. photo_url: what stands before a photo's name in Label Studio's
    tasks, instead of local files. Photos that have their result already are passed over in formats
    with a file a photo; results of another model or other settings are only replaced with `overwrite`.
    A photo that cannot be read becomes a sentence in `problems`, the others are done all the same. Raises UserError
    when nothing can be done at all.
    """
    if format not in OUTPUTS:
        raise UserError(f"There is no format {format!r}; there are {', '.join(OUTPUTS)}.")
    sources = [images] if isinstance(images, str | Path) else list(images)
    with Interruption(), open_inputs(sources, out=out) as inputs:
        tags_of = {} if tags is None else _read_tags(tags, segmenter, inputs)
        result = Predicted(problems=inputs.problems)
        make_folder(out)
        with _open_writer(format, out, segmenter, photo_url) as writer:
            todo = _todo(writer, inputs, result, overwrite)
            settings = [format, crf, sorted(tags_of.items())]
            claim_results(out / MARKER, segmenter, settings, already=result.already, overwrite=overwrite)
            waiting: deque[tuple[PhotoInput, NDArray[np.uint8]]] = deque()

            def requests() -> Iterator[Request]:
                for photo_input in todo:
                    check()
                    try:
                        photo = photo_input.read(pixel_cap=pixel_cap)
                    except UserError as error:
                        result.problems.append(str(error))
                        continue
                    waiting.append((photo_input, photo))
                    yield photo, tags_of.get(photo_input.name)

            predictions = segmenter.predict_many(requests(), crf=crf)
            for prediction in track(predictions, description="Predicting", total=len(todo), disable=len(todo) < 9):
                photo_input, photo = waiting.popleft()
                if segmenter.is_tiled(photo):
                    result.notes.append(_tiled(segmenter, photo_input, crf, prediction.probabilities is not None))
                file_name = photo_input.file_name
                found = prediction.mask, prediction.probabilities
                writer.add(photo_input.name, photo, *found, file_name=file_name, link=photo_input.link)
                result.done += 1
                result.tagged += photo_input.name in tags_of
    return result


def _open_writer(format: str, out: Path, segmenter: Segmenter, photo_url: str | None) -> Writer:
    if format == "label-studio":
        version = str(segmenter.facts.get("training", {}).get("title") or "tagseg")
        return LabelStudioBrush(out, segmenter.classes, photo_url=photo_url, version=version)
    if photo_url is not None:
        raise UserError(f"--photo-url is for --format label-studio; {format} holds no addresses of photos.")
    return OUTPUTS[format](out, segmenter.classes)


def _todo(writer: Writer, inputs: Inputs, result: Predicted, overwrite: bool) -> list[PhotoInput]:
    """The photos without a result; those whose names cannot be written become problems."""
    photos = []
    for photo in inputs.photos:
        try:
            safe_name(photo.name)
            photos.append(photo)
        except UserError as error:
            result.problems.append(str(error))
    if not overwrite:
        todo = [photo for photo in photos if not writer.has(photo.name)]
        result.already = len(photos) - len(todo)
        photos = todo
    return photos


def _read_tags(path: Path, segmenter: Segmenter, inputs: Inputs) -> dict[str, tuple[str, ...]]:
    """The tags by the photo's name; rows that name no photo of this call are passed over."""
    rows, problems = read_table(path, classes=segmenter.method.classes)
    if problems:
        raise UserError(f"{problems[0].text}: correct the table of tags.")
    names = {photo.name for photo in inputs.photos}
    found = {}
    for row in rows:
        name = stem(unicodedata.normalize("NFC", row.file.strip().replace("\\", "/").removeprefix("./")))
        if name in names:
            unknown = [tag for tag in row.tags if tag not in segmenter.method.classes]
            if unknown:
                known = ", ".join(segmenter.method.classes)
                raise UserError(f"{path}, row {row.number}: the model does not know {unknown[0]!r}; it knows {known}.")
            found[name] = row.tags
    if not found:
        example = min(names, default="")
        raise UserError(f"{path} names none of the photos: its file column should hold names such as {example}.")
    return found


def _tiled(segmenter: Segmenter, photo: PhotoInput, crf: bool, kept: bool) -> str:
    within = ", the dense CRF within each tile" if crf and segmenter.settings.crf is not None else ""
    lost = "" if kept else "; its probabilities were too many to keep, so no confidence is given"
    return f"{photo.file_name} is large and was done in tiles of {segmenter.tile} pixels{within}{lost}."
