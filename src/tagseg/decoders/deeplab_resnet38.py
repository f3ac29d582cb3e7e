"""The DeepLab-style head used on wide ResNet-38.

Shapes: B photos, F feature channels, D hidden channels, K classes with background, h w feature grid.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from tagseg.decoders.segformer import GlobalBatchNorm2d
from tagseg.decoders.winograd import WinogradConv2d
from tagseg.seeded import channel_dropout

PURPOSE = 8  # of the dropout, among what is drawn from a photo's seed


class DeepLabHead(nn.Module):
    """A dilated 3x3 and a 1x1 convolution, each with batch norm and ReLU, dropout, 1x1 to K logits (DeepLab-LargeFOV)."""

    def __init__(
        self, channels: int, num_classes: int, *, hidden: int = 512, dilation: int = 12, dropout: float = 0.5
    ) -> None:
        super().__init__()
        self.dropout = dropout
        self.body = nn.Sequential(
            WinogradConv2d(channels, hidden, dilation, bias=False),
            GlobalBatchNorm2d(hidden),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, hidden, 1, bias=False),
            GlobalBatchNorm2d(hidden),
            nn.ReLU(inplace=True),
        )
        self.classifier = nn.Conv2d(hidden, num_classes, 1)

    def forward(self, stages: Sequence[Tensor], seed_B: Tensor | None = None) -> Tensor:
        """Logits (B, K, h, w) on the grid of the last stage; dropout of channels only in training and only with seeds."""
        hidden_BDhw = self.body(stages[-1])
        if self.training and seed_B is not None and self.dropout > 0:
            hidden_BDhw = channel_dropout(hidden_BDhw, self.dropout, seed_B, PURPOSE)
        return self.classifier(hidden_BDhw)
