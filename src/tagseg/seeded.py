"""Random numbers that follow from a photo's own seed, so that spreading a batch over processes changes nothing.

Shapes: B photos, F feature channels, h w feature grid.
"""

from __future__ import annotations

import torch
from torch import Tensor


def generators(seed_B: Tensor, purpose: int = 0) -> list[torch.Generator]:
    """A CPU generator for each photo; another `purpose` gives independent numbers from the same seeds."""
    # The seeds stay on the host, so that no device is asked for them. Multiplying by an odd number permutes them, so that
    # no purpose meets a neighboring photo's numbers.
    return [torch.Generator().manual_seed((seed * 2654435769 + purpose) % 2**63) for seed in seed_B.tolist()]


def channel_dropout(feature_BFhw: Tensor, probability: float, seed_B: Tensor, purpose: int = 0) -> Tensor:
    """Dropout2d whose mask follows from one seed per photo."""
    channels = feature_BFhw.shape[1]
    keep = [torch.rand(channels, generator=generator) >= probability for generator in generators(seed_B, purpose)]
    mask_BF = torch.stack(keep).to(feature_BFhw.device, feature_BFhw.dtype, non_blocking=True)
    return feature_BFhw * (mask_BF / (1 - probability))[:, :, None, None]
