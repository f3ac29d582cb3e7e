"""Decoders of segmentation_models_pytorch on the stages of any backbone.

Shapes: B photos, F channels of a stage, K classes with background, H W pixels, h w a grid.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tagseg.backbones.backbone import Backbone
from tagseg.errors import UserError
from tagseg.seeded import channel_dropout
from tagseg.segmenters.segformer_head import GlobalBatchNorm2d

PREFIX = "smp:"
MULTIPLE = 32  # photos' sides have to be multiples of it
PAN_MULTIPLE = 128  # PAN halves a grid of stride 16 three times more
ENCODER = "tagseg-stages"  # our entry in the library's table of encoders, while a decoder is built
PSP_PURPOSE, AUX_PURPOSE = 9, 10  # of the dropouts, among what is drawn from a photo's seed


def smp_decoders() -> tuple[str, ...]:
    """The decoders by the library's names; its DPT is left out, it wants the tokens of a plain transformer."""
    import segmentation_models_pytorch as smp

    return tuple(model.__name__ for model in smp.MODEL_ARCHITECTURES_MAPPING.values() if model is not smp.DPT)


class SmpDecoder(nn.Module):
    """Decoder and segmentation head of `segmentation_models_pytorch.<name>`, with the library's own defaults.

    The backbone has to have five stages of strides 2, 4 ... as a ResNet has, or four from 4 on as a Mix Transformer has.
    multiple: photos' sides have to be multiples of it.
    Raises UserError for an unknown name, and for a backbone or output stride that the decoder can't take.
    """

    def __init__(self, name: str, backbone: Backbone, num_classes: int) -> None:
        super().__init__()
        if name not in smp_decoders():
            raise UserError(
                f"There is no decoder {PREFIX}{name}: there are {', '.join(PREFIX + n for n in smp_decoders())}."
            )
        self.multiple = PAN_MULTIPLE if name == "PAN" else MULTIPLE
        self.first_stride = backbone.stage_strides[0]
        if (len(backbone.stage_channels), self.first_stride) not in ((5, 2), (4, 4)):
            raise UserError(
                f"{PREFIX}{name} needs stages of strides 2, 4, 8 ... and {backbone.name} has {backbone.stage_strides}: "
                "choose another backbone, or the segmenter pspnet, which reads the last stages alone."
            )
        # The library puts the photo before the stages, and a stage of no channels where a transformer has none of stride 2.
        missing = (0,) if self.first_stride == 4 else ()
        model = _build(name, (3, *missing, *backbone.stage_channels), backbone.output_stride, num_classes)
        self.decoder, self.classifier = _with_global_norms(model.decoder), model.segmentation_head
        self._check(name, backbone)

    def forward(self, stages: Sequence[Tensor], seed_B: Tensor | None = None) -> Tensor:
        """Logits (B, K, h, w), h w being the photo's size for most decoders. Dropout inside follows torch's generator."""
        batch, _, height, width = stages[0].shape
        photo = stages[0].new_empty(batch, 3, height * self.first_stride, width * self.first_stride)
        missing = [stages[0].new_empty(batch, 0, height * 2, width * 2)] if self.first_stride == 4 else []
        return self.classifier(self.decoder([photo, *missing, *stages]))

    def _check(self, name: str, backbone: Backbone) -> None:
        training = self.training
        stages = [
            torch.zeros(1, channels, self.multiple // stride, self.multiple // stride)
            for channels, stride in zip(backbone.stage_channels, backbone.stage_strides, strict=True)
        ]
        try:
            with torch.no_grad():
                self.eval()(stages)
        except RuntimeError as error:
            raise UserError(
                f"{PREFIX}{name} can't read {backbone.name} at output stride {backbone.output_stride}: set model.output_stride "
                "to another one, such as 16, or null for the backbone's own."
            ) from error
        self.train(training)


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


class _Stages(nn.Module):
    """What the library asks of an encoder while it builds a decoder for it."""

    def __init__(self, out_channels: Sequence[int], depth: int, output_stride: int) -> None:
        super().__init__()
        self.out_channels, self.output_stride = list(out_channels), output_stride

    def set_in_channels(self, in_channels: int, pretrained: bool = True) -> None:
        """The stages are there already."""

    def make_dilated(self, output_stride: int) -> None:
        """The backbone is dilated already."""


def _build(name: str, channels: Sequence[int], output_stride: int, num_classes: int) -> Any:
    import segmentation_models_pytorch as smp

    model = getattr(smp, name)
    options: dict[str, Any] = {}
    if "encoder_output_stride" in inspect.signature(model.__init__).parameters:
        options["encoder_output_stride"] = output_stride
    table = smp.encoders.encoders
    table[ENCODER] = {"encoder": _Stages, "params": {"out_channels": tuple(channels)}, "pretrained_settings": {}}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return model(ENCODER, encoder_weights=None, encoder_depth=5, classes=num_classes, **options)
    except ValueError as error:
        reason = str(error).rstrip(".")
        raise UserError(
            f"{PREFIX}{name} can't read output stride {output_stride}: {reason}: set model.output_stride."
        ) from error
    finally:
        del table[ENCODER]


def _with_global_norms(module: nn.Module) -> nn.Module:
    """The same module with every fresh batch norm replaced by one over all processes."""
    for name, child in module.named_children():
        if type(child) is nn.BatchNorm2d:
            setattr(module, name, GlobalBatchNorm2d(child.num_features, eps=child.eps, momentum=child.momentum))
        else:
            _with_global_norms(child)
    return module
