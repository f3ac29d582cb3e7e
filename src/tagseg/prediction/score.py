"""Score a method's branches on photos with true masks, before and after the dense CRF."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from rich.table import Table
from torch import Tensor

from tagseg.allocator import freed_memory_kept
from tagseg.data.tagged import TaggedImages
from tagseg.distributed import rank, world_size
from tagseg.interrupt import check
from tagseg.mask_values import BACKGROUND
from tagseg.methods import Method
from tagseg.prediction.maps import branch_maps, class_mask, reduced, refine_probabilities, working_probabilities
from tagseg.prediction.segmenter import WHOLE, Request, Segmenter, named, own_threads
from tagseg.prediction.settings import PredictSettings
from tagseg.prediction.work import batched_map, workers_of
from tagseg.progress import tracked
from tagseg.scores import Scores, percent
from tagseg.threads import ordered_map

AFTER = " + CRF"
SINGLE = ", single scale"  # ends the name of a branch that is read in one pass though `predict` says more
READERS = 4  # threads that read photos for a GPU
MASKS = 20  # bytes a pixel that a photo and its masks take
Photo = NDArray[np.uint8]
Masks = dict[str, NDArray[np.uint8]]


@dataclass
class BranchScores:
    """Scores of one branch: over all photos, and the mIoU of each photo by its name."""

    total: Scores
    photos: dict[str, float] = field(default_factory=dict)


@freed_memory_kept()
def score_branches(
    method: Method,
    data: TaggedImages,
    predict: PredictSettings,
    *,
    tags: bool = False,
    crf: bool = True,
    only_final: bool = False,
) -> dict[str, BranchScores]:
    """Scores by branch, and by `<branch> + CRF`: each from one confusion matrix over all photos and processes.

    The last branch is what a trained model predicts: it follows `predict` to the letter, as `Segmenter.predict` does.
    The others show what it is made of, in one pass at the photo's own size. Where `predict` asks for more than one such
    pass, the last branch has a row `<branch>, single scale` too. tags: whether every branch is told the photo's tags;
    without, none is. only_final: the last branch in one pass, under the name `final`, and no other. Other branches of a photo
    beyond four tiles' area, or beyond `largest`, are read with as many pixels.
    """
    was_training = method.training
    reader = _Reader(Segmenter(method, predict), tags=tags, crf=crf and predict.crf is not None, only_final=only_final)
    result: dict[str, BranchScores] = {}

    def add(name: str, index: int, mask: NDArray[np.uint8]) -> None:
        truth = data.mask(index)
        assert truth is not None
        own = Scores(data.num_classes)
        own.add(mask, truth)
        branch = result.setdefault(name, BranchScores(Scores(data.num_classes)))
        branch.total.merge(own)
        if math.isfinite(own.miou):  # a truth of nothing but 255 has no score
            branch.photos[data.photos[index].name] = own.miou

    mine = list(range(rank(), len(data), world_size()))
    pairs = zip(mine, reader.masks(data, mine), strict=True)
    aloud = rank() == 0 and not only_final
    for index, masks in tracked(pairs, "Scoring", len(mine)) if aloud else pairs:
        check()
        for name, mask in masks.items():
            add(name, index, mask)
    method.train(was_training)
    return _over_processes(result, data.num_classes)


@dataclass(frozen=True)
class _Reader:
    """Photos to the masks of every branch, by its name. crf: whether those after the dense CRF are among them."""

    segmenter: Segmenter
    tags: bool
    crf: bool
    only_final: bool

    def masks(self, data: TaggedImages, indices: Sequence[int]) -> Iterator[Masks]:
        """The masks of the photos by the branches' names, in the photos' order."""
        batches = self.segmenter.batches()
        workers = workers_of(self.segmenter.device)

        def open_photo(index: int) -> Request:
            told = tuple(data.classes[tag - 1] for tag in data.photos[index].tags)
            return data.photo(index), told if self.tags else None

        def one(index: int) -> Masks:
            request = open_photo(index)
            work = partial(self.read, threads=own_threads(workers))
            return batches.run(work, [request], pixels=1, what=named(request[0]))[0]

        if batches.most == 1:
            yield from ordered_map(one, indices, workers)
            return
        yield from batched_map(
            self.read,
            ordered_map(open_photo, indices, READERS),
            batches,
            kind=lambda request: request[0].shape,
            pixels=lambda request: request[0].shape[0] * request[0].shape[1],
            held=lambda request: MASKS * request[0].shape[0] * request[0].shape[1],
            what=lambda request: named(request[0]),
        )

    @torch.inference_mode()
    def read(self, requests: Sequence[Request], threads: int | None = None) -> list[Masks]:
        """The masks of photos of one size."""
        segmenter, settings = self.segmenter, self.segmenter.settings
        photos = [photo for photo, _ in requests]
        height, width = photos[0].shape[:2]
        whole = min(WHOLE * segmenter.tile**2, settings.largest or height * width)  # pixels that branches are read with
        small = [reduced(photo, whole) for photo in photos]
        photo_BHW3 = torch.from_numpy(np.stack(small))
        told = [segmenter.tag_vector(tags) for _, tags in requests if tags is not None]
        tag_BC = torch.stack(told) if told else None
        if self.only_final:
            branches = {"final": working_probabilities(segmenter.method, PredictSettings(), photo_BHW3, tag_BC)}
        else:
            branches = branch_maps(segmenter.method, photo_BHW3, tag_BC)
        final, apart = list(branches)[-1], height * width > whole and not self.only_final
        plain = settings.single_scale and (tag_BC is None or settings.tagged_background == 1)
        if apart and plain:
            del branches[final]
        elif not self.only_final and not plain:
            branches[final + SINGLE] = branches.pop(final)
            if not apart:
                branches[final] = segmenter.full_size(photo_BHW3, tag_BC)
        results: list[Masks] = [{} for _ in requests]
        for name, maps in branches.items():
            self._add(results, name, list(maps), small, photos, threads)
        if apart:
            for (photo, tags), masks in zip(requests, results, strict=True):
                for name, crf in ((final, False), *([(final + AFTER, True)] if self.crf else [])):
                    masks[name] = segmenter.predict(photo, tags=tags, crf=crf).mask
        return results

    def _add(
        self,
        results: list[Masks],
        name: str,
        maps: list[Tensor],
        small: Sequence[Photo],
        photos: Sequence[Photo],
        threads: int | None,
    ) -> None:
        """Put the masks of a branch, at the photos' size, before and after the CRF, among the results."""
        kinds = {name: maps}
        if self.crf:
            kinds[name + AFTER] = refine_probabilities(self.segmenter.settings, small, maps, threads)
        for kind, values in kinds.items():
            for masks, probability, photo in zip(results, values, photos, strict=True):
                mask = class_mask(probability)
                rows, columns = (
                    np.arange(full) * part // full for full, part in zip(photo.shape, mask.shape, strict=False)
                )
                masks[kind] = mask if mask.shape == photo.shape[:2] else mask[np.ix_(rows, columns)]


