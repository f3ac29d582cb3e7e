"""Labels whose background is the segmentation's own: background-aware propagation (BMP).

A power of the CAM, or a fixed score, cannot tell the body of an animal, which a classifier hardly needs, from grass. The
segmentation can: its background, stretched over each photo, competes with the CAMs of the tagged classes.

Shapes: B photos, C classes, K = C + 1, H W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from tagseg.cues.cam_labels import refined_size
from tagseg.cues.views import map_views, min_max
from tagseg.data.batch import Facts
from tagseg.mask_values import IGNORE
from tagseg.precision import Precision
from tagseg.refine import PixelAdaptive, fused
from tagseg.resize import resize, size_of
from tagseg.settings import Settings, Steps, Weight


class BackgroundAwareSettings(Settings):
    """Labels whose background is that of the segmentation which they teach."""

    LATER: ClassVar[tuple[str, ...]] = ("own_view",)
    RENAMED: ClassVar[Mapping[str, str]] = {"confidence": "min_score"}
    GONE: ClassVar[Mapping[str, object]] = {"refine": "par", "iterations": 10, "scale": 0.5, "flip": True}

    from_step: Steps | None = Field(None, description="step from which these labels teach; none: never")
    min_score: Weight = Field(0.0, description="score below which a pixel is left out")
    own_view: Literal["training", "evaluated"] = Field(
        "training",
        description="the photo's own view: what the training pass gave, with dropout and the batch's statistics, or read "
        "anew as the other views are",
    )

    def at(self, step: int) -> bool:
        """Whether these labels teach at a step."""
        return self.from_step is not None and step >= self.from_step


def background_odds(logit_BKHW: Tensor) -> Tensor:
    """The log of background's odds (B, 1, H, W): under a softmax its logit alone says nothing, only differences do."""
    return logit_BKHW[:, :1] - logit_BKHW[:, 1:].logsumexp(1, keepdim=True)


@torch.no_grad()
def background_and_cam(
    maps: Callable[[Tensor], Tensor],
    image_B3HW: Tensor,
    scales: Sequence[float],
    flip: bool = True,
    known_BKHW: Tensor | None = None,
    *,
    smallest: int = 1,
    precision: Precision | None = None,
) -> tuple[Tensor, Tensor]:
    """The segmentation's background (B, H, W) and the CAM (B, C, H, W) over scales and mirror images, in [0, 1).

    maps: photos (B, 3, H, W) in [0, 1] to the segmentation's logit of background and the CAM before its ReLU (B, K, h, w).
    known_BKHW: those of the photo itself, where they are already there. smallest, precision: as for `map_views`.
    """
    total_B1HW, cam_BCHW = image_B3HW.new_zeros(1), image_B3HW.new_zeros(1)
    views = map_views(maps, image_B3HW, scales, flip, known_BKHW, smallest=smallest, precision=precision)
    for plain, mirrored in views:
        total_B1HW = total_B1HW + (plain[:, :1] + mirrored[:, :1]) / 2
        cam_BCHW = cam_BCHW + torch.maximum(plain, mirrored)[:, 1:].relu()
    return min_max(total_B1HW)[:, 0], min_max(cam_BCHW)


@torch.no_grad()
def background_scores(
    image_B3HW: Tensor,
    valid_BHW: Tensor,
    background_BHW: Tensor,
    cam_BCHW: Tensor,
    tag_BC: Tensor,
    refine: PixelAdaptive | None,
    scale: float = 0.5,
    facts: Sequence[Facts] | None = None,
) -> Tensor:
    """Scores (B, K, H, W) of the segmentation's background and the tagged CAMs, refined within each photo.

    0 for absent classes and in padding. scale: size at which maps are refined, against the photo.
    facts: what the host knows of the photos; with it a device is not asked, and refines all photos together.
    """
    if facts is not None and fused.batched(image_B3HW.device):
        return background_scores_batched(image_B3HW, background_BHW, cam_BCHW, facts, refine, scale)
    result_BKHW = cam_BCHW.new_zeros(len(cam_BCHW), cam_BCHW.shape[1] + 1, *cam_BCHW.shape[2:])
    for n, valid_HW in enumerate(valid_BHW):
        if not valid_HW.any():
            continue
        rows, columns = _box(valid_HW)
        tags = tag_BC[n].nonzero().flatten()
        score_LHW = torch.cat([background_BHW[n : n + 1], cam_BCHW[n, tags]])[:, rows, columns]
        size = size_of(score_LHW)
        small = refined_size(size, scale)
        score = resize(score_LHW[None], small)
        if refine is not None:
            score = refine(resize(image_B3HW[n : n + 1, :, rows, columns], small), score)
        result_BKHW[n, :, rows, columns].index_copy_(0, F.pad(tags + 1, (1, 0)), resize(score.float(), size)[0])
    return result_BKHW


