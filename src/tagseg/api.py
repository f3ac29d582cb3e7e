"""tagseg's functions as a program calls them: paths as text or Path, recipes and models by name or as objects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tagseg.data.check import CheckResult, check_photos
from tagseg.data.classes import check_classes
from tagseg.data.mask_numbers import TagTable
from tagseg.data.photo import PIXEL_CAP
from tagseg.data.sources import DataSettings
from tagseg.data.tagged import TaggedImages
from tagseg.data.tagged import open_tagged as _open_tagged
from tagseg.devices import AUTO
from tagseg.errors import UserError
from tagseg.prediction.load import load
from tagseg.prediction.segmenter import Segmenter
from tagseg.recipe import Recipe
from tagseg.workflows import evaluate as evaluating
from tagseg.workflows import label as labeling
from tagseg.workflows import predict as predicting
from tagseg.workflows import run as running
from tagseg.workflows import train as training
from tagseg.workflows.chain import Chain
from tagseg.workflows.own_photos import check_beside, own_chain, own_data, own_recipe, with_review
from tagseg.workflows.trusted import given_chain, given_recipe

StrPath = str | Path
Model = Segmenter | StrPath


def train(
    recipe: Recipe | StrPath | None = None,
    out: StrPath = "run",
    *,
    images: StrPath | None = None,
    tags: StrPath | None = None,
    masks: StrPath | None = None,
    classes: Sequence[str] | None = None,
    separator: str | None = None,
    file_column: str | None = None,
    tags_column: str | None = None,
    review: StrPath | None = None,
    method: str | None = None,
    settings: Sequence[str] = (),
    overwrite: bool = False,
    device: str = AUTO,
    say: Callable[[str], object] = print,
) -> Path:
    """Train a recipe, or own photos without one, into the run folder `out`, and return it.

    recipe: an object, the name of a shipped one, or a YAML file. images, tags, masks, classes, method: own photos in place
    of a recipe, as for `tagseg train`. separator, file_column, tags_column: how the table is read, as `open_tagged` takes
    them. review: the folder of `tagseg review`, whose accepted and corrected masks count in full. settings: texts such as
    "train.steps=100". The same call goes on with an unfinished run and leaves a finished one alone.
    Raises UserError for a mistake, KeyboardInterrupt when asked to stop.
    """
    if (recipe is None) == (images is None):
        raise UserError("Give either a recipe or images to tagseg.train.")
    own = _Own(tags, masks, classes, separator, file_column, tags_column)
    if recipe is not None:
        own.check_beside("recipe", method)
    if images is not None:
        data = own.data(images, review)
        chosen = own_recipe(data, method, list(settings), device=device, say=say)
    elif isinstance(recipe, Recipe):
        if settings or review is not None:
            raise UserError(
                "settings and review change a recipe that is given by its name; this one is an object already."
            )
        chosen = recipe
    else:
        chosen = given_recipe(str(recipe), with_review(settings, _path(review)))
    return training.train(chosen, Path(out), overwrite=overwrite, device=device, say=say)


def run(
    chain: Chain | StrPath | None = None,
    out: StrPath = "chain",
    *,
    images: StrPath | None = None,
    tags: StrPath | None = None,
    masks: StrPath | None = None,
    classes: Sequence[str] | None = None,
    separator: str | None = None,
    file_column: str | None = None,
    tags_column: str | None = None,
    review: StrPath | None = None,
    method: str | None = None,
    settings: Sequence[str] = (),
    device: str = AUTO,
    say: Callable[[str], object] = print,
) -> Path:
    """Carry out a whole chain, shipped, of a file, or for own photos, in the folder `out`, and return its report.

    Arguments as for `train`. The same call goes on with an unfinished chain; stages that are done are kept.
    """
    if (chain is None) == (images is None):
        raise UserError("Give either a chain or images to tagseg.run.")
    own = _Own(tags, masks, classes, separator, file_column, tags_column)
    if chain is not None:
        own.check_beside("chain", method)
    if images is not None:
        data = own.data(images, review)
        chosen = own_chain(data, method, list(settings), device=device, say=say)
    elif isinstance(chain, Chain):
        if settings or review is not None:
            raise UserError(
                "settings and review change a chain that is given by its name; this one is an object already."
            )
        chosen = chain
    else:
        chosen = given_chain(str(chain), with_review(settings, _path(review)))
    return running.run(chosen, Path(out), device=device, say=say)


def label(
    model: Model,
    data: TaggedImages | None,
    out: StrPath,
    *,
    confidence: float = 0.0,
    tags: bool = True,
    overwrite: bool = False,
    places: Sequence[str] = (),
    device: str = AUTO,
) -> int:
    """Write a mask for each tagged photo to `out`, the tags used, and return how many were written now.

    model: a segmenter, or a run folder. data: of `open_tagged`; None: the photos that the run was trained on.
    confidence: below this probability a pixel is 255, ignored. tags: False lets absent classes appear. places: where the
    run's photos are, if not where it says, as texts "data.root=DIR". device: of a run that is given by its folder.
    """
    if data is not None and places:
        raise UserError("places say where the photos of the run are, data names others: give one of them.")
    segmenter = _segmenter(model, device)
    if data is not None:
        return labeling.label(segmenter, data, Path(out), confidence=confidence, tags=tags, overwrite=overwrite)
    if isinstance(model, Segmenter):
        raise UserError("tagseg.label needs the photos (data=open_tagged(...)), or a run folder in place of the model.")
    more: dict[str, Any] = {"confidence": confidence, "tags": tags, "overwrite": overwrite, "places": places}
    return labeling.label_run(segmenter, Path(model), Path(out), **more)[0]


def predict(
    model: Model,
    images: StrPath | Sequence[StrPath],
    out: StrPath,
    *,
    format: str = "png",
    crf: bool = True,
    tags: StrPath | None = None,
    classes: Sequence[str] | None = None,
    separator: str | None = None,
    file_column: str | None = None,
    tags_column: str | None = None,
    pixel_cap: int = PIXEL_CAP,
    photo_url: str | None = None,
    overwrite: bool = False,
    dry_run: bool = False,
    device: str = AUTO,
) -> predicting.Predicted:
    """Segment photos and write the results to `out`: png, overlay, coco, yolo, label-studio, cvat and others.

    model: a segmenter, a run folder, or a file of `tagseg export`. images: folders, photos, .zip, lists of paths.
    tags: a table of tags, used for the photos that it names; classes: the names in it, the model's unless fewer are given;
    separator, file_column, tags_column: how it is read. photo_url: of Label Studio's tasks. dry_run: photos are counted,
    nothing is written. device: of a model that is given by its place. Returns what was done, and a sentence about each problem.
    """
    return predicting.predict(
        _segmenter(model, device),
        images,
        Path(out),
        format=format,
        crf=crf,
        tags=_path(tags),
        classes=classes,
        separator=separator,
        file_column=file_column,
        tags_column=tags_column,
        pixel_cap=pixel_cap,
        photo_url=photo_url,
        overwrite=overwrite,
        dry_run=dry_run,
    )


def evaluate(
    masks: StrPath,
    truth: StrPath,
    *,
    split: str | None = None,
    classes: Sequence[str] | None = None,
    tags: StrPath | None = None,
    separator: str | None = None,
    file_column: str | None = None,
    tags_column: str | None = None,
    labels_used: str = "",
    boundary: bool = True,
) -> evaluating.Evaluation:
    """Score a folder of masks against true masks of the same names, from one confusion matrix.

    truth: a folder of masks, or one in VOC's layout with a `split`. classes: their names in order. tags: a table of the
    photos' tags, whose classes the true masks should hold; separator, file_column, tags_column: how it is read.
    """
    known = None if tags is None else TagTable(Path(tags), separator, file_column, tags_column, classes)
    return evaluating.evaluate(
        Path(masks), Path(truth), split=split, classes=classes, labels_used=labels_used, boundary=boundary, tags=known
    )


def check(
    images: StrPath,
    tags: StrPath | None = None,
    *,
    masks: StrPath | None = None,
    classes: Sequence[str] | None = None,
    separator: str | None = None,
    file_column: str | None = None,
    tags_column: str | None = None,
) -> CheckResult:
    """Read every photo, tag and mask once; what is there, and what is wrong."""
    return check_photos(
        Path(images),
        _path(tags),
        masks=_path(masks),
        classes=classes,
        separator=separator,
        file_column=file_column,
        tags_column=tags_column,
    )


def open_tagged(
    images: StrPath,
    tags: StrPath | None = None,
    *,
    masks: StrPath | None = None,
    classes: Sequence[str] | None = None,
    separator: str | None = None,
    file_column: str | None = None,
    tags_column: str | None = None,
) -> TaggedImages:
    """A folder of photos with a table of tags, or with one folder for each class.

    Raises UserError where the tags or the photos cannot be used.
    """
    return _open_tagged(
        Path(images),
        _path(tags),
        masks=_path(masks),
        classes=classes,
        separator=separator,
        file_column=file_column,
        tags_column=tags_column,
    )


@dataclass(frozen=True)
class _Own:
    """What `train` and `run` are told of own photos, besides their folder."""

    tags: StrPath | None
    masks: StrPath | None
    classes: Sequence[str] | None
    separator: str | None
    file_column: str | None
    tags_column: str | None

    def data(self, images: StrPath, review: StrPath | None) -> DataSettings:
        names = None if self.classes is None else check_classes(self.classes)
        columns = (self.separator, self.file_column, self.tags_column)
        return own_data(Path(images), _path(self.tags), _path(self.masks), names, *columns, _path(review))

    def check_beside(self, what: str, method: str | None) -> None:
        check_beside(what, **vars(self), method=method)


def _segmenter(model: Model, device: str) -> Segmenter:
    return model if isinstance(model, Segmenter) else load(model, device=device)


def _path(given: StrPath | None) -> Path | None:
    return None if given is None else Path(given)