def _over_processes(mine: dict[str, BranchScores], num_classes: int) -> dict[str, BranchScores]:
    """The scores of all processes together; one that had no photo to read knows no branch by itself."""
    if world_size() == 1:
        return mine
    parts: list[dict[str, BranchScores]] = [{} for _ in range(world_size())]
    dist.all_gather_object(parts, mine)
    whole: dict[str, BranchScores] = {}
    for part in parts:
        for name, branch in part.items():
            total = whole.setdefault(name, BranchScores(Scores(num_classes)))
            total.total.merge(branch.total)
            total.photos.update(branch.photos)
    return whole


def summary(branches: dict[str, BranchScores], classes: tuple[str, ...]) -> dict[str, Any]:
    """Scores as plain numbers, in percent."""
    return {name: branch.total.as_dict((BACKGROUND, *classes)) for name, branch in branches.items()}


def spread_indices(count: int, seed: int, total: int) -> Iterator[int]:
    """`count` different indices below `total`, the same for the same seed, in ascending order."""
    generator = np.random.default_rng(seed)
    yield from sorted(generator.choice(total, min(count, total), replace=False).tolist())


def score_table(scores: dict[str, dict[str, Any]], title: str) -> Table:
    """Branches as rows, mIoU before and after the CRF as columns; `scores` as in a run's scores.json."""
    table = Table(title=title)
    table.add_column("branch")
    protocols = list(scores)
    for protocol in protocols:
        table.add_column(f"{protocol}\nbefore CRF", justify="right")
        table.add_column("\nafter CRF", justify="right")
    names = dict.fromkeys(name for p in protocols for name in scores[p] if not name.endswith(AFTER))
    for name in names:
        cells = [
            percent(scores[p][key]["miou"]) if key in scores[p] else ""
            for p in protocols
            for key in (name, name + AFTER)
        ]
        table.add_row(name, *cells)
    return table
