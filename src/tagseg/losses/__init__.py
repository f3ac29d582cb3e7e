"""Losses: of tags and pixels, of affinities, of correspondences. The dense energy is the CRF's filter, in `refine`."""

from __future__ import annotations

from tagseg.losses.affinity import affinity_labels, affinity_loss
from tagseg.losses.correspondence import correspondence_loss, equivariance_loss
from tagseg.losses.pixels import PixelLoss, labeled_mean, normalized_loss, pixel_loss, seg_cross_entropy, tag_loss

__all__ = [
    "PixelLoss",
    "affinity_labels",
    "affinity_loss",
    "correspondence_loss",
    "equivariance_loss",
    "labeled_mean",
    "normalized_loss",
    "pixel_loss",
    "seg_cross_entropy",
    "tag_loss",
]
