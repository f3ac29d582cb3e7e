"""The contract of a feature extractor.

Shapes: B photos, H W pixels, h w feature grid.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

import torch
from torch import Tensor, nn

NORM_LAYERS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm)


class Backbone(nn.Module, ABC):
    """Photos to features. Takes float RGB in [0, 1] and normalizes by itself.

    name: as given to `create_backbone`.
    mean, std: of RGB in [0, 1].
    channels: of the final feature map.
    stage_channels, stage_strides: of `stages`, finest first.
    output_stride: pixels per cell of the final feature map.
    licence: of the weights, "" when there are none.
    """

    name: str
    channels: int
    stage_channels: tuple[int, ...]
    stage_strides: tuple[int, ...]
    output_stride: int
    license: str

    def __init__(self, mean: tuple[float, float, float], std: tuple[float, float, float]) -> None:
        super().__init__()
        self.mean, self.std = mean, std
        self.norm_is_frozen = False
        self.register_buffer("_mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("_std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def normalize(self, image_B3HW: Tensor) -> Tensor:
        """Subtract the mean and divide by the standard deviation the weights were trained with."""
        mean, std = self.get_buffer("_mean"), self.get_buffer("_std")
        return (image_B3HW - mean) / std

    def forward(self, image_B3HW: Tensor) -> Tensor:
        """The final feature map (B, channels, h, w)."""
        return self.stages(image_B3HW)[-1]

    @abstractmethod
    def stages(self, image_B3HW: Tensor) -> tuple[Tensor, ...]:
        """Feature maps of all stages, finest first; the last one is the final feature map."""

    def norm_parameters(self) -> Iterator[nn.Parameter]:
        """The affine parameters of all normalization layers."""
        for module in self.modules():
            if isinstance(module, NORM_LAYERS):
                yield from module.parameters(recurse=False)

    def freeze_norm(self, frozen: bool = True) -> None:
        """Keep the normalization layers as they are while training (statistics, affine parameters), or let them go."""
        self.norm_is_frozen = frozen
        for parameter in self.norm_parameters():
            parameter.requires_grad_(not frozen)
        self.train(self.training)

    def train(self, mode: bool = True) -> Backbone:
        """Switch to training; frozen normalization layers stay in evaluation mode."""
        super().train(mode)
        if mode and self.norm_is_frozen:
            for module in self.modules():
                if isinstance(module, NORM_LAYERS):
                    module.eval()
        return self
