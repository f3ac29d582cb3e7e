"""The heads that read a backbone's final feature map or its attention, and the groups of parameters.

Shapes: B photos, F feature channels, M attention maps, h w feature grid, N = h w its cells, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch.nn.functional as F
from torch import Tensor, nn

from tagseg.backbones.backbone import NORM_LAYERS
from tagseg.methods.method import ParameterGroup
from tagseg.seeded import channel_dropout


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


class AffinityHead(nn.Module):
    """Attention logits to affinities in (0, 1) by a 1x1 convolution and a sigmoid (AFA, TSCD).

    maps: attention maps, one for each head of each block that is read.
    symmetric: add each map's transpose before the convolution, as AFA and BMP do; TSCD does not.
    """

    def __init__(self, maps: int, *, symmetric: bool) -> None:
        super().__init__()
        self.symmetric = symmetric
        self.projection = nn.Conv2d(maps, 1, 1)
        nn.init.kaiming_normal_(self.projection.weight, a=5**0.5, mode="fan_out")

    def forward(self, attention_BMNN: Tensor) -> Tensor:
        """Affinities (B, N, N) from attention logits before scaling and softmax."""
        # One map of N x N instead of M: the convolution is linear, so it may come before the transpose is added.
        logit_BNN = self.projection(attention_BMNN)[:, 0]
        if self.symmetric:
            assert self.projection.bias is not None
            logit_BNN = logit_BNN + logit_BNN.transpose(1, 2) - self.projection.bias
        return logit_BNN.sigmoid()


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

    All of it decays, or all but the normalization layers' own parameters.
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


@contextmanager
def without_trace(*networks: nn.Module) -> Iterator[None]:
    """Let batch norms that are trained leave the running statistics, which prediction uses, as they are for a while."""
    norms = [
        module
        for network in networks
        for module in network.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training and module.track_running_stats
    ]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
