"""Wide ResNet-38, the backbone of RRM and ASDT (Wu, Shen, van den Hengel 2016, in the dilated form of PSA and RRM).

Shapes: B photos, H W pixels, h = ceil(H / 8), w = ceil(W / 8).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tagseg.backbones.backbone import Backbone
from tagseg.backbones.mxnet_file import read_mxnet_params
from tagseg.backbones.weights import load_tensors, read_weights
from tagseg.errors import UserError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# stage: (blocks, input channels, middle channels, output channels, stride, dilation of the first 3x3, other dilations)
BASIC_STAGES = {
    "b2": (3, 64, 128, 128, 2, 1, 1),
    "b3": (3, 128, 256, 256, 2, 1, 1),
    "b4": (6, 256, 512, 512, 2, 1, 1),
    "b5": (3, 512, 512, 1024, 1, 1, 2),
}


def _conv(inputs: int, outputs: int, size: int, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, stride, dilation * (size // 2), dilation, bias=False)


PSA_CLASSIFIER = "fc8.weight"  # of the file res38_cls.pth: VOC's twenty classes


class BasicBlock(nn.Module):
    """Two 3x3 convolutions, each after normalization and ReLU; a new shape's shortcut starts after the first ReLU."""

    def __init__(
        self, inputs: int, middle: int, outputs: int, stride: int = 1, first_dilation: int = 1, dilation: int = 1
    ) -> None:
        super().__init__()
        self.bn_branch2a = nn.BatchNorm2d(inputs)
        self.conv_branch2a = _conv(inputs, middle, 3, stride, first_dilation)
        self.bn_branch2b1 = nn.BatchNorm2d(middle)
        self.conv_branch2b1 = _conv(middle, outputs, 3, 1, dilation)
        self.conv_branch1 = None if inputs == outputs and stride == 1 else _conv(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Add the branch to the shortcut."""
        activated = F.relu(self.bn_branch2a(x))
        shortcut = x if self.conv_branch1 is None else self.conv_branch1(activated)
        branch = F.relu(self.bn_branch2b1(self.conv_branch2a(activated)))
        return shortcut + self.conv_branch2b1(branch)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions with dropout of whole channels; the shortcut is always a convolution."""

    def __init__(self, inputs: int, outputs: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.bn_branch2a = nn.BatchNorm2d(inputs)
        self.conv_branch1 = _conv(inputs, outputs, 1)
        self.conv_branch2a = _conv(inputs, outputs // 4, 1)
        self.bn_branch2b1 = nn.BatchNorm2d(outputs // 4)
        self.conv_branch2b1 = _conv(outputs // 4, outputs // 2, 3, 1, dilation)
        self.bn_branch2b2 = nn.BatchNorm2d(outputs // 2)
        self.conv_branch2b2 = _conv(outputs // 2, outputs, 1)
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Add the branch to the shortcut."""
        activated = F.relu(self.bn_branch2a(x))
        branch = F.relu(self.bn_branch2b1(self.conv_branch2a(activated)))
        branch = F.relu(self.bn_branch2b2(self.conv_branch2b1(self.dropout(branch))))
        return self.conv_branch1(activated) + self.conv_branch2b2(self.dropout(branch))


class WideResNet38(Backbone):
    """Wide ResNet-38 with 4096 channels at output stride 8; the stages are those of b2, b3, b4, b5 and the feature."""

    def __init__(self, name: str = "wide_resnet38") -> None:
        super().__init__(IMAGENET_MEAN, IMAGENET_STD)
        self.name, self.license = name, ""
        self.channels, self.output_stride = 4096, 8
        self.stage_channels = (128, 256, 512, 1024, 4096)
        self.stage_strides = (2, 4, 8, 8, 8)
        self.conv1a = _conv(3, 64, 3)
        for stage, (blocks, inputs, middle, outputs, stride, first_dilation, dilation) in BASIC_STAGES.items():
            self.add_module(stage, BasicBlock(inputs, middle, outputs, stride, first_dilation, dilation))
            for block in range(1, blocks):
                later = BasicBlock(outputs, middle, outputs, 1, dilation, dilation)
                self.add_module(f"{stage}_{block}", later)
        self.b6 = Bottleneck(1024, 2048, dilation=4, dropout=0.3)
        self.b7 = Bottleneck(2048, 4096, dilation=4, dropout=0.5)
        self.bn7 = nn.BatchNorm2d(4096)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def stages(self, image_B3HW: Tensor) -> tuple[Tensor, ...]:
        """Outputs of b2 to b5 and the final feature (B, 4096, h, w)."""
        x = self.conv1a(self.normalize(image_B3HW).contiguous(memory_format=torch.channels_last))
        features = []
        for stage, (blocks, *_) in BASIC_STAGES.items():
            for block in range(blocks):
                x = self.get_submodule(f"{stage}_{block}" if block else stage)(x)
            features.append(x)
        return (*features, F.relu(self.bn7(self.b7(self.b6(x)))))


def build(name: str, output_stride: int | None, weights: str) -> WideResNet38:
    """Build wide ResNet-38 with random weights, or from a .pth of PSA's layout, a .safetensors or an MXNet .params."""
    if output_stride not in (None, 8):
        raise UserError(f"{name} has no output stride {output_stride}: it works at 8.")
    if weights in ("embedded", "hub"):
        raise UserError(
            f"{name} has no {weights} weights: give a path (a .pth of PSA's layout, a .safetensors, "
            "or the ImageNet release ilsvrc-cls_rna-a1_cls1000_ep-0001.params) or none."
        )
    backbone = WideResNet38(name)
    if weights != "none":
        path = Path(weights)
        tensors = mxnet_to_psa(read_mxnet_params(path)) if path.suffix == ".params" else read_weights(path)
        load_tensors(backbone, tensors, str(path), unused=(PSA_CLASSIFIER, "linear1000."))
        backbone.license = "unknown"
    return backbone


def mxnet_to_psa(arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the arrays of the ImageNet release to PSA's layout, which is ours.

    The release writes arg:res2a_branch2a_weight and aux:bn2a_branch2a_moving_mean, where the blocks of a stage are a,
    b1, b2, ... (or a, b, c); PSA's layout has b2.conv_branch2a.weight and b2.bn_branch2a.running_mean, then b2_1, ...
    """
    fields = {"weight": "weight", "gamma": "weight", "beta": "bias", "moving_mean": "running_mean",
              "moving_var": "running_var", "bias": "bias"}  # fmt: skip
    renamed: dict[str, Tensor] = {}
    for key, tensor in arrays.items():
        name = key.partition(":")[2] or key
        match = re.fullmatch(r"(.+?)_(weight|gamma|beta|moving_mean|moving_var|bias)", name)
        if match is None:
            continue
        layer, field = match[1], fields[match[2]]
        block = re.fullmatch(r"(res|bn)(\d)([a-z]\d*)?_branch(\w+)", layer)
        if block is not None:
            kind = "conv" if block[1] == "res" else "bn"
            renamed[f"{_block_name(block[2], block[3] or 'a')}.{kind}_branch{block[4]}.{field}"] = tensor
        else:
            renamed[f"{layer}.{field}"] = tensor
    return renamed


def _block_name(stage: str, block: str) -> str:
    letter, digits = block[0], block[1:]
    place = int(digits) if digits else ord(letter) - ord("a")
    return f"b{stage}_{place}" if place else f"b{stage}"
