"""A review of a run's or a folder's masks, opened."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tagseg.data.class_lists import listed_classes
from tagseg.data.folders import find_photos, stem
from tagseg.data.paths import held
from tagseg.data.tagged import TaggedImages, open_tagged
from tagseg.errors import UserError
from tagseg.outputs.confidence import CONFIDENCES, Sureness, read_rows
from tagseg.places import check_output
from tagseg.prediction.hub import is_address
from tagseg.review.photo import Photo
from tagseg.review.proposals import FolderProposals, ModelProposals, Proposals
from tagseg.review.session import Session
from tagseg.run_folder import ChainFolder, RunFolder

if TYPE_CHECKING:
    from tagseg.segmenter import Segmenter

Table = Callable[..., TaggedImages]

PROPOSED = "proposed"  # in the folder of the review: masks that the model makes while the page is open


def open_review(
    source: Path,
    folder: Path,
    *,
    images: Path | None = None,
    tags: Path | None = None,
    classes: tuple[str, ...] | None = None,
    model: Path | None = None,
    columns: Mapping[str, Any] | None = None,
    places: Sequence[str] = (),
    say: Callable[[str], Any] = print,
) -> Session:
    """Open the review in `folder`, made where there is none.

    source: a run or chain folder (or exported model), whose model labels photos while the page is open; or a folder of
    masks, named like the photos. images: folder of photos; without it the run's training photos. tags: their table.
    classes: names of the classes 1.. of masks; else a list beside the masks, the model or the tags give them. model: a run
    that labels a photo of a folder of masks again when its tags are corrected; its classes may have another order.
    columns: how the table is read, as `open_tagged` takes it: separator, file_column, tags_column. places: where a run's
    own photos are, as `run_sources` takes it.
    Raises UserError for what is missing or does not fit.
    """
    given: dict[str, Any] = dict(columns or {})
    table: Table = partial(open_tagged, tags=tags, **given)
    check_output(folder, [place for place in (images, tags) if place is not None], "--review")
    title = source.name or source.resolve().name
    named = source
    if not is_address(source) and source.is_dir():
        source = RunFolder.of(source).path  # of a chain its last stage
    is_model = is_address(source) or source.is_file() or RunFolder(source).model.is_file()
    if not is_model and not source.exists():
        raise UserError(f"{source} does not exist: give a run folder, or a folder of masks.")
    if not is_model and RunFolder(source).holds_run():
        raise UserError(f"{source} is not finished: `tagseg train` with the same --out goes on with it.")
    if is_model:
        segmenter = _load(named, folder)
        if model is not None:
            raise UserError(f"{source} labels its photos itself: --model goes with a folder of masks; leave it out.")
        check_own_classes(classes or (), segmenter.classes[1:], source)
        photos = (
            _run_photos(source, places)
            if images is None
            else _photos(images, tags is not None, table, segmenter.classes[1:], say)
        )
        if images is None:
            check_output(folder, {photo.path.parent for photo in photos}, "--review")
        proposals: Proposals = ModelProposals(segmenter, folder / PROPOSED)
    else:
        if images is None:
            raise UserError(f"{source} is a folder of masks: give the folder of the photos too, with --images.")
        check_output(folder, [source], "--review")
        labeler = None if model is None else _load(model, folder)
        names = classes or _class_names(source, images, table if tags is not None else None, labeler)
        photos = _photos(images, tags is not None, table, names, say)
        known = ("background", *names)
        again = None if labeler is None else ModelProposals(labeler, folder / PROPOSED, known)
        proposals = FolderProposals(source, known, _confidences(source), again)
        if not any(photo.name in proposals.files for photo in photos):
            raise UserError(
                f"{source} has no mask of any photo in {images}: masks are named like their photos, such as "
                f"{photos[0].name}.png"
            )
    return Session(folder, photos, proposals, title=title)


def _load(run: Path, review: Path) -> Segmenter:
    """A model, whose run and chain the review keeps away from."""
    from tagseg.segmenter import load  # torch is not needed to look at a folder of masks

    segmenter, chain = load(run), ChainFolder(run)
    check_output(review, [*segmenter.places, *(chain.places() if chain.record.is_file() else [])], "--review")
    return segmenter


def _run_photos(run: Path, places: Sequence[str]) -> list[Photo]:
    from tagseg.workflows.opened import run_sources

    data = run_sources(run, places).train
    return [Photo(p.name, p.photo, tuple(data.classes[k - 1] for k in p.tags)) for p in data.photos]


def _photos(
    images: Path, tagged: bool, table: Table, classes: tuple[str, ...], say: Callable[[str], Any]
) -> list[Photo]:
    """All photos of a folder, with their tags where the table has a row for them."""
    known: dict[str, tuple[str, ...]] = {}
    if tagged:
        data = table(images, classes=classes)
        known = {p.name: tuple(data.classes[k - 1] for k in p.tags) for p in data.photos}
    photos: dict[str, Photo] = {}
    for file, path in find_photos(images).items():
        name = stem(file)
        if name in photos:
            say(f"{file} is left out: {photos[name].path.name} has the same name but for the suffix.")
        else:
            photos[name] = Photo(name, path, known.get(name))
    if not photos:
        raise UserError(f"{images} holds no photo (jpg, png, webp, bmp, tif, gif).")
    return list(photos.values())


def _class_names(masks: Path, images: Path, table: Table | None, model: Segmenter | None) -> tuple[str, ...]:
    names = listed_classes(masks)
    if names:
        return names
    if model is not None:
        return model.classes[1:]
    if table is not None:
        return table(images).classes
    raise UserError(f"The classes of {masks} are not known: give their names in order with --classes cat,dog.")


def check_own_classes(given: Sequence[str], own: Sequence[str], source: Path) -> None:
    """Raise UserError for classes 1.. other than those that a source names itself: they would do nothing."""
    if given and tuple(given) != tuple(own):
        raise UserError(f"{source} has the classes {', '.join(own)}: leave --classes out.")


def _confidences(masks: Path) -> dict[str, Sureness]:
    file = held(masks / CONFIDENCES, masks)
    return read_rows(file) if file.is_file() else {}
