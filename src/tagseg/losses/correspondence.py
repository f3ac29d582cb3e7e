"""Self correspondence distillation: what lies together in the CAM should lie together in the segmentation.

Shapes: B photos, C classes, K = C + 1, H W pixels of one view and h w of the other, P sampled positions.
"""

from __future__ import annotations

from typing import Any

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
    restore: bool = True,
    both: bool = False,
) -> Tensor:
    """Minus the mean over pairs of positions of max(seg agreement, 0) x CAM agreement (TSCD's SCD loss).

    cam1, cam2: CAMs of two views of the photos; seg1, seg2: segmentation logits of the same views. Each agreement is
    the cosine of the channels at a position of view 1 and one of view 2, over all pairs of samples x samples random
    positions of each view. The positions of a photo follow from its seed.
    Each position's mean CAM agreement is taken away. restore: the batch's mean is put back, as released. both: the mean
    agreement of view 2's positions is taken away too.
    Gradient reaches the segmentations only.
    """
    position1_BP12, position2_BP12 = random_positions(seed_B, samples, seg1_BKHW.device)
    with torch.no_grad():
        cam1_BCP, cam2_BCP = _sample(cam1_BCHW, position1_BP12), _sample(cam2_BChw, position2_BP12)
        pairs = cam1_BCP.new_full((), cam1_BCP.shape[0] * cam1_BCP.shape[2] * cam2_BCP.shape[2])
        constant = cam1_BCP.new_zeros(())
        # the mean of a position's cosines is its cosine with the mean: no matrix of pairs is needed
        mean_BC1 = cam2_BCP.mean(2, keepdim=True)
        if restore:
            sum_ = (cam1_BCP.sum(2, keepdim=True) * mean_BC1).sum() * cam2_BCP.shape[2]
            constant = global_sum(sum_) / global_sum(pairs)
        cam2_BCP = cam2_BCP - mean_BC1
        if both:
            cam1_BCP = cam1_BCP - cam1_BCP.mean(2, keepdim=True)
    seg1_BKP, seg2_BKP = _sample(seg1_BKHW, position1_BP12), _sample(seg2_BKhw, position2_BP12)
    return -global_mean(_PairSum.apply(seg1_BKP, seg2_BKP, cam1_BCP, cam2_BCP, constant), pairs)


class _PairSum(torch.autograd.Function):
    """The sum over pairs (p, q) of max(<s_p, t_q>, 0) x (<c_p, d_q> + constant), with gradient to s and t.

    The matrix of pairs is made for one photo at a time, where it fits a processor's cache, and not kept: the gradients
    are taken at once, and the sum is s times its own gradient, as it is of first degree in s.
    """

    @staticmethod
    def forward(ctx: Any, s_BKP: Tensor, t_BKP: Tensor, c_BCP: Tensor, d_BCP: Tensor, constant: Tensor) -> Tensor:
        ds_BKP, dt_BKP = torch.empty_like(s_BKP), torch.empty_like(t_BKP)
        with torch.autocast(s_BKP.device.type, enabled=False):  # small differences of cosines matter
            for n in range(len(s_BKP)):
                weight_PP = torch.addmm(constant, c_BCP[n].T, d_BCP[n])
                weight_PP.masked_fill_(s_BKP[n].T @ t_BKP[n] <= 0, 0)
                torch.mm(t_BKP[n], weight_PP.T, out=ds_BKP[n])
                torch.mm(s_BKP[n], weight_PP, out=dt_BKP[n])
        ctx.save_for_backward(ds_BKP, dt_BKP)
        return (s_BKP * ds_BKP).sum()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        ds_BKP, dt_BKP = ctx.saved_tensors
        return grads[0] * ds_BKP, grads[0] * dt_BKP, None, None, None


def random_positions(seed_B: Tensor, samples: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Positions of two views, independent and uniform: each (B, P, 1, 2), x and y in [-1, 1]."""
    drawn = [torch.rand(2, samples * samples, 1, 2, generator=generator) for generator in generators(seed_B, PURPOSE)]
    position_2BP12 = (torch.stack(drawn, 1) * 2 - 1).to(device, non_blocking=True)
    return position_2BP12[0], position_2BP12[1]


def _sample(map_BCHW: Tensor, position_BP12: Tensor) -> Tensor:
    """The channels at positions, bilinear, as vectors of length 1: (B, C, P)."""
    value_BCP1 = F.grid_sample(map_BCHW.float(), position_BP12, padding_mode="border", align_corners=True)
    return F.normalize(value_BCP1[..., 0], dim=1, eps=EPS)


def equivariance_loss(cam_BCHW: Tensor, view_cam_BChw: Tensor) -> Tensor:
    """The mean difference between the CAM of the photo, made small, and that of the small photo; 0 without classes."""
    if cam_BCHW.shape[1] == 0:
        return cam_BCHW.new_zeros(())
    size = (view_cam_BChw.shape[-2], view_cam_BChw.shape[-1])
    small_BChw = F.interpolate(cam_BCHW, size, mode="bilinear", align_corners=True)
    return (small_BChw - view_cam_BChw).abs().mean()
