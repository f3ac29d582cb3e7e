"""PSPNet: pyramid pooling over the last stage, and the auxiliary classifier that helps to train it.

Shapes: B photos, F channels of a stage, K classes with background, h w a grid.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from tagseg.decoders.segformer import GlobalBatchNorm2d
from tagseg.seeded import channel_dropout

PSP_PURPOSE, AUX_PURPOSE = 9, 10  # of the dropouts, among what is drawn from a photo's seed


class PSPNetHead(nn.Module):
    """PSPNet's pyramid pooling (1, 2, 3, 6) over the last stage, by segmentation_models_pytorch.

    Each pool has a quarter of the channels; a 1x1 convolution joins them with the features, dropout and a 3x3 classify.
    """

    def __init__(self, channels: int, num_classes: int, *, hidden: int = 512, dropout: float = 0.1) -> None:
        super().__init__()
        from segmentation_models_pytorch.decoders.pspnet.decoder import PSPDecoder

        self.dropout = dropout
        self.decoder = _with_global_norms(PSPDecoder([channels], out_channels=hidden, dropout=0.0))
        self.classifier = nn.Conv2d(hidden, num_classes, 3, padding=1)

    def forward(self, stages: Sequence[Tensor], seed_B: Tensor | None = None) -> Tensor:
        """Logits (B, K, h, w) on the grid of the last stage; dropout only in training and only with seeds."""
        hidden_BFhw = self.decoder([stages[-1]])
        if self.training and seed_B is not None and self.dropout > 0:
            hidden_BFhw = channel_dropout(hidden_BFhw, self.dropout, seed_B, PSP_PURPOSE)
        return self.classifier(hidden_BFhw)


class AuxiliaryHead(nn.Module):
    """PSPNet's auxiliary classifier on the last stage but one: conv3x3, batch norm, ReLU, dropout, conv1x1."""

    def __init__(self, channels: int, num_classes: int, *, hidden: int = 256, dropout: float = 0.1) -> None:
        super().__init__()
        self.dropout = dropout
        self.body = nn.Sequential(
            nn.Conv2d(channels, hidden, 3, padding=1, bias=False), GlobalBatchNorm2d(hidden), nn.ReLU(inplace=True)
        )
        self.classifier = nn.Conv2d(hidden, num_classes, 1)

    def forward(self, stages: Sequence[Tensor], seed_B: Tensor | None = None) -> Tensor:
        """Logits (B, K, h, w) on the grid of the last stage but one."""
        hidden_BFhw = self.body(stages[-2])
        if self.training and seed_B is not None and self.dropout > 0:
            hidden_BFhw = channel_dropout(hidden_BFhw, self.dropout, seed_B, AUX_PURPOSE)
        return self.classifier(hidden_BFhw)


def _with_global_norms(module: nn.Module) -> nn.Module:
    """The same module with every fresh batch norm replaced by one over all processes."""
    for name, child in module.named_children():
        if type(child) is nn.BatchNorm2d:
            setattr(module, name, GlobalBatchNorm2d(child.num_features, eps=child.eps, momentum=child.momentum))
        else:
            _with_global_norms(child)
    return module
