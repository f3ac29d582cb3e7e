"""The SegFormer decoder over the stages of any backbone.

Shapes: B photos, F channels of a stage, D hidden channels, K classes with background, h w the finest grid used.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tagseg.distributed import global_sum, world_size
from tagseg.resize import size_of
from tagseg.seeded import channel_dropout

PURPOSE = 7  # of the dropout, among what is drawn from a photo's seed


class GlobalBatchNorm2d(nn.BatchNorm2d):
    """Batch norm whose statistics are those of the batch over all processes, on CPUs too."""

    def forward(self, feature_BFhw: Tensor) -> Tensor:
        """The same as `BatchNorm2d` of the whole batch gives for this process's part of it."""
        if not (self.training and world_size() > 1):
            return super().forward(feature_BFhw)
        from torch.distributed.nn.functional import all_reduce

        value = feature_BFhw.float()
        count = global_sum(value.new_tensor(float(value.numel() / value.shape[1])))
        mean_F = all_reduce(value.sum((0, 2, 3))) / count
        centered = value - mean_F[:, None, None]
        variance_F = all_reduce((centered**2).sum((0, 2, 3))) / count
        if self.track_running_stats:
            self._follow(mean_F, variance_F * count / (count - 1))
        scale_F = self.weight / (variance_F + self.eps).sqrt()
        return (centered * scale_F[:, None, None] + self.bias[:, None, None]).to(feature_BFhw.dtype)

    @torch.no_grad()
    def _follow(self, mean_F: Tensor, variance_F: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.running_mean.lerp_(mean_F, self.momentum)
        self.running_var.lerp_(variance_F, self.momentum)
        self.num_batches_tracked.add_(1)


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
        self.strides = tuple(strides[i] for i in self.used)
        self.projections = nn.ModuleList(nn.Conv2d(channels[i], hidden, 1) for i in self.used)
        self.fuse = nn.Conv2d(hidden * len(self.used), hidden, 1, bias=False)
        self.norm = GlobalBatchNorm2d(hidden)
        self.classifier = nn.Conv2d(hidden, num_classes, 1)

    def forward(self, stages: Sequence[Tensor], seed_B: Tensor | None = None) -> Tensor:
        """Logits (B, K, h, w) on the grid of the finest stage used; dropout only in training and only with seeds."""
        fused_BDhw = self.norm(self._fused([stages[i] for i in self.used])).relu_()
        if self.training and seed_B is not None and self.dropout > 0:
            fused_BDhw = channel_dropout(fused_BDhw, self.dropout, seed_B, PURPOSE)
        return self.classifier(fused_BDhw)

    def _fused(self, stages: Sequence[Tensor]) -> Tensor:
        """The fusion of the resized and joined projections, before its norm.

        A 1x1 convolution and a resizing may change places, so each stage is projected and fused in one on its own grid,
        stages of one grid are added there, and the joined map is never made: the same sum, in another order.
        """
        parts = reversed(self.fuse.weight.flatten(1).chunk(len(self.projections), 1))
        bias_D11 = self.fuse.weight.new_zeros(len(self.fuse.weight), 1, 1)
        by_stride: dict[int, Tensor] = {}  # not by size, which a graph does not know
        for stage_BFhw, stride, project, part_DD in zip(stages, self.strides, self.projections, parts, strict=True):
            assert isinstance(project, nn.Conv2d)
            assert project.bias is not None
            with torch.autocast(stage_BFhw.device.type, enabled=False):
                weight_DF = part_DD @ project.weight.flatten(1)
                bias_D11 = bias_D11 + (part_DD @ project.bias)[:, None, None]
            map_BDhw = F.conv2d(stage_BFhw, weight_DF[:, :, None, None])
            by_stride[stride] = by_stride[stride] + map_BDhw if stride in by_stride else map_BDhw
        finest_BDhw, *coarser = by_stride.values()
        total_BDhw = bias_D11 + finest_BDhw
        for map_BDhw in coarser:  # in place: the largest maps of the network, and new memory costs more than the sum
            total_BDhw += F.interpolate(map_BDhw, size_of(total_BDhw), mode="bilinear", align_corners=False)
        return total_BDhw
