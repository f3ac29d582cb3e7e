"""The head of DeepLab-v2: atrous spatial pyramid pooling as a sum.

Shapes: B photos, F feature channels, K classes with background, h w feature grid.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

DILATIONS = (6, 12, 18, 24)


class DeepLabV2Head(nn.Module):
    """The sum of four dilated 3x3 convolutions from the last stage to K logits (DeepLab-v2, ASPP-L).

    Weights start from N(0, 0.01), biases from 0.
    """

    def __init__(self, channels: int, num_classes: int, dilations: Sequence[int] = DILATIONS) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Conv2d(channels, num_classes, 3, padding=dilation, dilation=dilation) for dilation in dilations
        )
        for branch in self.branches:
            assert isinstance(branch, nn.Conv2d)
            assert branch.bias is not None
            nn.init.normal_(branch.weight, std=0.01)
            nn.init.zeros_(branch.bias)

    def forward(self, stages: Sequence[Tensor], seed_B: Tensor | None = None) -> Tensor:
        """Logits (B, K, h, w) on the grid of the last stage."""
        return torch.stack([branch(stages[-1]) for branch in self.branches]).sum(0)
