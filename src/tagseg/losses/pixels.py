"""Losses of tags and of pixels. Means are over the global batch, so processes may share it.

Shapes: B photos, K classes with background, C = K - 1, H W pixels, h w feature grid.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from tagseg.distributed import global_mean
from tagseg.mask_values import IGNORE

PixelLoss = Literal["bce", "ce"]


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


def seg_cross_entropy(logit_BKHW: Tensor, label_BHW: Tensor, foreground_share: float | None = None) -> Tensor:
    """The cross-entropy of a segmentation, 255 left out: its mean over background and its mean over foreground pixels.

    foreground_share: of the mean over foreground, background's has the rest; none: both count whole (RRM section 3.3).
    Each mean is 0 where it has no pixel.
    """
    loss_BHW = F.cross_entropy(logit_BKHW, label_BHW.long(), ignore_index=IGNORE, reduction="none")
    background_weight, foreground_weight = (1.0, 1.0) if foreground_share is None else _weights(foreground_share)
    return _balanced_mean(loss_BHW, label_BHW, background_weight, foreground_weight)


def labeled_mean(loss_BHW: Tensor, label_BHW: Tensor, foreground_share: float | None = None) -> Tensor:
    """The mean of a loss over all pixels that are not 255; 0 where there is none.

    foreground_share: if given, that much of the mean over foreground pixels and the rest of background's.
    """
    if foreground_share is not None:
        return _balanced_mean(loss_BHW, label_BHW, *_weights(foreground_share))
    known_BHW = label_BHW != IGNORE
    return global_mean((loss_BHW * known_BHW).sum(), known_BHW.sum())


def _weights(foreground_share: float) -> tuple[float, float]:
    return 1 - foreground_share, foreground_share


def _balanced_mean(loss_BHW: Tensor, label_BHW: Tensor, background_weight: float, foreground_weight: float) -> Tensor:
    background = label_BHW == 0
    foreground = (label_BHW > 0) & (label_BHW != IGNORE)
    mean_background = global_mean((loss_BHW * background).sum(), background.sum())
    mean_foreground = global_mean((loss_BHW * foreground).sum(), foreground.sum())
    return background_weight * mean_background + foreground_weight * mean_foreground


def pixel_loss(logit_BLHW: Tensor, label_BHW: Tensor, loss: PixelLoss, foreground_share: float | None = None) -> Tensor:
    """The softmax cross-entropy, or the channels' mean binary one, over labeled pixels; 0 if there are none.

    A mean over all of them, or as `labeled_mean` takes it with `foreground_share`.
    """
    if loss == "ce":
        per_pixel_BHW = F.cross_entropy(logit_BLHW, label_BHW.long(), ignore_index=IGNORE, reduction="none")
    else:
        index_BHW = torch.where(label_BHW == IGNORE, 0, label_BHW).long()
        target_BLHW = F.one_hot(index_BHW, logit_BLHW.shape[1]).movedim(-1, 1).to(logit_BLHW)
        per_pixel_BHW = F.binary_cross_entropy_with_logits(logit_BLHW, target_BLHW, reduction="none").mean(1)
    return labeled_mean(per_pixel_BHW, label_BHW, foreground_share)


def normalized_loss(share_BCHW: Tensor, label_BHW: Tensor, tag_BC: Tensor) -> Tensor:
    """The binary cross-entropy of CAMs in [0, 1] over tagged classes, a mean over labeled pixels; 0 if there are none.

    label: the class 0..C-1 that should be 1 there, the other tagged ones 0; 255 = no label.
    """
    labeled_BHW = label_BHW != IGNORE
    index_BHW = torch.where(labeled_BHW, label_BHW, 0).long()
    target_BCHW = F.one_hot(index_BHW, share_BCHW.shape[1]).movedim(-1, 1).to(share_BCHW)
    with torch.autocast(share_BCHW.device.type, enabled=False):  # that of CUDA refuses it
        per_BCHW = F.binary_cross_entropy(share_BCHW.clamp(1e-4, 1 - 1e-4), target_BCHW, reduction="none")
    tag_BC11 = tag_BC[:, :, None, None]
    per_pixel_BHW = (per_BCHW * tag_BC11).sum(1) / tag_BC11.sum(1).clamp(min=1)
    return labeled_mean(per_pixel_BHW, label_BHW)
