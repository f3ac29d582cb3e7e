"""Reliable labels: where CAM and dense CRF are both sure (RRM section 3.2; ASDT's B_ct and R_ct).

Shapes: B photos, C classes, K = C + 1, H W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from pydantic import Field, model_validator
from torch import Tensor

from tagseg.cues.reliable_batched import FLOOR, reliable_labels_batched
from tagseg.mask_values import IGNORE
from tagseg.refine import dense_crf, fused
from tagseg.refine.lattice import Lattice
from tagseg.refine.settings import CRFSettings
from tagseg.settings import Settings, Weight


class ReliableSettings(Settings):
    """Thresholds of the reliable labels; the defaults are RRM's, made for a ResNet-38 CAM at output stride 8."""

    GONE: ClassVar[Mapping[str, object]] = {"floor": 0.1}

    alpha_low: Weight = Field(4.0, gt=0, description="power of the background score that favors background")
    alpha_high: Weight = Field(32.0, gt=0, description="power of the background score that favors foreground")
    keep: float = Field(0.4, gt=0, le=1, description="share of a class's CAM pixels above 0.1 that counts as sure")
    background_sure: float = Field(0.8, ge=0, le=1, description="background score above which background is sure")
    crf_sure: float = Field(0.8, ge=0, le=1, description="marginal of the CRF from which on it is sure")
    crf: CRFSettings = CRFSettings(bilateral=(80.0, 13.0, 10.0))

    @model_validator(mode="after")
    def _in_order(self) -> ReliableSettings:
        if self.alpha_low > self.alpha_high:
            raise ValueError(f"alpha_low ({self.alpha_low:g}) should be at most alpha_high ({self.alpha_high:g})")
        return self


@torch.no_grad()
def reliable_labels(
    photo_B3HW: Tensor,
    cam_BCHW: Tensor,
    tag_BC: Tensor,
    settings: ReliableSettings | None = None,
    *,
    tags: Sequence[Sequence[int]] | None = None,
    lattice: Lattice | None = None,
) -> Tensor:
    """Labels (B, H, W) uint8 in 0..C where they are reliable, 255 elsewhere.

    photo_B3HW: uint8 RGB. cam_BCHW: normalized CAMs in [0, 1), 0 for absent classes. Nothing here has a gradient.
    Foreground needs the CRF under the low power, background the CRF under the high one; a pixel also needs a CAM that is
    sure of some class and a marginal of at least `crf_sure`.
    tags: the tagged classes of each photo, where the host knows them; then a device is not asked. lattice: as
    `reliable_labels_batched` takes it.
    """
    settings = settings or ReliableSettings()
    if fused.batched(photo_B3HW.device):
        known = tags if tags is not None else [own.nonzero().flatten().tolist() for own in tag_BC > 0]
        return reliable_labels_batched(photo_B3HW, cam_BCHW, known, settings, lattice=lattice)
    present = [tags.nonzero().flatten() for tags in tag_BC > 0]
    scores = [
        _scores(cam[tags], alpha)
        for alpha in (settings.alpha_low, settings.alpha_high)
        for cam, tags in zip(cam_BCHW, present, strict=True)
    ]
    photos = [photo.permute(1, 2, 0) for photo in photo_B3HW]
    crf = settings.crf
    marginals = dense_crf(photos * 2, scores, gaussian=crf.gaussian, bilateral=crf.bilateral, iterations=crf.iterations)
    labels = [
        _one_photo(cam, tags, low, high, settings)
        for cam, tags, low, high in zip(
            cam_BCHW, present, marginals[: len(photos)], marginals[len(photos) :], strict=True
        )
    ]
    return torch.stack(labels)


def _scores(cam_PHW: Tensor, alpha: float) -> Tensor:
    """[(1 - max M)^alpha, M of the present classes]: (P + 1, H, W), not divided by their sum."""
    if not len(cam_PHW):
        return cam_PHW.new_ones(1, *cam_PHW.shape[1:])
    return torch.cat([(1 - cam_PHW.amax(0, keepdim=True)) ** alpha, cam_PHW])


def _one_photo(cam_CHW: Tensor, tags: Tensor, low_LHW: Tensor, high_LHW: Tensor, settings: ReliableSettings) -> Tensor:
    """Labels (H, W) of one photo from the CRF's marginals under both powers; channel 0 is background, then the tags."""
    label_low, label_high = low_LHW.argmax(0), high_LHW.argmax(0)
    label = torch.where(label_low > 0, label_low, IGNORE)
    label = torch.where(label_high == 0, 0, label)

    score_LHW = _scores(cam_CHW[tags], settings.alpha_high)
    winner = score_LHW.argmax(0)
    sure = torch.zeros_like(label, dtype=torch.bool)
    for channel in label_low.unique().tolist():
        value = score_LHW[channel] * (winner == channel)
        if channel == 0:
            sure |= value > settings.background_sure
            continue
        above = value[value > FLOOR].sort().values
        if len(above):
            sure |= value > above[int((1 - settings.keep) * len(above))]
    crf_sure = torch.maximum(high_LHW[0], low_LHW[1:].amax(0)) if len(tags) else high_LHW[0]
    label = torch.where(sure & (crf_sure >= settings.crf_sure), label, IGNORE)

    classes = torch.full((IGNORE + 1,), IGNORE, device=label.device, dtype=torch.uint8)
    classes[0] = 0
    classes[1 : 1 + len(tags)] = (tags + 1).to(torch.uint8)
    return classes[label]
