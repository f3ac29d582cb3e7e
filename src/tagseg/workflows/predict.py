"""Masks of new photos: without tags, or with the tags that are given for them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePath
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from tagseg.allocator import freed_memory_kept
from tagseg.data.class_lists import write_class_list
from tagseg.data.inputs import PhotoInput, open_inputs
from tagseg.data.photo import PIXEL_CAP
from tagseg.data.tagged import check_classes, tags_of_photos
from tagseg.errors import UnwritableNameError, UserError
from tagseg.foreign import DATA_CAP, read_json, shown
from tagseg.interrupt import Interruption, check
from tagseg.made_from import MadeFrom
from tagseg.names import did_you_mean
from tagseg.outputs import OUTPUTS, Writer
from tagseg.outputs.confidence import CONFIDENCES, confidence_table
from tagseg.outputs.label_studio import LabelStudioBrush
from tagseg.outputs.masks import list_beside
from tagseg.places import check_output, ignores_case
from tagseg.prediction.made_by import made_by
from tagseg.prediction.prediction import Prediction
from tagseg.prediction.segmenter import Request, Segmenter
from tagseg.prediction.work import Behind, ahead
from tagseg.progress import tracked
from tagseg.result_folder import ResultFolder
from tagseg.scale.photos import Photo
from tagseg.workflows.digests import made_from

P = TypeVar("P", PhotoInput, Photo)

MARKER = ".tagseg-predict"  # in the folder of results: what they were made by
TAGS = ".tagseg-predict-tags"  # and with which tags, by the photo's name: of folders from before the record told it


@dataclass
class Predicted:
    """What was done. planned: photos that would be segmented, of a dry run.

    problems: a sentence about each photo that was not done. notes: sentences about the way it was done.
    """

    done: int = 0
    planned: int = 0
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
    separator: str | None = None,
    file_column: str | None = None,
    tags_column: str | None = None,
    classes: Sequence[str] | None = None,
    pixel_cap: int = PIXEL_CAP,
    photo_url: str | None = None,
    overwrite: bool = False,
    dry_run: bool = False,
) -> Predicted:
    """Segment photos and write the results in a format of OUTPUTS.

    Beside the results `confidence.csv` holds a row of `Sureness` for each photo.
    images: what `open_inputs` reads, one or several. tags: a table of tags, used for the photos that it names and no
    others; separator, file_column, tags_column: how it is read, as `open_tagged` takes them; classes: the names in it, the
    model's unless fewer are given. pixel_cap: the largest photo that is read. photo_url: what stands before a photo's name
    in Label Studio's tasks, instead of local files. Photos that have their result already are passed over in formats with
    a file a photo; results of another model, other settings, other tags or another photo are only replaced with
    `overwrite`.
    dry_run: nothing is segmented or written, and the photos are counted.
    A photo that cannot be read becomes a sentence in `problems`, the others are done all the same. Raises UserError
    when nothing can be done at all.
    """
    if format not in OUTPUTS:
        raise UserError(f"There is no format {format!r}: {did_you_mean(format, OUTPUTS)}")
    if photo_url is not None and format != "label-studio":
        raise UserError(f"--photo-url is for --format label-studio; {format} holds no addresses of photos.")
    sources = [images] if isinstance(images, str | Path) else list(images)
    with Interruption(), freed_memory_kept(), open_inputs(sources, out=out) as inputs:
        check_output(out, [*segmenter.places, *([] if tags is None else [tags])])
        result = Predicted(problems=inputs.problems, notes=inputs.notes)
        tags_of: dict[str, tuple[str, ...]] = {}
        if tags is not None:
            given, notes = tags_of_photos(
                tags,
                [photo.file_name for photo in inputs.photos],
                inputs.folders,
                classes=segmenter.method.classes if classes is None else _known(classes, segmenter),
                separator=separator,
                file_column=file_column,
                tags_column=tags_column,
            )
            tags_of = {photo.name: given[photo.file_name] for photo in inputs.photos if photo.file_name in given}
            result.notes += notes
        kind = OUTPUTS[format]
        photos = writable(kind, inputs.photos, result.problems, ignores_case(out))
        if dry_run:
            result.planned = len(photos)
            return result
        kind.check_classes(segmenter.classes)
        files = [path for photo in photos for path in kind.paths(photo.name)]
        by = made_by(segmenter, [format, crf, []])
        sources_of, refused = _sources(out, kind, photos, tags_of)
        listed = list_beside(kind, out, MARKER)
        results = ResultFolder.claim(
            out,
            MARKER,
            by,
            files,
            overwrite=overwrite,
            rewritten=(CONFIDENCES, *kind.shared, *listed),
            made_from=sources_of,
            refused=refused,
            whole=True,
        )
        todo = [photo for photo in photos if not any(map(results.has, kind.paths(photo.name)[-1:]))]
        result.already = len(photos) - len(todo)
        with (
            results.rewriting(),
            _open_writer(format, out, segmenter, photo_url) as writer,
            confidence_table(out / CONFIDENCES, lambda name: any(map(results.has, kind.paths(name)[-1:]))) as add_row,
        ):
            if listed:
                write_class_list(out, segmenter.classes)
            written: set[str] = set()
            waiting: deque[tuple[PhotoInput, NDArray[np.uint8]]] = deque()

            def read(photo_input: PhotoInput) -> NDArray[np.uint8] | UserError:
                try:
                    return photo_input.read(pixel_cap=pixel_cap)
                except UserError as error:
                    return error

            def requests() -> Iterator[Request]:
                for photo_input, photo in zip(todo, ahead(read, todo, segmenter.device), strict=True):
                    check()
                    if isinstance(photo, UserError):
                        result.problems.append(str(photo))
                        continue
                    waiting.append((photo_input, photo))
                    yield photo, tags_of.get(photo_input.name)

            def write(photo_input: PhotoInput, photo: NDArray[np.uint8], prediction: Prediction) -> None:
                pair = prediction.mask, prediction.probabilities if writer.needs_probabilities else None
                try:
                    results.begin(kind.paths(photo_input.name))
                    writer.add(photo_input.name, photo, *pair, file_name=photo_input.file_name, link=photo_input.link)
                    results.wrote(kind.paths(photo_input.name))
                    written.add(photo_input.name)
                except UnwritableNameError as error:
                    result.problems.append(str(error))

            predictions = segmenter.predict_many(requests(), crf=crf)
            with Behind(segmenter.device, together=writer.separate) as behind:
                for prediction in tracked(predictions, "Predicting", len(todo)):
                    photo_input, photo = waiting.popleft()
                    if segmenter.is_tiled(photo):
                        result.notes.append(_tiled(segmenter, photo_input, crf, prediction.probabilities is not None))
                    if (pages := photo_input.pages(pixel_cap=pixel_cap)) > 1:
                        result.notes.append(f"{photo_input.file_name} has {pages} pages, of which one was read.")
                    add_row(photo_input.name, prediction.sureness)
                    behind(partial(write, photo_input, photo, prediction))
        result.done = len(written)
        result.tagged = len(written & tags_of.keys())
    return result


def _open_writer(format: str, out: Path, segmenter: Segmenter, photo_url: str | None) -> Writer:
    if format == "label-studio":
        version = str((segmenter.facts.get("training") or {}).get("title") or "tagseg")
        return LabelStudioBrush(out, segmenter.classes, photo_url=photo_url, version=version)
    return OUTPUTS[format](out, segmenter.classes)


def writable(kind: type[Writer], named: Sequence[P], problems: list[str], fold: bool) -> list[P]:
    """The photos whose names the format can hold; the others become problems, before anything is computed.

    fold: whether names that differ in case alone are one on the disk.
    """

    def key(path: str) -> str:
        return path.casefold() if fold else path

    photos, taken = [], dict[str, str]()
    folders = {key(str(above)) for p in named for path in kind.paths(p.name) for above in PurePath(path).parents}
    for photo in named:
        try:
            kind.check_name(photo.name)
        except UnwritableNameError as error:
            problems.append(str(error))
            continue
        paths = [key(path) for path in kind.paths(photo.name)]
        clash = next((taken[path] for path in paths if path in taken), None)
        if clash is None and any(path in folders for path in paths):
            clash = "a folder of other results"
        if clash is not None:
            problems.append(f"{shown(photo.file_name)}: its result would have the name of {clash}; rename one")
            continue
        taken |= dict.fromkeys(paths, f"that of {shown(photo.file_name)}")
        photos.append(photo)
    return photos


def _known(classes: Sequence[str], segmenter: Segmenter) -> tuple[str, ...]:
    names = check_classes(classes)
    unknown = [name for name in names if name not in segmenter.method.classes]
    if unknown:
        known = ", ".join(segmenter.method.classes)
        raise UserError(f"The model does not know the class {unknown[0]!r}; it knows {known}.")
    return names


def _sources(
    out: Path, kind: type[Writer], photos: Sequence[PhotoInput], tags_of: Mapping[str, tuple[str, ...]]
) -> tuple[dict[str, MadeFrom], Callable[[str, list[object] | None], str]]:
    """What the files of each photo are made from, and the sentence about one that was made from something else."""
    before: dict[str, list[str]] = {}
    if (out / TAGS).is_file():
        with suppress(UserError, TypeError, ValueError):  # a torn record: as if there were none
            before = dict(read_json(out / TAGS, "the tags of earlier results", DATA_CAP))
    photo_of = {file: photo for photo in photos for file in kind.paths(photo.name)}
    sources = {}
    for file, photo in photo_of.items():
        tags = sorted(tags_of[photo.name]) if photo.name in tags_of else None
        fits_older = sorted(before.get(photo.name, [])) == (tags or [])
        sources[file] = _source(photo, tags, fits_older)

    def refused(file: str, known: list[object] | None) -> str:
        name = photo_of[file].name
        facts = before.get(name) if known is None else known[0]
        if known is not None and facts == sources[file].facts:
            return f"{out} holds a result of another photo {shown(name)}"
        made = (", ".join(map(str, facts)) or "a row without tags") if isinstance(facts, list) else "no tags"
        return f"{out} holds a result of {name} made with {made}"

    return sources, refused


def _source(photo: PhotoInput, tags: list[str] | None, fits_older: bool) -> MadeFrom:
    if photo.archive is None:
        return made_from([photo.path], tags, fits_older=fits_older)
    facts = photo.archive.getinfo(photo.member)
    known = [facts.file_size, facts.CRC]
    return MadeFrom(tags, lambda: known, lambda: known, fits_older)


def _tiled(segmenter: Segmenter, photo: PhotoInput, crf: bool, kept: bool) -> str:
    within = ", the dense CRF within each tile" if crf and segmenter.settings.crf is not None else ""
    lost = "" if kept else "; its probabilities were too many to keep, so no confidence is given"
    return f"{photo.file_name} is large and was done in tiles of {segmenter.tile} pixels{within}{lost}."
