"""Score a method's branches on photos with true masks, before and after the dense CRF."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from rich.table import Table
from torch import Tensor

from tagseg.data.tagged import TaggedImages
from tagseg.distributed import rank, world_size
from tagseg.inference import PredictSettings, class_mask
from tagseg.interrupt import check
from tagseg.methods import Method
from tagseg.scores import Scores
from tagseg.segmenter import BACKGROUND, refine_probabilities

AFTER = " + CRF"
CHUNK = 8  # photos whose CRFs run together, over all cores


@dataclass
class BranchScores:
    """Scores of one branch: over all photos, and the mIoU of each photo by its name."""

    total: Scores
    photos: dict[str, float] = field(default_factory=dict)


@torch.inference_mode()
def score_branches(
    method: Method,
    data: TaggedImages,
    predict: PredictSettings,
    *,
    tags: bool = False,
    crf: bool = True,
    only_final: bool = False,
    progress: Callable[[int], None] | None = None,
) -> dict[str, BranchScores]:
    """Scores by branch, and by `<branch> + CRF`: each from one confusion matrix over all photos and processes.

    tags: whether every branch is told the photo's tags; without, none is. only_final: what `segment` gives, and no other
    branch. Photos are read one by one at their stored size.
    """
    was_training = method.training
    method.eval()
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
    for start in range(0, len(mine), CHUNK):
        check()
        chunk = mine[start : start + CHUNK]
        photos = [data.photo(index) for index in chunk]
        read = final_probabilities if only_final else branch_probabilities
        branches = [read(method, p, data.tag_vector(i) if tags else None) for p, i in zip(photos, chunk, strict=True)]
        for name in branches[0]:
            maps = [branch[name] for branch in branches]
            for index, probability in zip(chunk, maps, strict=True):
                add(name, index, class_mask(probability))
            if crf and predict.crf is not None:
                for index, probability in zip(chunk, refine_probabilities(predict, photos, maps), strict=True):
                    add(name + AFTER, index, class_mask(probability))
        if progress is not None:
            progress(len(chunk))
    method.train(was_training)
    return _over_processes(result, data.num_classes)


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


def branch_probabilities(
    method: Method, photo: NDArray[np.uint8], tag_C: NDArray[np.float32] | None
) -> dict[str, Tensor]:
    """Probabilities (K, H, W) of each branch on one photo; with tags, absent classes are left out of every branch."""
    image_13HW, tag_1C = image_and_tags(method, photo, tag_C)
    branches = {name: p[0] for name, p in method.branches(image_13HW, tag_1C).items()}
    if tag_1C is not None:
        allowed = torch.cat([tag_1C.new_ones(1), tag_1C[0]])[:, None, None]
        branches = {name: p * allowed / (p * allowed).sum(0).clamp(min=1e-8) for name, p in branches.items()}
    return branches


def final_probabilities(
    method: Method, photo: NDArray[np.uint8], tag_C: NDArray[np.float32] | None
) -> dict[str, Tensor]:
    """Probabilities (K, H, W) of what the method returns in the end, under the name `final`."""
    image_13HW, tag_1C = image_and_tags(method, photo, tag_C)
    probability = method.segment(image_13HW) if tag_1C is None else method.segment_tagged(image_13HW, tag_1C)
    return {"final": probability[0]}


def image_and_tags(
    method: Method, photo: NDArray[np.uint8], tag_C: NDArray[np.float32] | None
) -> tuple[Tensor, Tensor | None]:
    """One photo as a batch in [0, 1] (1, 3, H, W) and its tags (1, C), on the method's device."""
    device = next(method.parameters()).device
    image_13HW = torch.from_numpy(np.ascontiguousarray(photo)).to(device).permute(2, 0, 1)[None].float() / 255
    return image_13HW, None if tag_C is None else torch.from_numpy(tag_C)[None].to(device)


def summary(branches: dict[str, BranchScores], classes: tuple[str, ...]) -> dict[str, Any]:
    """Scores as plain numbers, in percent."""
    return {name: branch.total.as_dict((BACKGROUND, *classes)) for name, branch in branches.items()}


def spread_indices(count: int, seed: int, total: int) -> Iterator[int]:
    """`count` different indices below `total`, the same for the same seed, in ascending order."""
    generator = np.random.default_rng(seed)
    yield from sorted(generator.choice(total, min(count, total), replace=False).tolist())


def percent(score: float | None) -> str:
    """A score with one decimal; a dash where there is none, as when every true pixel is ignored."""
    return "-" if score is None else f"{score:.1f}"


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
