"""The published head of RRM and ASDT: two dilated convolutions on the last stage.

Shapes: B photos, K classes with background, h w the grid of the last stage.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from tagseg.decoders.winograd import WinogradConv2d


class ConvDecoder(nn.Sequential):
    """conv3x3 - ReLU - conv3x3, both dilated (RRM; ASDT section 3.1), from the last of the stages."""

    def __init__(self, channels: int, num_classes: int, *, hidden: int = 512, dilation: int = 12) -> None:
        super().__init__(
            WinogradConv2d(channels, hidden, dilation),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, num_classes, 3, padding=dilation, dilation=dilation),
        )
        for layer in (self[0], self[2]):
            assert isinstance(layer, nn.Conv2d)
            nn.init.xavier_uniform_(layer.weight)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)

    def forward(self, stages: Sequence[Tensor], seed_B: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """Logits (B, K, h, w)."""
        return super().forward(stages[-1])
