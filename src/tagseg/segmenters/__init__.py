"""Heads that turn a backbone's stages into class logits: `head(stages, seed_B)` gives (B, K, h, w) on a grid of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from tagseg.backbones.backbone import Backbone
from tagseg.errors import UserError
from tagseg.segmenters.deeplab_head import DeepLabHead
from tagseg.segmenters.deeplab_v2 import DeepLabV2Head
from tagseg.segmenters.segformer_head import SegFormerHead
from tagseg.segmenters.smp_decoder import PREFIX, AuxiliaryHead, PSPNetHead, SmpDecoder


@dataclass(frozen=True)
class HeadOptions:
    """Channels inside a head, its dilation and its dropout (None: as published); heads without such a part pass over it."""

    hidden: int = 512
    dilation: int = 12
    dropout: float | None = None


def _deeplab_v2(backbone: Backbone, num_classes: int, options: HeadOptions) -> nn.Module:
    return DeepLabV2Head(backbone.channels, num_classes)


def _deeplab_resnet38(backbone: Backbone, num_classes: int, options: HeadOptions) -> nn.Module:
    dropout = 0.5 if options.dropout is None else options.dropout
    return DeepLabHead(
        backbone.channels, num_classes, hidden=options.hidden, dilation=options.dilation, dropout=dropout
    )


def _pspnet(backbone: Backbone, num_classes: int, options: HeadOptions) -> nn.Module:
    dropout = 0.1 if options.dropout is None else options.dropout
    return PSPNetHead(backbone.channels, num_classes, hidden=options.hidden, dropout=dropout)


def _segformer(backbone: Backbone, num_classes: int, options: HeadOptions) -> nn.Module:
    dropout = 0.1 if options.dropout is None else options.dropout
    return SegFormerHead(
        backbone.stage_channels, backbone.stage_strides, num_classes, hidden=options.hidden, dropout=dropout
    )


SEGMENTERS: dict[str, Callable[[Backbone, int, HeadOptions], nn.Module]] = {
    "deeplab_v2": _deeplab_v2,
    "deeplab_resnet38": _deeplab_resnet38,
    "pspnet": _pspnet,
    "segformer": _segformer,
}


def create_segmenter(name: str, backbone: Backbone, num_classes: int, options: HeadOptions | None = None) -> nn.Module:
    """A head by name: one of SEGMENTERS, or `smp:<Decoder>` of segmentation_models_pytorch.

    Raises UserError for an unknown name or a backbone that the head can't read.
    """
    if name.startswith(PREFIX):
        return SmpDecoder(name.removeprefix(PREFIX), backbone, num_classes)
    if name not in SEGMENTERS:
        raise UserError(f"There is no segmenter {name!r}: there are {', '.join(SEGMENTERS)} and {PREFIX}<Decoder>.")
    return SEGMENTERS[name](backbone, num_classes, options or HeadOptions())


__all__ = [
    "SEGMENTERS",
    "AuxiliaryHead",
    "DeepLabHead",
    "DeepLabV2Head",
    "HeadOptions",
    "PSPNetHead",
    "SegFormerHead",
    "SmpDecoder",
    "create_segmenter",
]
