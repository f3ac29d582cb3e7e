"""The heads that read a backbone's final feature map.

Shapes: B photos, F feature channels, h w feature grid, C classes, K = C + 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch.nn.functional as F
from torch import Tensor, nn

from tagseg.backbones.backbone import NORM_LAYERS
from tagseg.methods.method import ParameterGroup
from tagseg.seeded import channel_dropout
from tagseg.segmenters.winograd import WinogradConv2d


class ClassHead(nn.Module):
    """Dropout2d, global average pooling, 1x1 convolution without bias (ASDT section 3.1; RRM)."""

    def __init__(self, channels: int, num_tags: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.classifier = nn.Conv2d(channels, num_tags, 1, bias=False)
        nn.init.xavier_uniform_(self.classifier.weight)

    @property
    def weight_CF(self) -> Tensor:
        """The classifier's weights, which make the CAM."""
        return self.classifier.weight[:, :, 0, 0]

    def forward(self, feature_BFhw: Tensor, seed_B: Tensor | None = None) -> Tensor:
        """Logits (B, C); dropout only in training and only where seeds are given."""
        if self.training and seed_B is not None and self.dropout > 0:
            feature_BFhw = channel_dropout(feature_BFhw, self.dropout, seed_B)
        return self.classifier(feature_BFhw.mean((-2, -1), keepdim=True)).flatten(1)


class SegHead(nn.Sequential):
    """conv3x3 - ReLU - conv3x3, both dilated (RRM; ASDT section 3.1): features to K logits on the same grid."""

    def __init__(self, channels: int, hidden: int, num_classes: int, dilation: int) -> None:
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


def predicted_tags(logit_BC: Tensor) -> Tensor:
    """The classes (B, C) that the classifier gives at least one half, or else the likeliest: 0 or 1."""
    likeliest_BC = F.one_hot(logit_BC.argmax(1), logit_BC.shape[1]).bool()
    return ((logit_BC >= 0) | likeliest_BC).float()


def parameter_groups(pretrained: nn.Module, heads: nn.Module, head_scale: float = 10.0) -> list[ParameterGroup]:
    """Learning-rate factors 1 and 2 for pretrained weights and biases, `head_scale` and twice that for the heads'.

    Biases have no weight decay; frozen parameters are left out (RRM's groups x1 / x2 / x10 / x20).
    """
    groups: list[ParameterGroup] = []
    for name, module, scale in (("backbone", pretrained, 1.0), ("heads", heads, head_scale)):
        weights = [p for p in module.parameters() if p.requires_grad and p.ndim > 1]
        biases = [p for p in module.parameters() if p.requires_grad and p.ndim <= 1]
        if weights:
            groups.append({"name": name, "params": weights, "lr_scale": scale, "weight_decay_scale": 1.0})
        if biases:
            groups.append(
                {"name": f"{name} biases", "params": biases, "lr_scale": 2 * scale, "weight_decay_scale": 0.0}
            )
    return groups


def plain_groups(
    pretrained: nn.Module, heads: nn.Module, head_scale: float, *, norms_decay: bool
) -> list[ParameterGroup]:
    """Learning-rate factor 1 for what is pretrained and `head_scale` for the heads, biases and norms included.

    All of it decays, or all but the normalisation layers' own parameters.
    """
    groups: list[ParameterGroup] = []
    for name, module, scale in (("backbone", pretrained, 1.0), ("heads", heads, head_scale)):
        norms = {id(p) for m in module.modules() if isinstance(m, NORM_LAYERS) for p in m.parameters(recurse=False)}
        trained = [p for p in module.parameters() if p.requires_grad]
        parts = ((name, trained, 1.0),)
        if not norms_decay:
            kept = [p for p in trained if id(p) not in norms]
            parts = ((name, kept, 1.0), (f"{name} norms", [p for p in trained if id(p) in norms], 0.0))  # type: ignore[assignment]
        for part, params, decay in parts:
            if params:
                groups.append({"name": part, "params": params, "lr_scale": scale, "weight_decay_scale": decay})
    return groups


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Fixed batch statistics for a while: views without gradient leave no trace in them."""
    was = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(was)
