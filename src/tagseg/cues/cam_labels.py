"""Labels from a CAM refined by the photo, with two background scores that have to agree (AFA, TSCD).

Shapes: B photos, C classes, K = C + 1, P tags of the photo that has most, S = P + 1, H W pixels, h w half of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field, field_validator
from torch import Tensor

from tagseg.mask_values import IGNORE
from tagseg.refine import PixelAdaptive
from tagseg.refine.settings import Refinement, RefinementSettings
from tagseg.resize import resize, size_of
from tagseg.settings import Share

BACKGROUND_SCORES = (0.35, 0.55)


class CamLabelSettings(RefinementSettings):
    """How the CAM becomes labels: two background scores that have to agree, and a refinement by the photo."""

    RENAMED: ClassVar[Mapping[str, str]] = {
        "background": "background_scores",
        "mask_background": "mask_background_score",
    }
    GONE: ClassVar[Mapping[str, object]] = {"walk_from": None}

    background_scores: tuple[Share, Share] = Field(BACKGROUND_SCORES, description="low and high background score")
    mask_background_score: float = Field(
        0.45, gt=0, lt=1, description="background score where the CAM is read as a mask"
    )

    @field_validator("background_scores")
    @classmethod
    def _in_order(cls, scores: tuple[float, float]) -> tuple[float, float]:
        if scores[0] > scores[1]:
            raise ValueError(f"should be two numbers, the smaller one first, and is [{scores[0]}, {scores[1]}]")
        return scores


class CamMaskSettings(RefinementSettings):
    """How a CAM is read as a mask: against background scores, refined by the photo."""

    refine: Refinement = "par"
    background_scores: tuple[Share, ...] = Field(
        BACKGROUND_SCORES, min_length=1, description="of background, where the CAM is at most 1; their mean counts"
    )

    def probabilities(self, image_B3HW: Tensor, cam_BCHW: Tensor, tag_BC: Tensor) -> Tensor:
        """Probabilities (B, K, H, W) of photos in [0, 1] from the CAMs of their tags."""
        refine = self.refiner()
        masks = (
            refined_cam(image_B3HW, cam_BCHW, tag_BC, refine, score, self.scale) for score in self.background_scores
        )
        return sum(masks, start=torch.zeros((), device=image_B3HW.device)) / len(self.background_scores)


@dataclass
class TaggedStack:
    """Background and each photo's own tags, tagged classes first, so that a batch needs few channels.

    cam_BPHW: 0 where a photo has fewer tags. present_BS and class_BS: whether a channel is one of the photo's, and
    the class it holds.
    """

    cam_BPHW: Tensor
    present_BS: Tensor
    class_BS: Tensor

    @classmethod
    def of(cls, cam_BCHW: Tensor, tag_BC: Tensor, most: int | None = None) -> TaggedStack:
        """The CAMs of tagged classes; most: tags of the photo that has most, where the host knows."""
        tagged_BC = tag_BC > 0
        most = int(tagged_BC.sum(1).max()) if most is None else most
        order_BP = tagged_BC.float().argsort(dim=1, descending=True, stable=True)[:, :most]
        present_BP = tagged_BC.gather(1, order_BP)
        cam_BPHW = cam_BCHW.gather(1, order_BP[:, :, None, None].expand(-1, -1, *cam_BCHW.shape[2:]))
        return cls(
            cam_BPHW * present_BP[:, :, None, None],
            F.pad(present_BP, (1, 0), value=True),
            F.pad(order_BP + 1, (1, 0), value=0),
        )

    def probabilities(self, background: float, size: tuple[int, int]) -> Tensor:
        """Softmax over a constant background score and the CAMs (B, S, *size); 0 in channels a photo does not have."""
        score_BShw = F.pad(resize(self.cam_BPHW, size), (0, 0, 0, 0, 1, 0), value=background)
        return score_BShw.masked_fill(~self.present_BS[:, :, None, None], -torch.inf).softmax(1)

    def classes(self, channel_BHW: Tensor) -> Tensor:
        """Class indices of channel numbers."""
        return self.class_BS.gather(1, channel_BHW.flatten(1)).view_as(channel_BHW)

    def scatter(self, value_BSHW: Tensor, num_classes: int) -> Tensor:
        """Channels back to classes (B, K, H, W), 0 for those without a tag."""
        whole_BKHW = value_BSHW.new_zeros(len(value_BSHW), num_classes, *value_BSHW.shape[2:])
        index = self.class_BS[:, :, None, None].expand_as(value_BSHW)
        return whole_BKHW.scatter_add_(1, index, value_BSHW * self.present_BS[:, :, None, None])


@torch.no_grad()
def cam_labels(
    image_B3HW: Tensor,
    cam_BCHW: Tensor,
    tag_BC: Tensor,
    valid_BHW: Tensor,
    settings: CamLabelSettings,
    *,
    most: int | None = None,
) -> Tensor:
    """Labels (B, H, W) uint8: a class where it beats the high background score, 0 where even the low one beats it.

    Elsewhere, and in padding, 255. image: RGB in [0, 1]. cam: in [0, 1].
    most: tags of the photo that has most, where the host knows it; else a device is asked.
    """
    size = size_of(image_B3HW)
    small = refined_size(size, settings.scale)
    stack = TaggedStack.of(cam_BCHW, tag_BC, most)
    both = torch.cat([stack.probabilities(score, small) for score in settings.background_scores], 1)
    refine = settings.refiner()
    if refine is not None:
        both = refine(resize(image_B3HW, small), both)
    low_BHW, high_BHW = (stack.classes(part.argmax(1)) for part in resize(both, size).chunk(2, 1))
    label_BHW = torch.where(high_BHW > 0, high_BHW, IGNORE)
    label_BHW = torch.where((high_BHW == 0) & (low_BHW == 0), 0, label_BHW)
    return torch.where(valid_BHW, label_BHW, IGNORE).to(torch.uint8)


@torch.no_grad()
def refined_cam(
    image_B3HW: Tensor,
    cam_BCHW: Tensor,
    tag_BC: Tensor,
    refine: PixelAdaptive | None,
    background: float = 0.45,
    scale: float = 0.5,
) -> Tensor:
    """The CAM of tagged classes against one background score (B, K, H, W), which sums to 1, refined as labels are.

    scale: size at which the maps are refined, against the photo.
    """
    size = size_of(image_B3HW)
    stack = TaggedStack.of(cam_BCHW, tag_BC)
    if refine is None:
        probability_BSHW = stack.probabilities(background, size)
    else:
        small = refined_size(size, scale)
        refined_BShw = refine(resize(image_B3HW, small), stack.probabilities(background, small))
        probability_BSHW = resize(refined_BShw.clamp(min=0), size)
    probability_BKHW = stack.scatter(probability_BSHW, cam_BCHW.shape[1] + 1)
    return probability_BKHW / probability_BKHW.sum(1, keepdim=True)


def refined_size(size: tuple[int, int], scale: float) -> tuple[int, int]:
    """Height and width at which maps of photos of a size are refined: times `scale`, rounded, at least 1."""
    return max(round(size[0] * scale), 1), max(round(size[1] * scale), 1)
