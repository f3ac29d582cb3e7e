"""Class activation maps.

Shapes: B photos, C classes, F feature channels, H W pixels, h w the feature grid.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from tagseg.cues.views import in_bfloat16


def class_activation(feature_BFhw: Tensor, weight_CF: Tensor) -> Tensor:
    """ReLU of the classifier's weights applied at every cell: (B, C, h, w), not normalised (RRM section 3.1)."""
    return F.conv2d(feature_BFhw, weight_CF[:, :, None, None]).relu()


@torch.no_grad()
def multi_scale_cam(
    features: Callable[[Tensor], Tensor],
    weight_CF: Tensor,
    image_B3HW: Tensor,
    *,
    scales: Sequence[float] = (0.5, 1.0, 1.5, 2.0),
    feature_BFhw: Tensor | None = None,
    bf16: bool = False,
) -> Tensor:
    """The mean CAM over scales of the photo, on the feature grid of scale 1: (B, C, h, w), >= 0, not normalised.

    features: photos (B, 3, H, W) in [0, 1] to features (B, F, h, w).
    feature_BFhw: the features at scale 1, where they are already there; they are not computed again.
    bf16: compute the features in bfloat16 where the processor has it, twice as fast; the sum stays float32.
    Without gradient (ASDT section 4; RRM).
    """
    height, width = image_B3HW.shape[-2:]

    def read(view_B3HW: Tensor) -> Tensor:
        with in_bfloat16(bf16, view_B3HW.device):
            return features(view_B3HW).float()

    if feature_BFhw is None:
        feature_BFhw = read(image_B3HW)
    grid = feature_BFhw.shape[-2:]
    total: Tensor | None = None
    for scale in scales:
        if scale == 1:
            cam = class_activation(feature_BFhw, weight_CF)
        else:
            size = (max(int(scale * height), 1), max(int(scale * width), 1))
            resized = F.interpolate(image_B3HW, size, mode="bilinear", align_corners=False)
            cam = class_activation(read(resized), weight_CF)
            cam = F.interpolate(cam, grid, mode="bilinear", align_corners=False)
        total = cam if total is None else total + cam
    assert total is not None, "at least one scale"
    return total / len(scales)


def normalise_cam(cam_BCHW: Tensor) -> Tensor:
    """Each map divided by its spatial maximum + 1e-5: in [0, 1). No minimum is subtracted (RRM)."""
    return cam_BCHW / (cam_BCHW.amax((-2, -1), keepdim=True) + 1e-5)


def tagged_cam(cam_BChw: Tensor, tag_BC: Tensor, size: tuple[int, int]) -> Tensor:
    """CAMs at the photo's size (B, C, H, W), 0 for classes without a tag, each with maximum just below 1."""
    cam_BCHW = F.interpolate(cam_BChw, size, mode="bilinear", align_corners=False)
    return normalise_cam(cam_BCHW * tag_BC[:, :, None, None])


def cam_probabilities(cam_BCHW: Tensor, alpha: float = 4.0) -> Tensor:
    """Probabilities (B, K, H, W) from normalised CAMs: background scores (1 - max_c M_c)^alpha, all divided by their sum.

    How P_ct is made from the CAM is not defined by ASDT; this is the reliable labels' own background score.
    """
    background_B1HW = (1 - cam_BCHW.amax(1, keepdim=True)).clamp(min=0) ** alpha
    score_BKHW = torch.cat([background_B1HW, cam_BCHW], 1)
    return score_BKHW / score_BKHW.sum(1, keepdim=True).clamp(min=1e-8)
