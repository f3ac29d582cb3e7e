"""Self correspondence distillation: what lies together in the CAM should lie together in the segmentation.

Shapes: B photos, C classes, K = C + 1, H W pixels of one view and h w of the other, P sampled positions.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tagseg.distributed import global_mean, global_sum
from tagseg.seeded import generators

EPS = 1e-10
PURPOSE = 5  # of the random positions, among what is drawn from a photo's seed


def correspondence_loss(
    cam1_BCHW: Tensor,
    cam2_BChw: Tensor,
    seg1_BKHW: Tensor,
    seg2_BKhw: Tensor,
    seed_B: Tensor,
    *,
    samples: int = 40,
    shift: float = 0.0,
    centre: bool = True,
) -> Tensor:
    """Minus the mean over pairs of positions of max(seg agreement, 0) x (CAM agreement - shift) (TSCD's SCD loss).

    cam1, cam2: CAMs of two views of the photos; seg1, seg2: segmentation logits of the same views. Each agreement is
    the cosine of the channels at a position of view 1 and one of view 2, over all pairs of samples x samples random
    positions of each view. The positions of a photo follow from its seed.
    centre: take each position's mean CAM agreement away, and put the batch's mean back.
    shift: agreement of CAMs above which segmentations are drawn together, below which they are pushed apart.
    Gradient reaches the segmentations only.
    """
    position1_BP12, position2_BP12 = random_positions(seed_B, samples, seg1_BKHW.device)
    with torch.no_grad():
        cam_BPP = _agreement(_sample(cam1_BCHW, position1_BP12), _sample(cam2_BChw, position2_BP12))
        if centre:
            mean = global_sum(cam_BPP.sum()) / global_sum(cam_BPP.new_tensor(float(cam_BPP.numel())))
            cam_BPP -= cam_BPP.mean(2, keepdim=True) - mean
        cam_BPP -= shift
    seg_BPP = _agreement(_sample(seg1_BKHW, position1_BP12), _sample(seg2_BKhw, position2_BP12))
    score_BPP = seg_BPP.relu() * cam_BPP
    return -global_mean(score_BPP.sum(), score_BPP.new_tensor(float(score_BPP.numel())))


def random_positions(seed_B: Tensor, samples: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Positions of two views, independent and uniform: each (B, P, 1, 2), x and y in [-1, 1]."""
    drawn = [torch.rand(2, samples * samples, 1, 2, generator=generator) for generator in generators(seed_B, PURPOSE)]
    position_2BP12 = (torch.stack(drawn, 1) * 2 - 1).to(device)
    return position_2BP12[0], position_2BP12[1]


def _sample(map_BCHW: Tensor, position_BP12: Tensor) -> Tensor:
    """The channels at positions, bilinear, as vectors of length 1: (B, C, P)."""
    value_BCP1 = F.grid_sample(map_BCHW.float(), position_BP12, padding_mode="border", align_corners=True)
    return F.normalize(value_BCP1[..., 0], dim=1, eps=EPS)


def _agreement(first_BCP: Tensor, second_BCP: Tensor) -> Tensor:
    """The cosine of every position of the first with every one of the second: (B, P, P)."""
    with torch.autocast(first_BCP.device.type, enabled=False):  # small differences of cosines matter
        return first_BCP.transpose(1, 2) @ second_BCP
