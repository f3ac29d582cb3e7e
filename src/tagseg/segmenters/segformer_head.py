"""The SegFormer decoder over the stages of any backbone.

Shapes: B photos, F channels of a stage, D hidden channels, K classes with background, h w the finest grid used.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tagseg.seeded import channel_dropout

PURPOSE = 7  # of the dropout, among what is drawn from a photo's seed


class SegFormerHead(nn.Module):
    """Every stage to `hidden` channels, resized to the finest, joined, fused and classified (SegFormer section 3.2).

    channels, strides: of the backbone's stages, finest first. Stages with cells smaller than `finest` pixels are left
    out: they cost most and tell least. The fused channels pass batch norm, ReLU and Dropout2d.
    """

    def __init__(
        self,
        channels: Sequence[int],
        strides: Sequence[int],
        num_classes: int,
        *,
        hidden: int = 256,
        dropout: float = 0.1,
        finest: int = 4,
    ) -> None:
        super().__init__()
        self.dropout = dropout
        self.used = tuple(i for i, stride in enumerate(strides) if stride >= finest or i == len(strides) - 1)
        self.projections = nn.ModuleList(nn.Conv2d(channels[i], hidden, 1) for i in self.used)
        self.fuse = nn.Conv2d(hidden * len(self.used), hidden, 1, bias=False)
        self.norm = nn.BatchNorm2d(hidden)
        self.classifier = nn.Conv2d(hidden, num_classes, 1)

    def forward(self, stages: Sequence[Tensor], seed_B: Tensor | None = None) -> Tensor:
        """Logits (B, K, h, w) on the grid of the finest stage used; dropout only in training and only with seeds."""
        chosen = [stages[i] for i in self.used]
        size = chosen[0].shape[-2:]
        hidden = [
            F.interpolate(project(stage_BFhw), size, mode="bilinear", align_corners=False)
            for project, stage_BFhw in zip(self.projections, chosen, strict=True)
        ]
        fused_BDhw = self.norm(self.fuse(torch.cat(hidden[::-1], 1))).relu()
        if self.training and seed_B is not None and self.dropout > 0:
            fused_BDhw = channel_dropout(fused_BDhw, self.dropout, seed_B, PURPOSE)
        return self.classifier(fused_BDhw)
