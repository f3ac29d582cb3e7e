"""Labels from a CAM refined by the photo, with two background scores that have to agree (AFA, TSCD).

Shapes: B photos, C classes, K = C + 1, P tags of the photo that has most, S = P + 1, H W pixels, h w half of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from tagseg.cues.affinity import propagate_affinity
from tagseg.refine import PixelAdaptive

IGNORE = 255


@dataclass
class Walk:
    """One step along affinities (AFA): affinity_BNN between the cells of a grid (rows, columns)."""

    affinity_BNN: Tensor
    grid: tuple[int, int]


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

    def probabilities(self, background: float, size: tuple[int, int], walk: Walk | None = None) -> Tensor:
        """Softmax over a constant background score and the CAMs (B, S, *size); 0 in channels a photo does not have."""
        score_BPhw = resize(self.cam_BPHW, walk.grid if walk else size)
        score_BShw = F.pad(score_BPhw, (0, 0, 0, 0, 1, 0), value=background)
        probability = score_BShw.masked_fill(~self.present_BS[:, :, None, None], -torch.inf).softmax(1)
        if walk is None:
            return probability
        return resize(propagate_affinity(probability, walk.affinity_BNN), size)

    def classes(self, channel_BHW: Tensor) -> Tensor:
        """Class indices of channel numbers."""
        return self.class_BS.gather(1, channel_BHW.flatten(1)).view_as(channel_BHW)

    def scatter(self, value_BSHW: Tensor, num_classes: int) -> Tensor:
        """Channels back to classes (B, K, H, W), 0 for those without a tag."""
        whole_BKHW = value_BSHW.new_zeros(len(value_BSHW), num_classes, *value_BSHW.shape[2:])
        index = self.class_BS[:, :, None, None].expand_as(value_BSHW)
        return whole_BKHW.scatter_add_(1, index, value_BSHW * self.present_BS[:, :, None, None])


@torch.no_grad()
def refined_labels(
    image_B3HW: Tensor,
    cam_BCHW: Tensor,
    tag_BC: Tensor,
    valid_BHW: Tensor,
    refine: PixelAdaptive | None,
    *,
    background: tuple[float, float] = (0.35, 0.55),
    scale: float = 0.5,
    walk: Walk | None = None,
    most: int | None = None,
) -> Tensor:
    """Labels (B, H, W) uint8: a class where it beats the high background score, 0 where even the low one beats it.

    Elsewhere, and in padding, 255. image: RGB in [0, 1]. cam: in [0, 1]. background: the low and the high score.
    scale: size at which the maps are refined, against the photo. walk: propagate along affinities first (AFA).
    most: tags of the photo that has most, where the host knows it; else a device is asked.
    """
    size = (image_B3HW.shape[-2], image_B3HW.shape[-1])
    small = refined_size(size, scale)
    stack = TaggedStack.of(cam_BCHW, tag_BC, most)
    both = torch.cat([stack.probabilities(score, small, walk) for score in background], 1)
    if refine is not None:
        both = refine(resize(image_B3HW, small), both)
    low_BHW, high_BHW = (stack.classes(part.argmax(1)) for part in resize(both, size).chunk(2, 1))
    label_BHW = torch.where(high_BHW > 0, high_BHW, IGNORE)
    label_BHW = torch.where((high_BHW == 0) & (low_BHW == 0), 0, label_BHW)
    return torch.where(valid_BHW, label_BHW, IGNORE).to(torch.uint8)


@torch.no_grad()
def refined_probabilities(
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
    size = (image_B3HW.shape[-2], image_B3HW.shape[-1])
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


def resize(map_BCHW: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps at another size, bilinearly; there may be none of them."""
    if map_BCHW.shape[1] == 0:  # a batch without any tag
        return map_BCHW.new_zeros(len(map_BCHW), 0, *size)
    return F.interpolate(map_BCHW, size, mode="bilinear", align_corners=False)
