"""Parts of one photo laid over another, with their labels and tags: boxes (CutMix), or the objects of a tag.

Shapes: B photos, C classes, H W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Tensor

from tagseg.mask_values import IGNORE
from tagseg.seeded import generators
from tagseg.settings import Settings, Share

PURPOSE = 13  # of these numbers, among what is drawn from a photo's seed
KEPT = 0.3  # share of an object's pixels from which on its tag still holds
SMALLEST, LARGEST = 0.02, 0.4  # share of the crop that pasted objects cover


class MixingSettings(Settings):
    """How often a photo gets a part of the next one of its batch."""

    boxes: float = Field(0.0, ge=0, le=1, description="share of photos with a box of the next photo (CutMix)")
    box_area: tuple[Share, Share] = Field((0.1, 0.4), description="range of the box's area, against the crop's")
    objects: float = Field(
        0.0, ge=0, le=1, description="share of photos with the objects of the next photo but one whose tags they lack"
    )


@dataclass
class Mixed:
    """What lies over which photo, and the tags that follow.

    over_BHW: where another photo lies over a photo. other_B: which one. tag_BC: 1 where the class is there. known_BC: False
    where it is not known whether what is left of an object is enough to be seen.
    """

    over_BHW: Tensor
    other_B: Tensor
    tag_BC: Tensor
    known_BC: Tensor

    def laid(self, map_BHW: Tensor) -> Tensor:
        """Maps (B, H, W) or photos (B, 3, H, W) with parts of the others laid over them."""
        over = self.over_BHW if map_BHW.ndim == 3 else self.over_BHW[:, None]
        return torch.where(over, map_BHW[self.other_B], map_BHW)


def mixed(label_BHW: Tensor, tag_BC: Tensor, seed_B: Tensor, settings: MixingSettings) -> Mixed:
    """Which parts of the photos of a batch go over others, from labels (uint8, 255 unknown), tags and seeds.

    A tag holds where 3 of 10 pixels labeled so are left, and is unknown where fewer are.
    """
    count, height, width = label_BHW.shape
    device = label_BHW.device
    drawn_Bn = torch.stack([torch.rand(5, generator=g, dtype=torch.float64) for g in generators(seed_B, PURPOSE)])
    boxed_B = (drawn_Bn[:, 0] < settings.boxes) & (count > 1)
    pasted_B = ~boxed_B & (drawn_Bn[:, 1] < settings.objects) & (count > 1)
    pasted = torch.arange(count).roll(-2 if count > 2 else -1)  # of two photos the second next is the photo itself
    other_B = torch.where(pasted_B, pasted, torch.arange(count).roll(-1)).to(device)
    over_BHW = _boxes(drawn_Bn, settings.box_area, height, width).to(device) & boxed_B.to(device)[:, None, None]
    over_BHW |= _objects(label_BHW[other_B], tag_BC) & pasted_B.to(device)[:, None, None]

    kept_BC = _share(label_BHW, ~over_BHW, tag_BC)
    added_BC = _share(label_BHW[other_B], over_BHW, tag_BC[other_B])
    touched_B1 = over_BHW.flatten(1).any(1, keepdim=True)
    # a photo that nothing lies over has its tags, even where no pixel is labeled so
    present_BC = torch.where(touched_B1, (kept_BC >= KEPT) | (added_BC >= KEPT), tag_BC > 0)
    either_BC = (tag_BC > 0) | (tag_BC[other_B] > 0)
    known_BC = present_BC | ~either_BC | ~touched_B1
    return Mixed(over_BHW, other_B, present_BC.to(tag_BC.dtype), known_BC)


def _boxes(drawn_Bn: Tensor, area: tuple[float, float], height: int, width: int) -> Tensor:
    """One box a photo as a mask (B, H, W), of the crop's shape."""
    side_B = (area[0] + (area[1] - area[0]) * drawn_Bn[:, 2]).sqrt()
    boxes = torch.zeros(len(drawn_Bn), height, width, dtype=torch.bool)
    for box_HW, side, (y, x) in zip(boxes, side_B.tolist(), drawn_Bn[:, 3:5].tolist(), strict=True):
        rows, columns = max(round(side * height), 1), max(round(side * width), 1)
        top, left = int(y * (height - rows + 1)), int(x * (width - columns + 1))
        box_HW[top : top + rows, left : left + columns] = True
    return boxes


def _objects(label_BHW: Tensor, tag_BC: Tensor) -> Tensor:
    """Where a photo (B, H, W) shows objects, of a sensible size, of classes that the photo they go to is not tagged with."""
    known_BHW = (label_BHW > 0) & (label_BHW != IGNORE)
    index_BHW = torch.where(known_BHW, label_BHW, 1).long() - 1
    absent_BHW = tag_BC.gather(1, index_BHW.flatten(1)).view(index_BHW.shape) == 0
    objects_BHW = known_BHW & absent_BHW
    share_B = objects_BHW.flatten(1).float().mean(1)
    return objects_BHW & ((share_B >= SMALLEST) & (share_B <= LARGEST))[:, None, None]


def _share(label_BHW: Tensor, where_BHW: Tensor, tag_BC: Tensor) -> Tensor:
    """The share (B, C) of each tagged class's labeled pixels that lie in a region; 0 where it has none."""
    classes_C = torch.arange(1, tag_BC.shape[1] + 1, device=label_BHW.device, dtype=label_BHW.dtype)
    is_class_BCHW = label_BHW[:, None] == classes_C[:, None, None]
    total_BC = is_class_BCHW.flatten(2).sum(2)
    inside_BC = (is_class_BCHW & where_BHW[:, None]).flatten(2).sum(2)
    return inside_BC / total_BC.clamp(min=1) * (tag_BC > 0)