@torch.no_grad()
def background_scores_batched(
    image_B3HW: Tensor,
    background_BHW: Tensor,
    cam_BCHW: Tensor,
    facts: Sequence[Facts],
    refine: PixelAdaptive | None,
    scale: float = 0.5,
) -> Tensor:
    """The scores of `background_scores`, all photos refined together.

    Each photo lies in the top left corner of a batch as large as the largest.
    """
    device = image_B3HW.device
    most = max((len(one.tags) for one in facts), default=0)
    rows_BP = [[*one.tags, *[0] * (most - len(one.tags))] for one in facts]
    here_BP = [[1.0] * len(one.tags) + [0.0] * (most - len(one.tags)) for one in facts]
    index_BP = torch.tensor(rows_BP, dtype=torch.int64).view(-1, most).to(device, non_blocking=True)
    present_BP = torch.tensor(here_BP).view(-1, most).to(device, non_blocking=True)
    index_BP11, present_BP11 = index_BP[:, :, None, None], present_BP[:, :, None, None]
    cam_BPHW = cam_BCHW.gather(1, index_BP11.expand(-1, -1, *cam_BCHW.shape[2:]))
    score_BSHW = torch.cat([background_BHW[:, None], cam_BPHW * present_BP11], 1)

    sizes = [
        refined_size((one.box[1] - one.box[0], one.box[3] - one.box[2]), scale) if one.box else None for one in facts
    ]
    known = [size or (1, 1) for size in sizes]
    height, width = max(size[0] for size in known), max(size[1] for size in known)
    image_B3hw = image_B3HW.new_zeros(len(facts), 3, height, width)
    score_BShw = score_BSHW.new_zeros(len(facts), most + 1, height, width)
    result_BSHW = torch.zeros_like(score_BSHW)
    for photos, box, size in _alike(facts, sizes):
        rows, columns = slice(*box[:2]), slice(*box[2:])
        image_B3hw[photos, :, : size[0], : size[1]] = resize(image_B3HW[photos, :, rows, columns], size)
        score_BShw[photos, :, : size[0], : size[1]] = resize(score_BSHW[photos, :, rows, columns], size)
    if refine is not None:
        score_BShw = refine(image_B3hw, score_BShw, known)
    for photos, box, size in _alike(facts, sizes):
        part = resize(score_BShw[photos, :, : size[0], : size[1]].float(), (box[1] - box[0], box[3] - box[2]))
        result_BSHW[photos, :, slice(*box[:2]), slice(*box[2:])] = part
    result_BKHW = cam_BCHW.new_zeros(len(facts), cam_BCHW.shape[1] + 1, *cam_BCHW.shape[2:])
    result_BKHW[:, 0] = result_BSHW[:, 0]
    objects = result_BKHW[:, 1:]
    objects.scatter_add_(1, index_BP11.expand_as(cam_BPHW), result_BSHW[:, 1:] * present_BP11)
    return result_BKHW


def _alike(
    facts: Sequence[Facts], sizes: Sequence[tuple[int, int] | None]
) -> Iterator[tuple[slice, tuple[int, int, int, int], tuple[int, int]]]:
    """Runs of photos that fill the same box of their crop, with it and the size at which they are refined."""
    first = 0
    for end in range(1, len(facts) + 1):
        if end == len(facts) or facts[end].box != facts[first].box:
            box, size = facts[first].box, sizes[first]
            if box is not None and size is not None:
                yield slice(first, end), box, size
            first = end


@torch.no_grad()
def background_labels(score_BKHW: Tensor, valid_BHW: Tensor, min_score: float = 0.0) -> Tensor:
    """The class of the highest score (B, H, W) uint8, 255 where that is below `min_score` and in padding."""
    value_BHW, label_BHW = score_BKHW.max(1)
    return torch.where(valid_BHW & (value_BHW >= min_score), label_BHW, IGNORE).to(torch.uint8)


def _box(valid_HW: Tensor) -> tuple[slice, slice]:
    """The rows and columns that the photo fills of a padded crop."""
    rows, columns = valid_HW.any(1).nonzero().flatten(), valid_HW.any(0).nonzero().flatten()
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
