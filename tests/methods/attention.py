"""A tiny backbone with attention maps, for the parts of TSCD and BMP that need them."""

import torch
from torch import Tensor, nn

from tagseg.backbones.backbone import Backbone
from tagseg.methods import Method
from tests.methods.small import CLASSES


class TinyAttention(Backbone):
    """Two convolutional stages and attention logits of the second: 2 heads."""

    def __init__(self) -> None:
        super().__init__((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
        self.name, self.license = "tiny_attention", ""
        self.stage_channels, self.stage_strides = (6, 8), (4, 16)
        self.channels, self.output_stride = 8, 16
        self.attention_maps = 2
        self.first = nn.Conv2d(3, 6, 4, stride=4, padding=2)
        self.second = nn.Conv2d(6, 8, 4, stride=4, padding=2)
        self.query, self.key = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)

    def stages(self, image_B3HW: Tensor) -> tuple[Tensor, ...]:
        return self.stages_with_attention(image_B3HW)[0]

    def stages_with_attention(self, image_B3HW: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        first = self.first(self.normalize(image_B3HW)).relu()
        second = self.second(first)
        query, key = (layer(second).flatten(2).unflatten(1, (2, 4)) for layer in (self.query, self.key))
        return (first, second.relu()), query.transpose(2, 3) @ key


def build_tiny(kind: type[Method], **settings: object) -> Method:
    torch.manual_seed(0)
    return kind(TinyAttention(), CLASSES, kind.Settings.model_validate(settings))
