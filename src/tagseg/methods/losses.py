"""Losses that several systems share. Means are over the global batch, so processes may share it.

Shapes: B photos, K classes with background, C = K - 1, H W pixels, h w feature grid.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from tagseg.distributed import global_mean

IGNORE = 255


def tag_loss(logit_BC: Tensor, tag_BC: Tensor, known_BC: Tensor | None = None) -> Tensor:
    """Multi-label soft margin: binary cross-entropy averaged over classes and photos (ASDT eq. 2).

    known_BC: False where it is not known whether the tag holds; a photo's mean is then over the others.
    """
    if known_BC is None:
        per_photo_B = F.multilabel_soft_margin_loss(logit_BC, tag_BC, reduction="none")
    else:
        loss_BC = F.binary_cross_entropy_with_logits(logit_BC, tag_BC, reduction="none")
        per_photo_B = (loss_BC * known_BC).sum(1) / known_BC.sum(1).clamp(min=1)
    return global_mean(per_photo_B.sum(), per_photo_B.new_full((), len(per_photo_B)))


def upsample(map_BKhw: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear resize to the photo's size, in float32."""
    return F.interpolate(map_BKhw.float(), size, mode="bilinear", align_corners=False)


def background_odds(logit_BKHW: Tensor) -> Tensor:
    """The log of background's odds (B, 1, H, W): under a softmax its logit alone says nothing, only differences do."""
    return logit_BKHW[:, :1] - logit_BKHW[:, 1:].logsumexp(1, keepdim=True)


def balanced_cross_entropy(
    logit_BKHW: Tensor, label_BHW: Tensor, background_weight: float = 1.0, foreground_weight: float = 1.0
) -> Tensor:
    """The mean cross-entropy over background pixels plus the mean over foreground pixels, 255 left out (RRM section 3.3).

    Each mean is 0 where it has no pixel.
    """
    loss_BHW = F.cross_entropy(logit_BKHW, label_BHW.long(), ignore_index=IGNORE, reduction="none")
    return balanced_mean(loss_BHW, label_BHW, background_weight, foreground_weight)


def balanced_mean(
    loss_BHW: Tensor, label_BHW: Tensor, background_weight: float = 1.0, foreground_weight: float = 1.0
) -> Tensor:
    """The weighted sum of a loss's mean over background pixels and its mean over foreground pixels, 255 left out."""
    background = label_BHW == 0
    foreground = (label_BHW > 0) & (label_BHW != IGNORE)
    mean_background = global_mean((loss_BHW * background).sum(), background.sum())
    mean_foreground = global_mean((loss_BHW * foreground).sum(), foreground.sum())
    return background_weight * mean_background + foreground_weight * mean_foreground


def labelled_mean(loss_BHW: Tensor, label_BHW: Tensor, foreground: float | None = None) -> Tensor:
    """The mean of a loss over all pixels that are not 255; 0 where there is none.

    foreground: a share in 0..1; if given, that much of the mean over foreground pixels and the rest of background's.
    """
    if foreground is not None:
        return balanced_mean(loss_BHW, label_BHW, 1 - foreground, foreground)
    known_BHW = label_BHW != IGNORE
    return global_mean((loss_BHW * known_BHW).sum(), known_BHW.sum())
