"""How good a photo's mask is likely to be, from the probabilities and the photo's edges.

Shapes: K classes with background, H W pixels, h w those of the photo made small.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from torch import Tensor

PATCH = 5  # pixels: side of the patches in which a class is looked for
LONGEST = 256  # pixels: the longer side at which edges are looked for, at most
BLUR, RIM, AROUND = 5, 5, 33  # pixels of that size: windows that blur, find a mask's rim, and find its surroundings
CLEAR = 2.0  # a rim with so many times the gradient of its surroundings is an edge


@dataclass(frozen=True)
class Expected:
    """What probabilities before the CRF, and the photo, say of the mask after the CRF, class by class.

    found_K: whether the mask has the class. iou_K: the IoU to expect if the probabilities are right, from the soft Dice
    confidence of arXiv 2402.10665; 0 of a class that is not found. kept_K: IoU of the masks before and after the CRF.
    edge_K: how far the mask ends at edges of the photo, as `edges` tells it.
    presence_K: the largest mean probability of a patch, which is how likely the photo shows the class at all.
    """

    found_K: Tensor
    iou_K: Tensor
    kept_K: Tensor
    edge_K: Tensor
    presence_K: Tensor

    @classmethod
    def of(cls, probability_KHW: Tensor, mask_HW: NDArray[np.uint8], photo_HW3: NDArray[np.uint8]) -> Expected:
        """probability: before the CRF, each pixel's sum is 1. mask: after it, indices of classes."""
        count, device = len(probability_KHW), probability_KHW.device
        mask_N = torch.from_numpy(mask_HW).to(device).flatten().long()
        own_N = probability_KHW.flatten(1).gather(0, mask_N[None])[0]
        inside_K = torch.bincount(mask_N, own_N.float(), count)
        area_K, size_K = probability_KHW.float().sum((1, 2)), torch.bincount(mask_N, minlength=count)
        dice_K = 2 * inside_K / (area_K + size_K).clamp(min=1e-9)
        before_N = probability_KHW.max(0).indices.flatten()
        both_K = torch.bincount(mask_N[before_N == mask_N], minlength=count)
        union_K = size_K + torch.bincount(before_N, minlength=count) - both_K
        patch = min(PATCH, *probability_KHW.shape[1:])
        presence_K = F.avg_pool2d(probability_KHW[None].float(), patch, ceil_mode=True)[0].amax((1, 2))
        edge_K = torch.from_numpy(edges(photo_HW3, mask_HW, count)).to(device, presence_K.dtype)
        return cls(size_K > 0, dice_K / (2 - dice_K), both_K / union_K.clamp(min=1), edge_K, presence_K)

    @property
    def photo(self) -> Tensor:
        """The IoU to expect of the photo, a number in [0, 1]: the mean over the classes that are there or were painted.

        A class that is not found counts as far as it is likely to be there, with an IoU of 0. Where none is found, the
        probability that none is there.
        """
        found_C, presence_C = self.found_K[1:], self.presence_K[1:]
        value_C = torch.where(found_C, (self.iou_K[1:] * self.kept_K[1:] * self.edge_K[1:]).sqrt(), 0)
        weight_C = torch.where(found_C, 1, presence_C)
        none = (1 - presence_C).clamp(min=0).prod()
        return torch.where(found_C.any(), value_C.sum() / weight_C.sum().clamp(min=1e-9), none)


def edges(photo_HW3: NDArray[np.uint8], mask_HW: NDArray[np.uint8], count: int) -> NDArray[np.float64]:
    """How far each class's mask ends at edges of the photo (K,), from 0 to 1.

    The photo's mean gradient at the mask's rim, over that in the mask and around it, over `CLEAR`. 1 of background, of a class
    that is not found, and of one that fills the photo.
    """
    gray = Image.fromarray(photo_HW3).convert("L")
    mask = Image.fromarray(mask_HW)
    factor = -(-max(gray.size) // LONGEST)
    if factor > 1:
        gray = gray.reduce(factor)
        mask = mask.resize(gray.size, Image.Resampling.NEAREST)
    gray_hw = ndimage.uniform_filter(np.asarray(gray, np.float32), BLUR, mode="nearest")
    gradient_hw = np.hypot(*(ndimage.correlate1d(gray_hw, [-1.0, 0.0, 1.0], axis, mode="nearest") for axis in (0, 1)))
    found_hw, edge_K = np.asarray(mask), np.ones(count)
    for k in np.unique(found_hw[(found_hw > 0) & (found_hw < count)]):
        own_hw = (found_hw == k).astype(np.uint8)
        rim_hw = ndimage.maximum_filter(own_hw, RIM) > ndimage.minimum_filter(own_hw, RIM)
        if rim_hw.any():
            around = gradient_hw[ndimage.maximum_filter(own_hw, AROUND) > 0].mean()
            edge_K[k] = min(float(gradient_hw[rim_hw].mean() / (around + 1e-3)) / CLEAR, 1.0)
    return edge_K
