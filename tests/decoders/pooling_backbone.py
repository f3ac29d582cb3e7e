"""A backbone of nothing but pooling and 1x1 convolutions: stages of any strides, in no time."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tagseg.backbones.backbone import Backbone


class PoolingBackbone(Backbone):
    def __init__(
        self, channels: tuple[int, ...] = (4, 6, 8, 8, 8), strides: tuple[int, ...] = (2, 4, 8, 16, 32)
    ) -> None:
        super().__init__((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
        self.name, self.license = "pooling", ""
        self.stage_channels, self.stage_strides = channels, strides
        self.channels, self.output_stride = channels[-1], strides[-1]
        torch.manual_seed(3)
        self.convolutions = nn.ModuleList(nn.Conv2d(3, channel, 1) for channel in channels)

    def stages(self, image_B3HW: Tensor) -> tuple[Tensor, ...]:
        image = self.normalize(image_B3HW)
        return tuple(
            convolution(F.avg_pool2d(image, stride, ceil_mode=True)).relu()
            for convolution, stride in zip(self.convolutions, self.stage_strides, strict=True)
        )
