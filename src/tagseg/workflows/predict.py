"""Masks of new photos: without tags, or with the tags that are given for them."""

from __future__ import annotations

import unicodedata
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from tagseg.data.folders import stem
from tagseg.data.inputs import Inputs, PhotoInput, open_inputs
from tagseg.data.photo import PIXEL_CAP
from tagseg.data.tables import read_table
from tagseg.errors import UnwritableNameError, UserError
from tagseg.foreign import shown
from tagseg.interrupt import Interruption, check
from tagseg.outputs import OUTPUTS, Writer
from tagseg.places import check_output, ignores_case
from tagseg.result_folder import ResultFolder
from tagseg.segmenter import Request, Segmenter
from tagseg.workflows.claim import made_by

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
    overwrite: bool = False,
) -> Predicted:
    """Segment photos and write the results in a format of OUTPUTS.

    images: what `open_inputs` reads, one or several. tags: a table of tags, used for the photos that it names and no
    others. pixel_cap: the largest photo that is read. Photos that have their result already are passed over in formats
    with a file a photo; results of another model or other settings are only replaced with `overwrite`.
    A photo that cannot be read becomes a sentence in `problems`, the others are done all the same. Raises UserError
    when nothing can be done at all.
    """
    if format not in OUTPUTS:
        raise UserError(f"There is no format {format!r}; there are {', '.join(OUTPUTS)}.")
    sources = [images] if isinstance(images, str | Path) else list(images)
    with Interruption(), open_inputs(sources, out=out) as inputs:
        check_output(out, [*segmenter.places, *([] if tags is None else [tags])])
        tags_of = {} if tags is None else _read_tags(tags, segmenter, inputs)
        result = Predicted(problems=inputs.problems)
        kind = OUTPUTS[format]
        photos = _writable(kind, inputs, result, ignores_case(out))
        by = made_by(segmenter, [format, crf, sorted(tags_of.items())])
        files = [path for photo in photos for path in kind.paths(photo.name)]
        results = ResultFolder.claim(out, MARKER, by, files, overwrite=overwrite, rewritten=kind.shared)
        todo = [photo for photo in photos if not any(map(results.has, kind.paths(photo.name)[-1:]))]
        result.already = len(photos) - len(todo)
        results.begin(kind.shared)
        with kind(out, segmenter.classes) as writer:
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
                try:
                    results.begin(kind.paths(photo_input.name))
                    writer.add(photo_input.name, photo, prediction.mask, prediction.probabilities, file_name=file_name)
                    results.wrote(kind.paths(photo_input.name))
                except UnwritableNameError as error:
                    result.problems.append(str(error))
                    continue
                result.done += 1
                result.tagged += photo_input.name in tags_of
        results.wrote(kind.shared)
        results.end()
    return result


def _writable(kind: type[Writer], inputs: Inputs, result: Predicted, fold: bool) -> list[PhotoInput]:
    """The photos whose names the format can hold; the others become problems, before anything is computed.

    fold: whether names that differ in case alone are one on the disk.
    """

    def key(path: str) -> str:
        return path.casefold() if fold else path

    photos, taken = [], dict[str, str]()
    folders = {
        key(str(above)) for p in inputs.photos for path in kind.paths(p.name) for above in PurePath(path).parents
    }
    for photo in inputs.photos:
        try:
            kind.check_name(photo.name)
        except UnwritableNameError as error:
            result.problems.append(str(error))
            continue
        paths = [key(path) for path in kind.paths(photo.name)]
        clash = next((taken[path] for path in paths if path in taken), None)
        if clash is None and any(path in folders for path in paths):
            clash = "a folder of other results"
        if clash is not None:
            result.problems.append(f"{shown(photo.file_name)}: its result would have the name of {clash}; rename one")
            continue
        taken |= dict.fromkeys(paths, f"that of {shown(photo.file_name)}")
        photos.append(photo)
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
