"""A method on its backbone, as the `model` block of a recipe says."""

from __future__ import annotations

from typing import Any

from pydantic import Field
from torch import nn

from tagseg.backbones import create_backbone
from tagseg.decoders.segformer import GlobalBatchNorm2d
from tagseg.distributed import world_size
from tagseg.errors import UserError
from tagseg.methods import find_method
from tagseg.methods.method import Method, MethodSettings
from tagseg.settings import Settings


class ModelSettings(Settings):
    """The backbone and the weights it starts from."""

    backbone: str = Field("efficientnet_lite0", max_length=200)
    output_stride: int | None = Field(16, ge=1, le=64)
    weights: str = Field("embedded", description="embedded, none, hub (hub@COMMIT: as it was then), or a file")
    frozen_norm: bool = True
    frozen: tuple[str, ...] = Field(
        (), max_length=100, description="parts of the backbone that are not trained, by the start of their names"
    )
    start: str | None = Field(
        None,
        description="what the whole model starts from: a recipe's name (trained first, with this recipe's data), "
        "a run folder, or a file of weights",
    )
    start_train: dict[str, Any] = Field(
        {}, description="train settings that differ from those of the recipe in `start`, such as {steps: 300}"
    )


def build_method(
    settings: MethodSettings, model: ModelSettings, classes: tuple[str, ...], weights: str | None = None
) -> Method:
    """A method on its backbone, with the backbone's weights as the recipe says, or as `weights` says."""
    backbone = create_backbone(
        model.backbone,
        output_stride=model.output_stride,
        weights=weights or model.weights,
        frozen_norm=model.frozen_norm,
    )
    for prefix in model.frozen:
        part = [parameter for name, parameter in backbone.named_parameters() if name.startswith(prefix)]
        if not part:
            raise UserError(f"model.frozen: no part of the backbone {model.backbone} starts with {prefix!r}.")
        for parameter in part:
            parameter.requires_grad_(False)
    if not model.frozen_norm and world_size() > 1:
        share_statistics(backbone)
    build: Any = find_method(settings.name)  # every method takes its own kind of settings
    return build(backbone, classes, settings)


def check_weights(settings: MethodSettings, model: ModelSettings) -> None:
    """Raise UserError where the weights of a backbone cannot be had; a model that starts from another needs none."""
    if model.start is None:
        build_method(settings, model, ("any",))


def share_statistics(network: nn.Module) -> None:
    """Let batch norms that are trained take their statistics over all processes.

    timm's norms with an activation inside keep those of their process.
    """
    for module in network.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = GlobalBatchNorm2d
