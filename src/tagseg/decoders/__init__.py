"""Decoders: a backbone's stages to class logits. `decoder(stages, seed_B)` gives (B, K, h, w) on a grid of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from tagseg.backbones.backbone import Backbone
from tagseg.decoders.conv import ConvDecoder
from tagseg.decoders.deeplab_resnet38 import DeepLabHead
from tagseg.decoders.deeplab_v2 import DeepLabV2Head
from tagseg.decoders.pspnet import AuxiliaryHead, PSPNetHead
from tagseg.decoders.segformer import SegFormerHead
from tagseg.errors import UserError
from tagseg.names import did_you_mean


@dataclass(frozen=True)
class DecoderOptions:
    """Channels inside a decoder, its dilation and its dropout (None: as published); decoders without such a part pass over it."""

    hidden: int = 512
    dilation: int = 12
    dropout: float | None = None


def _conv(backbone: Backbone, num_classes: int, options: DecoderOptions) -> nn.Module:
    return ConvDecoder(backbone.channels, num_classes, hidden=options.hidden, dilation=options.dilation)


def _deeplab_v2(backbone: Backbone, num_classes: int, options: DecoderOptions) -> nn.Module:
    return DeepLabV2Head(backbone.channels, num_classes)


def _deeplab_resnet38(backbone: Backbone, num_classes: int, options: DecoderOptions) -> nn.Module:
    dropout = 0.5 if options.dropout is None else options.dropout
    return DeepLabHead(
        backbone.channels, num_classes, hidden=options.hidden, dilation=options.dilation, dropout=dropout
    )


def _pspnet(backbone: Backbone, num_classes: int, options: DecoderOptions) -> nn.Module:
    dropout = 0.1 if options.dropout is None else options.dropout
    return PSPNetHead(backbone.channels, num_classes, hidden=options.hidden, dropout=dropout)


def _segformer(backbone: Backbone, num_classes: int, options: DecoderOptions) -> nn.Module:
    dropout = 0.1 if options.dropout is None else options.dropout
    return SegFormerHead(
        backbone.stage_channels, backbone.stage_strides, num_classes, hidden=options.hidden, dropout=dropout
    )


DECODERS: dict[str, Callable[[Backbone, int, DecoderOptions], nn.Module]] = {
    "conv": _conv,
    "deeplab_v2": _deeplab_v2,
    "deeplab_resnet38": _deeplab_resnet38,
    "pspnet": _pspnet,
    "segformer": _segformer,
}


def create_decoder(name: str, backbone: Backbone, num_classes: int, options: DecoderOptions | None = None) -> nn.Module:
    """A decoder by name, one of DECODERS, on a backbone's stages.

    Raises UserError for an unknown name.
    """
    if name not in DECODERS:
        raise UserError(f"There is no decoder {name!r}: {did_you_mean(name, DECODERS)}")
    return DECODERS[name](backbone, num_classes, options or DecoderOptions())


__all__ = [
    "DECODERS",
    "AuxiliaryHead",
    "ConvDecoder",
    "DecoderOptions",
    "DeepLabHead",
    "DeepLabV2Head",
    "PSPNetHead",
    "SegFormerHead",
    "create_decoder",
]
