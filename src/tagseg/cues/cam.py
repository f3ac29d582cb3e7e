"""Class activation maps.

Shapes: B photos, C classes, F feature channels, H W pixels, h w the feature grid.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Unpack

import torch
import torch.nn.functional as F
from torch import Tensor

from tagseg.cues.views import HowRead, map_views
from tagseg.precision import Precision, computing_in
from tagseg.resize import resize, size_of

BACKGROUND_POWER = 4.0  # of background's score where a CAM is read as probabilities


def class_activation(feature_BFhw: Tensor, weight_CF: Tensor) -> Tensor:
    """ReLU of the classifier's weights applied at every cell: (B, C, h, w), not normalized (RRM section 3.1)."""
    return F.conv2d(feature_BFhw, weight_CF[:, :, None, None]).relu()


@torch.no_grad()
def multi_scale_cam(
    features: Callable[[Tensor], Tensor],
    weight_CF: Tensor,
    image_B3HW: Tensor,
    *,
    scales: Sequence[float] = (0.5, 1.0, 1.5, 2.0),
    feature_BFhw: Tensor | None = None,
    precision: Precision | None = None,
) -> Tensor:
    """The mean CAM over scales of the photo, on the feature grid of scale 1: (B, C, h, w), >= 0, not normalized.

    features: photos (B, 3, H, W) in [0, 1] to features (B, F, h, w).
    feature_BFhw: the features at scale 1, where they are already there; they are not computed again.
    precision: of the features; the classifier and the sum stay as they are.
    Without gradient (ASDT section 4; RRM).
    """
    if feature_BFhw is None:
        with computing_in(precision, image_B3HW.device):
            feature_BFhw = features(image_B3HW).float()
    autocast = torch.is_autocast_enabled(image_B3HW.device.type)

    def activation(view_B3HW: Tensor) -> Tensor:
        feature = features(view_B3HW).float()
        with torch.autocast(view_B3HW.device.type, enabled=autocast):
            return class_activation(feature, weight_CF)

    known_BChw = class_activation(feature_BFhw, weight_CF)
    size = size_of(feature_BFhw)
    summed = summed_cam(activation, image_B3HW, scales, False, known_BChw, size=size, precision=precision)
    return summed / len(scales)


def summed_cam(
    activation: Callable[[Tensor], Tensor],
    image_B3HW: Tensor,
    scales: Sequence[float],
    flip: bool = True,
    known_BChw: Tensor | None = None,
    **how: Unpack[HowRead],
) -> Tensor:
    """The sum over scales of the larger of CAM and mirrored CAM, cut off at 0: (B, C, H, W) (AFA's `multi_scale_cam`).

    activation: photos to the classifier's weights applied at every cell; known_BChw: that of the photo. The rest as for
    `map_views`. Without gradient.
    """
    views = map_views(activation, image_B3HW, scales, flip, known_BChw, **how)
    parts = [torch.maximum(plain, mirrored).relu() for plain, mirrored in views]
    return sum(parts[1:], start=parts[0])


def normalize_cam(cam_BCHW: Tensor) -> Tensor:
    """Each map divided by its spatial maximum + 1e-5: in [0, 1). No minimum is subtracted (RRM)."""
    return cam_BCHW / (cam_BCHW.amax((-2, -1), keepdim=True) + 1e-5)


def tagged_cam(cam_BChw: Tensor, tag_BC: Tensor, size: tuple[int, int]) -> Tensor:
    """CAMs at the photo's size (B, C, H, W), 0 for classes without a tag, each with maximum just below 1."""
    cam_BCHW = resize(cam_BChw, size)
    return normalize_cam(cam_BCHW * tag_BC[:, :, None, None])


def cam_probabilities(cam_BCHW: Tensor) -> Tensor:
    """Probabilities (B, K, H, W) from normalized CAMs: background scores (1 - max_c M_c)^4, all divided by their sum.

    How P_ct is made from the CAM is not defined by ASDT; this is the reliable labels' own background score.
    """
    background_B1HW = (1 - cam_BCHW.amax(1, keepdim=True)).clamp(min=0) ** BACKGROUND_POWER
    score_BKHW = torch.cat([background_B1HW, cam_BCHW], 1)
    return score_BKHW / score_BKHW.sum(1, keepdim=True).clamp(min=1e-8)


def __getattr__(name: str) -> object:
    if name != "normalise_cam":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn("normalise_cam is now normalize_cam", DeprecationWarning, stacklevel=2)
    return normalize_cam
