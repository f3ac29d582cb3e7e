"""How good a photo's mask is likely to be, from the probabilities alone.

Shapes: K classes with background, H W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

PATCH = 5  # pixels: side of the patches in which a class is looked for


@dataclass(frozen=True)
class Expected:
    """What probabilities before the CRF say of the mask after it, class by class.

    found_K: whether the mask has the class. iou_K: the IoU to expect if the probabilities are right, from the soft Dice
    confidence of arXiv 2402.10665; 0 of a class that is not found. kept_K: IoU of the masks before and after the CRF.
    presence_K: the largest mean probability of a patch, which is how likely the photo shows the class at all.
    """

    found_K: Tensor
    iou_K: Tensor
    kept_K: Tensor
    presence_K: Tensor

    @classmethod
    def of(cls, probability_KHW: Tensor, mask_HW: Tensor) -> Expected:
        """probability: before the CRF, each pixel's sum is 1. mask: after it, indices of classes."""
        count = len(probability_KHW)
        mask_N = mask_HW.flatten().long()
        own_N = probability_KHW.flatten(1).gather(0, mask_N[None])[0]
        inside_K = torch.bincount(mask_N, own_N.float(), count)
        area_K, size_K = probability_KHW.float().sum((1, 2)), torch.bincount(mask_N, minlength=count)
        dice_K = 2 * inside_K / (area_K + size_K).clamp(min=1e-9)
        before_N = probability_KHW.max(0).indices.flatten()
        both_K = torch.bincount(mask_N[before_N == mask_N], minlength=count)
        union_K = size_K + torch.bincount(before_N, minlength=count) - both_K
        patch = min(PATCH, *probability_KHW.shape[1:])
        presence_K = F.avg_pool2d(probability_KHW[None].float(), patch, ceil_mode=True)[0].amax((1, 2))
        return cls(size_K > 0, dice_K / (2 - dice_K), both_K / union_K.clamp(min=1), presence_K)

    @property
    def photo(self) -> Tensor:
        """The IoU to expect of the photo, a number in [0, 1]: the mean over the classes that are there or were painted.

        A class that is not found counts as far as it is likely to be there, with an IoU of 0. Where none is found, the
        probability that none is there.
        """
        found_C, presence_C = self.found_K[1:], self.presence_K[1:]
        value_C = torch.where(found_C, (self.iou_K[1:] * self.kept_K[1:]).sqrt(), 0)
        weight_C = torch.where(found_C, 1, presence_C)
        none = (1 - presence_C).clamp(min=0).prod()
        return torch.where(found_C.any(), value_C.sum() / weight_C.sum().clamp(min=1e-9), none)
