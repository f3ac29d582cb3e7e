"""Background labels of tagged photos that a network finds much harder than the others: objects that the labels missed.

DuPL fits two Gaussians to the loss of a photo's foreground labels and drops the harder ones; here it is background's,
since what image-level labels miss most are bodies and the other animals of a herd.

Shapes: B photos, H W pixels, n bins of the loss.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from tagseg.settings import Settings, Steps

BINS, LARGEST = 64, 4.0  # of the histogram that the mixture is fitted to; higher losses count as the largest
ROUNDS = 10
NARROWEST = 0.05  # standard deviation of a mode


class NoiseSettings(Settings):
    """The filter for background labels; it works from a step on."""

    from_step: Steps | None = Field(None, description="step from which it works; none: never")
    gap: float = Field(
        1.0, ge=0, le=100, description="distance of the two modes' means from which on the higher one is noise"
    )
    sure: float = Field(0.95, ge=0.5, lt=1, description="probability of the higher mode from which on a pixel is noise")


@torch.no_grad()
def missed_objects(loss_BHW: Tensor, where_BHW: Tensor, settings: NoiseSettings) -> Tensor:
    """Where the loss is of the higher of two modes that lie apart, among the pixels of `where` of each photo: (B, H, W)."""
    count = len(loss_BHW)
    place_BHW = (loss_BHW / LARGEST * BINS).long().clamp(0, BINS - 1)
    histogram_Bn = loss_BHW.new_zeros(count, BINS).scatter_add_(1, place_BHW.flatten(1), where_BHW.flatten(1).float())
    value_n = (torch.arange(BINS, device=loss_BHW.device) + 0.5) * LARGEST / BINS
    mean_B1 = _weighted_mean(value_n, histogram_Bn)
    spread_B1 = _weighted_mean((value_n - mean_B1) ** 2, histogram_Bn).sqrt()
    mu_B2 = torch.cat([mean_B1 - 0.5 * spread_B1, mean_B1 + 2 * spread_B1], 1)
    sigma_B2 = spread_B1.clamp(min=NARROWEST).expand(-1, 2)
    share_B2 = mu_B2.new_full((count, 2), 0.5)
    posterior_B2n = _posterior(value_n, mu_B2, sigma_B2, share_B2)
    for _ in range(ROUNDS):
        weight_B2n = posterior_B2n * histogram_Bn[:, None]
        total_B2 = weight_B2n.sum(2).clamp(min=1e-6)
        mu_B2 = (weight_B2n * value_n).sum(2) / total_B2
        variance_B2 = (weight_B2n * (value_n - mu_B2[:, :, None]) ** 2).sum(2) / total_B2
        sigma_B2 = variance_B2.sqrt().clamp(min=NARROWEST)
        share_B2 = total_B2 / total_B2.sum(1, keepdim=True)
        posterior_B2n = _posterior(value_n, mu_B2, sigma_B2, share_B2)
    apart_B = mu_B2[:, 1] - mu_B2[:, 0] > settings.gap
    noisy_Bn = (posterior_B2n[:, 1] > settings.sure) & (value_n > mu_B2[:, :1]) & apart_B[:, None]
    return noisy_Bn.gather(1, place_BHW.flatten(1)).view_as(where_BHW) & where_BHW


def _weighted_mean(value: Tensor, weight_Bn: Tensor) -> Tensor:
    return (value * weight_Bn).sum(1, keepdim=True) / weight_Bn.sum(1, keepdim=True).clamp(min=1e-6)


def _posterior(value_n: Tensor, mu_B2: Tensor, sigma_B2: Tensor, share_B2: Tensor) -> Tensor:
    z_B2n = (value_n - mu_B2[:, :, None]) / sigma_B2[:, :, None]
    log_B2n = -0.5 * z_B2n**2 + (share_B2.clamp(min=1e-6) / sigma_B2).log()[:, :, None]
    return log_B2n.softmax(1)
